"""Find out where pandas left out rows or columns, and say how to show them."""

import re

_SIZE_IN_HTML = re.compile(r"</table>\s*<p>(\d+) rows? \u00d7 (\d+) columns?</p>")
_SIZE_IN_TEXT = re.compile(r"^\[\d+ rows x \d+ columns\]\s*$|^.*\bLength: \d+(?:, dtype|$)", re.MULTILINE)
_ROWS_IN_TEXT = re.compile(r"\.{2,3}(?:\s+\.{2,3})*")
_COLUMNS_IN_TEXT = re.compile(r"\s\.\.\.(?:\s|$)")
_HEAD = re.compile(r"<thead.*?</thead>", re.DOTALL)
_DOTS = re.compile(r"<th\b[^<>]*>\s*\.\.\.\s*</th>")


def with_note_in_html(html: str) -> str:
    """Return `html` with a note below each DataFrame that lacks rows or columns."""
    return _SIZE_IN_HTML.sub(lambda found: found[0] + _paragraph(_note_of(found)), html)


def with_note_in_text(text: str) -> str:
    """Return `text`, which a program printed, with a note at its end if a DataFrame or Series in it lacks something."""
    if not _SIZE_IN_TEXT.search(text):
        return text
    lines = [line.strip() for line in text.split("\n")]
    without_rows = [line for line in lines if not _ROWS_IN_TEXT.fullmatch(line)]
    has_columns = not any(map(_COLUMNS_IN_TEXT.search, without_rows))
    note = _note(rows=len(without_rows) < len(lines), columns=not has_columns)
    return f"{text.rstrip()}\n[{note}]\n" if note else text


def _note_of(size: re.Match[str]) -> str:
    start = size.string.rfind("<table", 0, size.start())
    table = size.string[max(start, 0) : size.start()]
    head = _HEAD.search(table)
    body = table[head.end() :] if head else table
    columns = bool(head and _DOTS.search(head[0]))
    return _note(rows=body.count("<tr") < int(size[1]) or bool(_DOTS.search(body)), columns=columns)


def _note(*, rows: bool, columns: bool) -> str:
    options = [name for name, is_short in (("rows", rows), ("columns", columns)) if is_short]
    ways = " and ".join(f'pd.set_option("display.max_{name}", None)' for name in options)
    return f"pandas left out {' and '.join(options)}; to show all: {ways}" if options else ""


def _paragraph(note: str) -> str:
    return f'<p><span class="clipped">{note}</span></p>' if note else ""

"""Clean HTML outputs for pandoc: well-formed, of limited length, and without active content."""

import re
from collections.abc import Callable
from html import escape
from html.parser import HTMLParser

from autoflow.reports.limits import MOST_ELEMENTS, MOST_NESTED
from autoflow.reports.spans import Spans
from autoflow.reports.tables import MOST_ROWS

MOST_CHARACTERS = 2_000_000

_ROWS_KEPT = MOST_ROWS + 20
"""More than are shown, because they include rows of the head."""

_LEFT_OUT = frozenset(
    [
        "applet",
        "audio",
        "button",
        "canvas",
        "datalist",
        "embed",
        "frame",
        "frameset",
        "head",
        "iframe",
        "input",
        "link",
        "math",
        "meta",
        "noembed",
        "noframes",
        "noscript",
        "object",
        "option",
        "param",
        "script",
        "select",
        "source",
        "style",
        "svg",
        "template",
        "textarea",
        "title",
        "track",
        "video",
    ]
)
_VOID = frozenset(
    ["br", "col", "embed", "frame", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"]
)
_KEPT_ATTRIBUTES = frozenset({"align", "alt", "class", "colspan", "href", "rowspan", "src", "start", "style", "title"})
_ENDED_BY: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    # start tag: the open elements it closes, and the elements it stays within
    "li": (frozenset({"li", "p"}), frozenset({"ul", "ol"})),
    "td": (frozenset({"td", "th", "p"}), frozenset({"tr", "table"})),
    "th": (frozenset({"td", "th", "p"}), frozenset({"tr", "table"})),
    "tr": (frozenset({"td", "th", "tr", "p"}), frozenset({"thead", "tbody", "tfoot", "table"})),
    "tbody": (frozenset({"td", "th", "tr", "thead", "tbody", "p"}), frozenset({"table"})),
    "p": (frozenset({"p"}), frozenset({"div", "td", "th", "li", "table"})),
}
_CELLS, _SECTIONS = frozenset({"td", "th"}), frozenset({"thead", "tbody", "tfoot"})
_UNTRUSTED_MAP = "Make this Notebook Trusted to load map"
_DECLARATION = re.compile(r"<!--|<[!?]")
_ROW_START = re.compile(r"<tr[\s>]", re.IGNORECASE)
_ROW_END = re.compile(r"</tr\s*>", re.IGNORECASE)


def clean_html(html: str, attach: Callable[[str, bytes], str]) -> str:
    """Return the printable part of `html`; empty if there is none.

    Tables are cut after about `MOST_ROWS` rows; the attribute ``data-rows`` has the original number. A drawing in the
    text is passed to `attach`, which returns an address for it. Colours that a style sheet gives to single elements,
    as pandas' Styler does, become attributes of them.
    """
    if _UNTRUSTED_MAP in html:
        return ""
    short, rows_cut = _without_far_rows(_without_comments(html))
    start, rest = _divided(short)
    cleaner = _Cleaner(attach, rows_cut + len(_ROW_START.findall(rest)))
    cleaner.feed(start)
    cleaner.close()
    if len(short) > MOST_CHARACTERS:
        cleaner.add_note(f"The first {MOST_CHARACTERS:,} of {len(short):,} characters are shown.")
    return cleaner.cleaned()


def _without_far_rows(html: str) -> tuple[str, int]:
    """Return `html`, if it is huge, without the middle of its rows, and the number of rows removed."""
    if len(html) <= MOST_CHARACTERS // 4 or html.lower().count("<table") != 1:
        return html, 0
    ends = [found.end() for found in _ROW_END.finditer(html)]
    if len(ends) <= _ROWS_KEPT:
        return html, 0
    return html[: ends[_ROWS_KEPT]] + html[ends[-1] :], len(ends) - _ROWS_KEPT - 1


def _without_comments(html: str) -> str:
    """Return `html` without comments and declarations, and with no start of a tag that does not end.

    Python's parser would read all the rest of the text again for each that does not end.
    """
    parts: list[str] = []
    place = 0
    while (found := _DECLARATION.search(html, place)) is not None:
        parts.append(html[place : found.start()])
        end = "-->" if found[0] == "<!--" else ">"
        place = html.find(end, found.end()) + len(end)
        if place < found.end():  # it does not end, so it is the rest
            return "".join(parts)
    rest = html[place:]
    tail = rest.rfind(">") + 1
    return "".join([*parts, rest[:tail], rest[tail:].replace("<", "&lt;")])


def _divided(html: str) -> tuple[str, str]:
    """Return the beginning of `html` that is shown, which does not end within a tag, and the rest."""
    start = html[:MOST_CHARACTERS]
    if len(html) > MOST_CHARACTERS and start.rfind("<") > start.rfind(">"):
        start = start[: start.rfind("<")]
    return start, html[len(start) :]


class _Cleaner(HTMLParser):
    """Writes cleaned HTML while it reads."""

    def __init__(self, attach: Callable[[str, bytes], str], rows_cut: int) -> None:
        super().__init__(convert_charrefs=True)
        self._attach = attach
        self._parts: list[str] = []
        self._open: list[str] = []
        self._left_out: list[str] = []
        self._styles: dict[str, str] = {}
        self._sheet: list[str] = []
        self._rows: list[int] = []
        self._table_starts: list[int] = []
        self._spans: list[Spans] = []
        self._cells: dict[int, tuple[str, dict[str, str]]] = {}
        self._rows_cut = rows_cut
        self._svg_start = 0
        self._line_starts: list[int] = []
        self._elements = 0
        self._has_content = False
        self._notes: list[str] = []

    def cleaned(self) -> str:
        """Return the HTML written; empty if it has no visible content."""
        if self._is_full:
            self.add_note(f"The first {MOST_ELEMENTS:,} elements are shown.")
        while self._open:
            self._end(self._open[-1])
        return "".join([*self._parts, *self._notes]) if self._has_content else ""

    def add_note(self, note: str) -> None:
        """Write a line about omitted content, at the end."""
        self._notes.append(f'<p><span class="clipped">{escape(note)}</span></p>')

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Write a start tag, after closing the elements that it implicitly closes."""
        given = {name: value or "" for name, value in attrs}
        if self._is_full or (len(self._open) >= MOST_NESTED and tag not in _VOID):
            return
        if self._left_out or tag in _LEFT_OUT or "display:none" in given.get("style", "").replace(" ", ""):
            self._leave_out(tag)
            return
        self._end_before(tag)
        if tag == "table":
            self._rows.append(0)
            self._table_starts.append(len(self._parts))
            self._spans.append(Spans())
        elif tag == "tr" and self._rows:
            self._rows[-1] += 1
        if self._is_beyond():
            return
        if self._spans:
            if tag in _CELLS and self._spans[-1].is_beyond():
                self._leave_out(tag)
                return
            self._place(tag, given)
        self._has_content = self._has_content or tag == "img"
        self._elements += 1
        self._parts.append(f"<{tag}{self._attributes(given)}>")
        if tag not in _VOID:
            self._open.append(tag)

    def _place(self, tag: str, given: dict[str, str]) -> None:
        """Note the place of a table's cell whose start tag is written next."""
        if tag in _SECTIONS:
            self._spans[-1].begin_section()
        elif tag == "tr":
            self._spans[-1].begin_row()
        elif tag in _CELLS:
            self._spans[-1].add(len(self._parts), given)
            self._cells[len(self._parts)] = (tag, given)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Treat a self-closing tag as HTML does: only void elements close themselves."""
        self.handle_starttag(tag, attrs)
        if tag in _LEFT_OUT and tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Write an end tag, if its element is open."""
        if self._left_out:
            self._go_on_after(tag)
        elif tag in self._open:
            while self._open[-1] != tag:
                self._end(self._open[-1])
            self._end(tag)

    def handle_data(self, data: str) -> None:
        """Write text; collect a style sheet."""
        if self._left_out:
            if self._left_out[-1] == "style":
                self._sheet.append(data)
        elif not self._is_beyond() and not self._is_full:
            self._has_content = self._has_content or bool(data.strip())
            self._parts.append(escape(data, quote=False))

    @property
    def _is_full(self) -> bool:
        return self._elements >= MOST_ELEMENTS

    def _is_beyond(self) -> bool:
        return bool(self._rows) and self._rows[-1] > _ROWS_KEPT

    def _leave_out(self, tag: str) -> None:
        if tag == "svg" and not self._left_out:
            self._svg_start = self._offset()
        if tag not in _VOID:
            self._left_out.append(tag)

    def _go_on_after(self, tag: str) -> None:
        if tag not in self._left_out:
            if tag in self._open:  # the omitted element has no end tag
                self._left_out = []
                self.handle_endtag(tag)
            return
        while self._left_out.pop() != tag:
            pass
        if tag == "style":
            self._read_sheet("".join(self._sheet))
            self._sheet = []
        if tag == "svg" and not self._left_out and not self._is_beyond():
            drawing = self.rawdata[self._svg_start : self._offset()] + "</svg>"
            self._parts.append(f'<img src="{escape(self._attach("drawing.svg", drawing.encode()))}">')
            self._has_content = True

    def _offset(self) -> int:
        """Return the offset in the text of the tag being read."""
        line, column = self.getpos()
        if not self._line_starts:
            self._line_starts = [0, *(found.end() for found in re.finditer("\n", self.rawdata))]
        return self._line_starts[line - 1] + column

    def _read_sheet(self, sheet: str) -> None:
        for rule in sheet.split("}")[:-1]:
            selectors, _, declarations = rule.rpartition("{")
            for selector in selectors.split(","):
                if found := re.fullmatch(r"#([\w-]+)", selector.strip()):
                    self._styles[found[1]] = f"{self._styles.get(found[1], '')};{declarations.strip()}"

    def _attributes(self, given: dict[str, str]) -> str:
        style = ";".join(filter(None, (self._styles.get(given.get("id", "")), given.get("style"))))
        kept = {name: value for name, value in given.items() if name in _KEPT_ATTRIBUTES} | (
            {"style": style} if style else {}
        )
        return "".join(f' {name}="{escape(value)}"' for name, value in kept.items())

    def _end_before(self, tag: str) -> None:
        ended, within = _ENDED_BY.get(tag, (frozenset(), frozenset()))
        while self._open and self._open[-1] in ended - within:
            self._end(self._open[-1])

    def _end(self, tag: str) -> None:
        self._open.pop()
        self._parts.append(f"</{tag}>")
        if tag == "tr" and self._spans:
            self._spans[-1].end_row(len(self._parts) - 1)
        elif tag == "table" and self._rows:
            self._end_table(self._spans.pop(), self._table_starts.pop())

    def _end_table(self, spans: Spans, start: int) -> None:
        self._correct(spans)
        counts = {"data-rows": self._rows.pop() + self._rows_cut, "data-columns": spans.count}
        self._rows_cut = 0
        if counts["data-rows"] <= _ROWS_KEPT:
            del counts["data-rows"]
        if not spans.count:
            del counts["data-columns"]
        noted = "".join(f' {name}="{count}"' for name, count in counts.items())
        self._parts[start] = self._parts[start].replace("<table", f"<table{noted}", 1)

    def _correct(self, spans: Spans) -> None:
        """Write the spans of a table's cells as a browser reads them."""
        for number, columns, rows in spans.corrected():
            tag, given = self._cells.pop(number)
            covered = {name: str(count) for name, count in (("colspan", columns), ("rowspan", rows)) if count > 1}
            others = {name: value for name, value in given.items() if name not in {"colspan", "rowspan"}}
            self._parts[number] = f"<{tag}{self._attributes(others | covered)}>"
        lacking, end = spans.missing()
        if lacking:
            self._parts[end] = f'<td colspan="{lacking}"></td></tr>'

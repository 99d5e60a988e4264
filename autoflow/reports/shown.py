"""Reduce an executed notebook to what a report shows: outputs in printable form, and long texts cut."""

import re
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from nbformat import NotebookNode, from_dict

from autoflow import CHECK_TYPE
from autoflow.notebooks.executed import text_of
from autoflow.notebooks.terminal import as_shown
from autoflow.notebooks.widgets import Widgets
from autoflow.reports.elided import with_note_in_html, with_note_in_text
from autoflow.reports.hypertext import clean_html
from autoflow.reports.limits import MOST_LINES, Ledger
from autoflow.reports.pictures import (
    PictureShelf,
    attachments_of,
    content_of,
    is_picture,
    with_linked_attachments,
)
from autoflow.reports.reading import Dialect, Fragment

PRIORITY = (
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "image/bmp",
    "image/tiff",
    "application/pdf",
    "text/markdown",
    "text/html",
    "text/latex",
    "text/plain",
)
"""The forms of outputs, the best first; a picture is better than HTML made for a browser."""

MOST_MARKDOWN = 50_000
MOST_IN_A_LINE = 2_000
MOST_PRINTED = 50_000
INTERACTIVE = "Interactive content, which cannot be shown on a printed page."

_TEMPLATES_HAVE = {"image/svg+xml", "image/png", "image/jpeg"}
"""The kinds of pictures that nbconvert's templates have blocks for; others go by ``image/png``."""

_Data: TypeAlias = Mapping[str, str]

_REMOVED_CELL = {"remove-cell", "remove_cell", "papermill-error-cell-tag"}
_REMOVED_OUTPUT = {"remove-output", "remove_output"}
_DIALECTS = {"text/markdown": Dialect.MARKDOWN, "text/html": Dialect.HTML, "text/latex": Dialect.MARKDOWN}
_NEEDS_A_BROWSER = re.compile(r"application/vnd\.(plotly|vega|bokeh|holoviews|jupyter\.widget)")
_OBJECT = re.compile(r"<IPython\.core\.display\.\w+ object>|<[^<>]* object at 0x[0-9a-f]+>")
_RETURNED_BY_PLOTTING = ("<", "[<", "(<", "Text(", "(array(", "array([<", "{'whiskers'")
_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_INLINE_DISPLAY = re.compile(r"^\$\s*\\displaystyle(?![A-Za-z])\s*(.*?)\s*\$$", re.DOTALL)


def reduce_to_shown(notebook: NotebookNode, shelf: PictureShelf, ledger: Ledger) -> None:
    """Reduce `notebook` to what the report shows, and add its pictures to `shelf`; `ledger` limits both.

    The first form of each output is the one to show. A custom template can use the others.
    """
    widgets = Widgets(notebook.metadata)
    notebook.cells = [cell for cell in notebook.cells if not _tags(cell) & _REMOVED_CELL]
    for cell in notebook.cells:
        if attached := attachments_of(cell.get("attachments", {})):
            cell.source = with_linked_attachments(cell.source, shelf.attach_of_cell(attached))
        if cell.cell_type == "markdown":
            cell.source = beginning(shelf.with_data_attached(cell.source), MOST_MARKDOWN)
        elif cell.cell_type == "code":
            outputs = () if _tags(cell) & _REMOVED_OUTPUT else _without_widgets(cell.outputs, widgets)
            cell.outputs = list(_shown_outputs(list(outputs), shelf, ledger))


def drop_checks(notebook: NotebookNode, *, also_failed: bool) -> None:
    """Remove the outputs of checks that passed, or of all checks, from `notebook`: the top of the report has them."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            results = ((output, output.get("data", {}).get(CHECK_TYPE)) for output in cell.outputs)
            cell.outputs = [output for output, found in results if not found or not (also_failed or found["ok"])]


def fragments_of(notebook: NotebookNode) -> Iterator[Fragment]:
    """Yield each text for pandoc to read, in the order of the report."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield Fragment(Dialect.MARKDOWN, cell.source)
        for output in cell.get("outputs", ()):
            kind, text = next(iter(output.get("data", {}).items()), ("", ""))
            if kind in _DIALECTS:
                yield Fragment(_DIALECTS[kind], text)


def plain_output(text: str) -> str:
    """Return `text` as a terminal would show it, cut to a few pages."""
    shown = _ESCAPE_SEQUENCE.sub("", as_shown(text).replace("\r\n", "\n"))
    lines = [line.expandtabs() for line in shown.split("\n")]
    rest = len(lines) - MOST_LINES
    note = [f"[{rest:,} more lines]"] if rest > 0 else []
    shorter = "\n".join(beginning(line, MOST_IN_A_LINE) for line in lines[:MOST_LINES])
    return "\n".join([beginning(shorter, MOST_PRINTED), *note])


def beginning(text: str, most: int) -> str:
    """Return `text`, or its first `most` characters and the number of the others."""
    return text if len(text) <= most else f"{text[:most]}… [{len(text) - most:,} more characters]"


def _tags(cell: NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", ()))


def _without_widgets(outputs: list[NotebookNode], widgets: Widgets) -> Iterator[NotebookNode]:
    """Yield the outputs, with those of widgets as they ended; progress bars are left out."""
    for output in outputs:
        shown = widgets.outputs_of(output, with_progress=False)
        yield from [output] if shown is None else map(from_dict, shown)


def _shown_outputs(outputs: list[NotebookNode], shelf: PictureShelf, ledger: Ledger) -> Iterator[NotebookNode]:
    has_picture = any(is_picture(kind) for output in outputs for kind in output.get("data", {}))
    for output in outputs:
        if "data" not in output:
            if output.get("name") == "stderr":
                yield output  # for templates of users; AutoFlow's own leaves it out
            elif ledger.takes("outputs"):
                output.text = _printed(text_of(output.get("text", "")), ledger)
                yield output
            continue
        data = {kind: text_of(content) for kind, content in output.data.items() if _is_text(content)}
        if has_picture and set(data) == {"text/plain"} and data["text/plain"].startswith(_RETURNED_BY_PLOTTING):
            continue
        kind, text = _shown_form(data, output.data, shelf)
        if not kind or not ledger.takes("outputs") or (is_picture(kind) and not ledger.takes("figures")):
            continue
        if kind == "text/plain":
            text = _printed(text, ledger)
        if is_picture(kind):
            others = (content_of(data[form]) for form in PRIORITY if form in data and is_picture(form) and form != kind)
            shelf.add(content_of(text), tuple(others))
            kind = kind if kind in _TEMPLATES_HAVE else "image/png"
        output.data = NotebookNode({kind: text} | {other: data[other] for other in data if other != kind})
        yield output


def _printed(text: str, ledger: Ledger) -> str:
    """Return `text` as it was printed, or as much of it as a report and `ledger` have room for."""
    text = with_note_in_text(text)
    shown = plain_output(text)
    kept = ledger.beginning("characters", shown)
    return text if kept == shown else beginning(shown, len(kept))


def _is_text(content: object) -> bool:
    """Return whether an output's content is a text, which may be stored as a list of lines."""
    return isinstance(content, str) or (isinstance(content, list) and all(isinstance(line, str) for line in content))


def _shown_form(data: _Data, given: Mapping[str, object], shelf: PictureShelf) -> tuple[str, str]:
    """Return the best form of an output that can be shown; empty if none can."""
    for kind in PRIORITY:
        if kind in data and (text := _printable_form(kind, data[kind], shelf)):
            return kind, text
    if any(map(_NEEDS_A_BROWSER.match, given)) or "<iframe" in data.get("text/html", ""):
        return "text/markdown", f"*{INTERACTIVE}*"
    return "", ""


def _printable_form(kind: str, text: str, shelf: PictureShelf) -> str:
    if kind == "text/html":
        return clean_html(with_note_in_html(shelf.with_data_attached(text)), shelf.attach)
    if kind == "text/plain":
        return "" if _OBJECT.fullmatch(text.strip()) else text
    if kind == "text/latex":
        return beginning(_INLINE_DISPLAY.sub(r"$$\1$$", text.strip()), MOST_MARKDOWN)
    return beginning(shelf.with_data_attached(text), MOST_MARKDOWN) if kind == "text/markdown" else text

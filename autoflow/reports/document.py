"""From an executed notebook to one asciidoc document."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autoflow.errors import ReportError
from autoflow.reports.exporting import PRIORITY, fill
from autoflow.reports.markup import Asciidoc, escape_line
from autoflow.reports.pictures import PictureShelf, attachments_of, content_of
from autoflow.reports.reading import Dialect, Fragment, Node, read_fragments
from autoflow.reports.writing import BlockWriter, literal, missing_picture, picture_block, plain_text

_DIALECTS = {"text/markdown": Dialect.MARKDOWN, "text/html": Dialect.HTML, "text/latex": Dialect.LATEX}


def write_document(
    notebook: Path, *, folder: Path, inputs_dir: Path, template: Path, config_dir: Path, deadline: float
) -> str:
    """Return the asciidoc of `notebook`; its pictures are then in `folder`.

    Raises
    ------
    ReportError
        If the notebook cannot be read, pandoc fails, or the template has a mistake.

    """
    contents = _read(notebook)
    shelf = PictureShelf(folder=folder, inputs_dir=inputs_dir)
    prepare(contents, shelf)
    read = read_fragments(
        fragments_of(contents),
        reader=config_dir / "report_reader.lua",
        folder=folder,
        timeout=deadline - time.monotonic(),
    )
    for blocks in read.values():
        for address in _addresses(blocks):
            if picture := shelf.find(address):
                shelf.add(picture)
    shelf.finish(timeout=deadline - time.monotonic())
    filters = _Filters(read, shelf)
    return fill(
        template,
        contents,
        config_dir=config_dir,
        filters=filters.by_name(),
        variables={"title": Asciidoc(escape_line(_title(contents, read) or notebook.stem))},
    )


def _read(notebook: Path) -> NotebookNode:
    try:
        return nbformat.read(notebook, as_version=4)
    except Exception as error:  # nbformat raises whatever its parts raise
        raise ReportError(f"{notebook} is not a notebook: {error}") from error


def prepare(notebook: NotebookNode, shelf: PictureShelf) -> None:
    """Leave in `notebook` what the report shows, and put its pictures on `shelf`."""
    for cell in notebook.cells:
        for name, content in attachments_of(cell.get("attachments", {})):
            cell.source = cell.source.replace(f"attachment:{name}", shelf.attach(name, content))
        for output in cell.get("outputs", ()):
            shown = _shown(output)
            for kind in output.get("data", {}):
                output.data[kind] = output.data[kind] if kind == shown else ""
            if shown and shown.startswith("image/"):
                shelf.add(content_of(output.data[shown]))
            if "data" in output:
                output.data = NotebookNode({shown: output.data[shown]} if shown else {})


def fragments_of(notebook: NotebookNode) -> Iterator[Fragment]:
    """Yield each text that pandoc has to read."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            yield Fragment(Dialect.MARKDOWN, cell.source)
        for output in cell.get("outputs", ()):
            for kind, text in output.get("data", {}).items():
                if kind in _DIALECTS:
                    yield Fragment(_DIALECTS[kind], text)


def _shown(output: NotebookNode) -> str | None:
    return next((kind for kind in PRIORITY if kind in output.get("data", {})), None)


def _title(notebook: NotebookNode, read: Mapping[Fragment, Sequence[Node]]) -> str:
    for blocks in read.values():
        for block in blocks:
            if block["t"] == "Header":
                return plain_text([block])
    return str(notebook.metadata.get("title", ""))


def _addresses(node: Any) -> Iterator[str]:
    """Yield the address of each picture in a part of pandoc's document model."""
    if isinstance(node, dict):
        if node.get("t") == "Image":
            yield node["c"][2][0]
        yield from _addresses(node.get("c"))
    elif isinstance(node, list | tuple):
        for child in node:
            yield from _addresses(child)


class _Filters:
    """What the filters of a template do with the texts of one notebook."""

    def __init__(self, read: Mapping[Fragment, Sequence[Node]], shelf: PictureShelf) -> None:
        self._read = read
        self._shelf = shelf
        self._writer = BlockWriter(shelf)

    def by_name(self) -> dict[str, Any]:
        """Return the filters by the names that templates use."""
        return {
            "markdown2asciidoc": lambda text: self._written(Dialect.MARKDOWN, text),
            "html2asciidoc": lambda text: self._written(Dialect.HTML, text),
            "latex2asciidoc": lambda text: self._written(Dialect.LATEX, text),
            "text2asciidoc": lambda text: Asciidoc(literal(text)),
            "figure": self._figure,
            "failure": self._failure,
        }

    def _written(self, dialect: Dialect, text: str) -> Asciidoc:
        return Asciidoc("\n\n" + self._writer.blocks(self._read[Fragment(dialect, text)]))

    def _figure(self, encoded: str, _metadata: Mapping[str, Any] | None = None) -> Asciidoc:
        picture = self._shelf.picture(content_of(encoded))
        return Asciidoc("\n\n" + (missing_picture("") + "\n\n" if picture is None else picture_block(picture)))

    def _failure(self, output: NotebookNode) -> Asciidoc:
        return Asciidoc(literal("\n".join(output.get("traceback", ()))))

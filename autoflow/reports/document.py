"""Write an executed notebook as an asciidoc document."""

import datetime
import html
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from autoflow.errors import ReportError
from autoflow.notebooks.executed import recorded_checks
from autoflow.reports.exporting import OWN_TEMPLATE, fill
from autoflow.reports.hypertext import clean_html
from autoflow.reports.inlines import InlineWriter, missing_picture
from autoflow.reports.limits import Ledger, plain_notebook
from autoflow.reports.marks import as_blocks, as_text, as_title, lacks_title, laid_out
from autoflow.reports.markup import Asciidoc, escape_line
from autoflow.reports.nodes import Node, nodes
from autoflow.reports.outline import Outline
from autoflow.reports.pictures import Picture, PictureShelf, content_of, formula_of
from autoflow.reports.reading import Dialect, Fragment, convert_fragment, read_fragments
from autoflow.reports.shown import beginning, drop_checks, fragments_of, plain_output, reduce_to_shown
from autoflow.reports.writing import BlockWriter, picture_block
from autoflow.system.stop_signal import StopSignal

_LONGEST_TITLE = 300
_NOTE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="20"><text y="15" font-size="12">{note}</text></svg>'
)
"""In the place of a picture that cannot be shown."""
_PICTURES = frozenset({"image/png", "image/jpeg", "image/svg+xml"})


@dataclass(frozen=True, kw_only=True)
class Document:
    """An asciidoc document, and the text colour and background of each role that it uses."""

    text: str
    colours: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Workplace:
    """The files and limits of a conversion, which works in `folder`.

    `deadline` is a time of `time.monotonic`; `stop` ends the programs at work here.
    """

    folder: Path
    inputs_dir: Path
    template: Path
    config_dir: Path
    deadline: float
    stop: StopSignal

    @property
    def seconds_left(self) -> float:
        """The time left until the deadline."""
        return self.deadline - time.monotonic()

    @property
    def has_own_template(self) -> bool:
        """Whether the template is the one in AutoFlow's config folder."""
        return self.template.resolve() == (self.config_dir / OWN_TEMPLATE).resolve()


def write_document(
    notebook: Path, workplace: Workplace, *, subtitle: str, paged: bool, is_plain: bool = False
) -> Document:
    """Return the asciidoc of `notebook`, and write its pictures to the workplace's folder.

    `subtitle` is a line below the title; a report is `paged` if it becomes a PDF, and `is_plain` if it shows
    nothing but text.

    Raises
    ------
    ReportError
        If the notebook cannot be read, pandoc fails, or the template has a mistake.

    """
    contents = _read(notebook)
    if is_plain:
        contents = plain_notebook(contents, plain_output)
    drop_checks(contents, also_failed=workplace.has_own_template)
    shelf, ledger = PictureShelf(folder=workplace.folder, inputs_dir=workplace.inputs_dir), Ledger()
    reduce_to_shown(contents, shelf, ledger)
    texts = _Texts(workplace, shelf, ledger)
    with ThreadPoolExecutor(max_workers=1) as meanwhile:
        pictures = meanwhile.submit(shelf.finish, timeout=workplace.seconds_left, stop=workplace.stop)
        read = texts.pandoc(fragments_of(contents))
        pictures.result()
    texts.keep(read)
    if not workplace.has_own_template:
        _name_pictures(contents, shelf, workplace)
    blocks = texts.all_blocks()
    resources = _resources(contents, notebook, title=Outline.of(blocks).title, subtitle=subtitle)
    for outline in (Outline.of(blocks), Outline.of(blocks, has_title=False)):
        writer = BlockWriter(InlineWriter(shelf, outline), paged=paged)
        filters = _filters(texts, writer) | {"beside": partial(_beside, workplace)}
        text = fill(workplace.template, contents, config_dir=workplace.config_dir, filters=filters, resources=resources)
        if not lacks_title(text):
            break
    notes = "".join(f"\n\n[.clipped]\n{escape_line(note)}\n" for note in ledger.notes())
    return Document(text=laid_out(text) + notes, colours=writer.text.colours)


def _resources(contents: NotebookNode, notebook: Path, *, title: str, subtitle: str) -> dict[str, Any]:
    """Return the variable ``resources`` of templates: what nbconvert has in it, and what is on top of the report."""
    title = title or str(contents.metadata.get("title", "")) or notebook.stem.replace("_", " ")
    modified = datetime.datetime.fromtimestamp(notebook.stat().st_mtime, datetime.UTC)
    return {
        "report": {
            "title": as_title(escape_line(beginning(title, _LONGEST_TITLE)).strip()),
            "subtitle": Asciidoc(escape_line(subtitle).strip()),
            "warnings": [
                Asciidoc(escape_line(warning).strip()) for warning in recorded_checks(contents.metadata).warned
            ],
        },
        "metadata": {
            "name": notebook.stem,
            "path": str(notebook.parent),
            "modified_date": f"{modified:%B} {modified.day}, {modified:%Y}",
        },
        "unique_key": notebook.stem,
        "output_files_dir": Asciidoc("."),
    }


def _name_pictures(contents: NotebookNode, shelf: PictureShelf, workplace: Workplace) -> None:
    """Note the file of each picture in the metadata of its output, where nbconvert's templates expect it."""
    pictures = {
        (place, number, kind): content_of(text)
        for place, cell in enumerate(contents.cells)
        for number, output in enumerate(cell.get("outputs", ()))
        for kind, text in output.get("data", {}).items()
        if kind in _PICTURES
    }
    for content in pictures.values():
        shelf.add(content)
    shelf.finish(timeout=workplace.seconds_left, stop=workplace.stop)
    for (place, number, kind), content in pictures.items():
        picture = shelf.picture(content)
        name = f"output_{place}_{number}{Path(picture.name).suffix if picture else '.svg'}"
        if picture:
            shutil.copyfile(workplace.folder / picture.name, workplace.folder / name)
        else:
            note = html.escape(f"[{shelf.problem(content) or 'a picture that cannot be shown'}]")
            (workplace.folder / name).write_text(_NOTE.format(note=note), encoding="utf-8")
        metadata = contents.cells[place].outputs[number].metadata
        metadata["filenames"] = {**metadata.get("filenames", {}), kind: Asciidoc(name)}


def _read(notebook: Path) -> NotebookNode:
    try:
        return nbformat.read(notebook, as_version=4)  # type: ignore[no-any-return]
    except Exception as error:  # nbformat lets the errors of other libraries through
        raise ReportError(f"{notebook} is not a valid notebook: {error}") from error


class _Texts:
    """The notebook's markdown, HTML and LaTeX, as read by pandoc."""

    def __init__(self, workplace: Workplace, shelf: PictureShelf, ledger: Ledger) -> None:
        self._workplace = workplace
        self._ledger = ledger
        self._shelf = shelf
        # As a name within the folder, because pandoc takes the path of a reader in lowercase.
        self._reader = Path("report_reader.lua")
        shutil.copyfile(workplace.config_dir / self._reader, workplace.folder / self._reader)
        self._blocks: dict[Fragment, list[Sequence[Node]]] = {}

    def pandoc(self, fragments: Iterable[Fragment]) -> Mapping[Fragment, Sequence[Node]]:
        """Read `fragments` with one pandoc."""
        folder, timeout = self._workplace.folder, self._workplace.seconds_left
        return read_fragments(fragments, reader=self._reader, folder=folder, timeout=timeout, stop=self._workplace.stop)

    def keep(self, read: Mapping[Fragment, Sequence[Node]]) -> None:
        """Keep the blocks read that the report has room for, and make their pictures and formulas."""
        kept = {fragment: self._ledger.bounded(blocks) for fragment, blocks in read.items()}
        for node in nodes(list(kept.values())):
            if formula := formula_of(node):
                self._shelf.add_formula(formula)
            elif node["t"] == "Image" and (picture := self._shelf.find(node["c"][2][0])):
                self._shelf.add(picture)
        self._shelf.finish(timeout=self._workplace.seconds_left, stop=self._workplace.stop)
        self._blocks |= {fragment: [blocks] for fragment, blocks in kept.items()}

    def blocks(self, dialect: Dialect, text: str, uses: int = 0) -> Sequence[Node]:
        """Return the blocks of a text after so many uses of it; read it now if a template has changed it."""
        fragment = Fragment(dialect, text)
        if fragment not in self._blocks:
            if dialect is Dialect.HTML:
                fragment = Fragment(dialect, clean_html(text, self._shelf.attach))
            self.keep(self.pandoc([fragment]))
        shown = self._blocks[fragment]
        while len(shown) <= uses:
            shown.append(self._ledger.bounded(shown[0]))
        return shown[uses]

    def converted(self, dialect: Dialect, text: str, to_format: str) -> str:
        """Return a text in another of pandoc's formats."""
        return convert_fragment(
            Fragment(dialect, text),
            to_format,
            reader=self._reader,
            folder=self._workplace.folder,
            timeout=self._workplace.seconds_left,
            stop=self._workplace.stop,
        )

    def picture(self, content: bytes) -> Picture | None:
        """Return the file made of a picture; make it now if no report would show it without a template."""
        self._shelf.add(content)
        self._shelf.finish(timeout=self._workplace.seconds_left, stop=self._workplace.stop)
        return self._shelf.picture(content)

    def problem(self, content: bytes) -> str:
        """Return why there is no file of a picture, for readers."""
        return self._shelf.problem(content)

    def all_blocks(self) -> list[Node]:
        """Return the blocks of all texts, in the order of the report."""
        return [block for first, *_ in self._blocks.values() for block in first]


def _filters(texts: _Texts, writer: BlockWriter) -> dict[str, Any]:
    """Return the filters for templates, by name."""
    uses: Counter[Fragment] = Counter()

    def written(dialect: Dialect, text: str) -> Asciidoc:
        fragment = Fragment(dialect, text)
        uses[fragment] += 1
        return as_blocks(writer.blocks(texts.blocks(dialect, text, uses[fragment] - 1)))

    def convert_pandoc(text: str, from_format: str, to_format: str, extra_args: object = None) -> str:  # noqa: ARG001
        dialect = Dialect.HTML if from_format.startswith("html") else Dialect.MARKDOWN
        return written(dialect, text) if to_format.startswith("asciidoc") else texts.converted(dialect, text, to_format)

    def figure(encoded: str, metadata: Mapping[str, Any] | None = None) -> Asciidoc:
        content = content_of(encoded)
        picture = texts.picture(content)
        if picture is None:
            return as_blocks(missing_picture("", texts.problem(content)))
        return as_blocks(picture_block(picture.resized(metadata or {})))

    return {
        "markdown2asciidoc": lambda text: written(Dialect.MARKDOWN, text),
        "html2asciidoc": lambda text: written(Dialect.HTML, text),
        "latex2asciidoc": lambda text: written(Dialect.MARKDOWN, text),
        "text2asciidoc": lambda text: as_text(plain_output(text)),
        "markdown2rst": lambda text: texts.converted(Dialect.MARKDOWN, text, "rst"),
        "markdown2latex": lambda text: texts.converted(Dialect.MARKDOWN, text, "latex"),
        "convert_pandoc": convert_pandoc,
        "figure": figure,
        "failure": _failure,
    }


def _beside(workplace: Workplace, name: str) -> Asciidoc:
    """Copy a file beside the template, or below it, into the workplace; return its name there."""
    folder = workplace.template.resolve().parent
    if not (folder / name).resolve().is_relative_to(folder):
        raise ValueError(f"{name} is not in the folder of the template")
    copied = workplace.folder / f"template-{Path(name).name}"
    shutil.copyfile(workplace.template.parent / name, copied)
    return Asciidoc(copied.name)


def _failure(output: NotebookNode) -> Asciidoc:
    """Return the exception and the traceback of an error output."""
    name, message = output.get("ename", ""), output.get("evalue", "")
    headline = escape_line(beginning(f"{name}: {message}" if message else name, 1000)).strip()
    traceback = as_text(plain_output("\n".join(output.get("traceback", ()))))
    return as_blocks(f"{{empty}}[.failed]##{headline}##") + Asciidoc("\n\n") + traceback if headline else traceback

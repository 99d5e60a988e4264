"""Shared by the tests of reports: make a notebook, convert it, and read the report."""

import html
import re
import subprocess
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4

from autoflow.reports import ReportContext, convert
from autoflow.settings import CONFIG_DIR
from autoflow.specs import ReportFormat
from autoflow.system.stop_signal import StopSignal
from tests.waiting import LONG

DEFAULT_TEMPLATE = CONFIG_DIR / "asciidoc_extended.tpl"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
"""A PNG picture."""

CONTEXT = ReportContext(workflow="Flows *above* normal", dates="2016-01-07")


def notebook(*cells: NotebookNode | str) -> NotebookNode:
    """Return an executed notebook; a text is a markdown cell."""
    given = [v4.new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    return NotebookNode(v4.new_notebook(cells=given))


def code(*outputs: NotebookNode, source: str = "secret_code()", tags: tuple[str, ...] = ()) -> NotebookNode:
    """Return an executed code cell."""
    cell = v4.new_code_cell(source, execution_count=7, outputs=list(outputs), metadata={"tags": list(tags)})
    return NotebookNode(cell)


def shows(**bundle: str) -> NotebookNode:
    """Return an output; ``text_html`` is ``text/html``."""
    return NotebookNode(
        v4.new_output("display_data", {kind.replace("_", "/"): content for kind, content in bundle.items()})
    )


def prints(text: str, name: str = "stdout") -> NotebookNode:
    """Return an output of printed text."""
    return NotebookNode(v4.new_output("stream", text=text, name=name))


def report_of(
    notebook: NotebookNode,
    folder: Path,
    *,
    report_format: ReportFormat = ReportFormat.PDF,
    template: Path = DEFAULT_TEMPLATE,
    context: ReportContext = CONTEXT,
    timeout: float = 2 * LONG,
    stop: StopSignal | None = None,
) -> Path:
    """Return the report made of `notebook`, whose folder of inputs is ``folder/inputs``."""
    inputs = folder / "inputs"
    inputs.mkdir(exist_ok=True)
    executed, report = folder / "executed.ipynb", folder / f"report.{report_format}"
    nbformat.write(notebook, executed)
    convert(
        executed,
        report,
        report_format=report_format,
        context=context,
        template=template,
        inputs_dir=inputs,
        timeout=timeout,
        stop=stop,
    )
    return report


def text_of(report: Path) -> str:
    """Return the words of a report, in the order and roughly in the place in which a reader sees them."""
    if report.suffix == ".pdf":
        return _output("pdftotext", "-layout", str(report), "-")
    body = re.sub(r"(?s)<head>.*?</head>", "", report.read_text(encoding="utf-8"))
    return html.unescape(re.sub(r"(?s)<[^>]*>", "", body))


def words_of(report: Path) -> str:
    """Return the words of a report with a single space between them."""
    return " ".join(text_of(report).split())


def right_edge_of(word: str, report: Path) -> float:
    """Return where `word` ends on a PDF's page, in points from the left."""
    boxes = _output("pdftotext", "-bbox", str(report), "-")
    return float(re.findall(rf'xMax="([0-9.]+)" yMax="[0-9.]+">{re.escape(word)}</word>', boxes)[0])


def images_in(report: Path) -> int:
    """Return how many raster images a PDF has."""
    return len(_output("pdfimages", "-list", str(report)).splitlines()) - 2


def fonts_in(report: Path) -> str:
    """Return poppler's table of the fonts that a PDF has."""
    return _output("pdffonts", str(report))


def pages_of(report: Path) -> list[str]:
    """Return the size of each page of a PDF, as poppler reports it."""
    lines = _output("pdfinfo", "-l", "-1", str(report)).splitlines()
    return [line.partition("size:")[2].strip() for line in lines if re.match(r"Page +\d+ size:", line)]


def title_of(report: Path) -> str:
    """Return the title in a PDF's metadata."""
    return next(line[6:].strip() for line in _output("pdfinfo", str(report)).splitlines() if line.startswith("Title:"))


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

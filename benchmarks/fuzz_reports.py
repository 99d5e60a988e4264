"""Convert notebooks with damaged and hostile pictures and outputs to PDF, and check every report.

Usage: python -m benchmarks.fuzz_reports [--pictures N] [--outputs N] [--seed N] [--keep FOLDER]

A report fails the check if the conversion fails or warns with a traceback, if the PDF is not valid, if an undamaged
picture or a text among the damaged ones is missing, if it has the content of a file outside the notebook's folder, or
if anything was fetched. Failures are printed with the number of the report; the same seed makes the same notebooks.
"""

import argparse
import logging
import random
import re
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode, v4
from PIL import Image

from autoflow.errors import AutoflowError
from autoflow.reports import ReportContext, convert
from autoflow.settings import CONFIG_DIR
from autoflow.specs import ReportFormat
from benchmarks.fuzzed import (
    RASTERS,
    Trap,
    damaged_picture,
    fuzzed_output,
    picture_cell,
    visible_cell,
    whole_picture,
)

PICTURES_IN_A_REPORT, OUTPUTS_IN_A_REPORT = 100, 25
CANARY = "CANARY-5d1c77"
COLOURS = ((230, 0, 126), (0, 200, 60), (120, 0, 255), (255, 140, 0), (0, 170, 255))
"""Of the undamaged pictures of a report; nothing else in it has colours as bright."""

_LONGEST = 300.0
_TOLERANCE = 12
_RESOLUTION = 24


@dataclass
class Findings:
    """What went wrong, by report, and how long each report took, in seconds."""

    problems: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def picture_notebook(seed: str, count: int, trap: Trap) -> NotebookNode:
    """Return a notebook with `count` damaged pictures, and an undamaged one of each colour among them."""
    source = random.Random(seed)
    cells = [picture_cell(damaged_picture(source, trap), source) for _ in range(count)]
    for colour in COLOURS:
        form = source.choice((*RASTERS, "SVG", "PDF"))
        cells.insert(source.randrange(len(cells) + 1), visible_cell(whole_picture(form, colour)))
    return _notebook(cells)


def output_notebook(seed: str, count: int, trap: Trap) -> NotebookNode:
    """Return a notebook with `count` fuzzed outputs, and a line of text after each."""
    source = random.Random(seed)
    cells: list[NotebookNode] = []
    for number in range(count):
        cells += [fuzzed_output(source, trap), v4.new_markdown_cell(f"text-after-{number}")]
    return _notebook(cells)


def _notebook(cells: Sequence[NotebookNode]) -> NotebookNode:
    notebook: NotebookNode = v4.new_notebook(cells=[v4.new_markdown_cell("# Fuzzed"), *cells, _last()])
    return notebook


def _last() -> NotebookNode:
    return NotebookNode(v4.new_markdown_cell("the-last-line"))


def checked(notebook: NotebookNode, folder: Path, texts: Sequence[str], colours: Sequence[tuple[int, int, int]]) -> str:
    """Return what is wrong with the report of `notebook`; empty if nothing is."""
    executed, report = folder / "executed.ipynb", folder / "report.pdf"
    nbformat.write(notebook, executed)
    inputs = folder / "inputs"
    inputs.mkdir(exist_ok=True)
    try:
        with _tracebacks() as tracebacks:
            convert(
                executed,
                report,
                report_format=ReportFormat.PDF,
                context=ReportContext(workflow="fuzz", dates="2016-01-07"),
                template=CONFIG_DIR / "asciidoc_extended.tpl",
                inputs_dir=inputs,
                timeout=_LONGEST,
            )
    except AutoflowError as error:
        return f"failed: {error}"[:500]
    return "; ".join([*tracebacks, *_problems_of(report, texts, colours)])


def _problems_of(report: Path, texts: Sequence[str], colours: Sequence[tuple[int, int, int]]) -> Iterator[str]:
    shown, complaints = _output("pdftotext", str(report), "-")
    if "Error" in complaints:
        yield f"not a valid PDF: {complaints.splitlines()[0]}"
    if CANARY in shown:
        yield "it has the content of a file"
    missing = [text for text in (*texts, "the-last-line") if text not in shown]
    if missing:
        yield f"it has no {', '.join(missing)}"
    if colours:
        seen = _colours_of(report)
        lost = [colour for colour in colours if not any(_is_close(colour, other) for other in seen)]
        if lost:
            yield f"pictures of these colours are not visible: {lost}"


def _colours_of(report: Path) -> set[tuple[int, int, int]]:
    """Return the colours of larger areas on the report's pages."""
    stem = report.with_name("page")
    _output("pdftoppm", "-r", str(_RESOLUTION), str(report), str(stem))
    seen: set[tuple[int, int, int]] = set()
    for page in report.parent.glob("page*.ppm"):
        with Image.open(page) as picture:
            counted: Any = picture.getcolors(10**6) or []
        seen |= {colour for count, colour in counted if count > 20}
        page.unlink()
    return seen


def _is_close(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return all(abs(first - second) <= _TOLERANCE for first, second in zip(one, other, strict=True))


def _output(*command: str) -> tuple[str, str]:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_LONGEST, check=False)
    return done.stdout, done.stderr


@contextmanager
def _tracebacks() -> Iterator[list[str]]:
    """Yield what is logged in the meantime and looks like a traceback."""
    found: list[str] = []

    class Finder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if record.exc_info or re.search(r"Traceback|\.rb:\d+:in ", message):
                found.append(f"logged: {message[:300]}")

    finder, logger = Finder(), logging.getLogger("autoflow")
    logger.addHandler(finder)
    try:
        yield found
    finally:
        logger.removeHandler(finder)


@contextmanager
def trapped() -> Iterator[tuple[Path, Trap, list[object]]]:
    """Yield a folder, a trap whose file is in it, and the list of connections to the trap's address."""
    connections: list[object] = []

    class Counting(socketserver.ThreadingTCPServer):
        def verify_request(self, _request: object, client_address: object) -> bool:
            connections.append(client_address)
            return False

    with (
        tempfile.TemporaryDirectory(prefix="fuzz-reports-") as name,
        Counting(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server,
    ):
        folder = Path(name)
        (folder / "outside").mkdir()
        file = folder / "outside" / "canary.txt"
        file.write_text(f"<svg xmlns='http://www.w3.org/2000/svg'><text>{CANARY}</text></svg>")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, Trap(str(file), f"http://127.0.0.1:{server.server_address[1]}/"), connections
        server.shutdown()


def fuzz(pictures: int, outputs: int, seed: int, keep: Path | None = None, *, only: str = "") -> Findings:
    """Convert so many fuzzed pictures and outputs; `only` names a single report. Notebooks that fail go to `keep`."""
    findings = Findings()
    with trapped() as (folder, trap, connections):
        for name, count in _reports(pictures, outputs):
            if only and name != only:
                continue
            is_picture = name.startswith("pictures")
            make = picture_notebook if is_picture else output_notebook
            notebook = make(f"{seed}-{name}", count, trap)
            texts = [] if is_picture else [f"text-after-{number}" for number in range(count)]
            start = time.monotonic()
            problem = checked(notebook, folder, texts, COLOURS if is_picture else ())
            findings.seconds.append(time.monotonic() - start)
            if connections:
                problem += f"; {len(connections)} connections were made"
                connections.clear()
            if problem:
                findings.problems.append(f"{name}: {problem}")
                print(findings.problems[-1], flush=True)
                if keep:
                    nbformat.write(notebook, keep / f"{name}.ipynb")
    return findings


def _reports(pictures: int, outputs: int) -> Iterator[tuple[str, int]]:
    """Yield the name of each report, and how many pictures or outputs it has."""
    for kind, count, each in (("pictures", pictures, PICTURES_IN_A_REPORT), ("outputs", outputs, OUTPUTS_IN_A_REPORT)):
        for first in range(0, count, each):
            yield f"{kind}-{first}", min(each, count - first)


def main() -> int:
    """Fuzz, print what was found, and return 1 if that is anything."""
    parser = argparse.ArgumentParser(description="Check reports of damaged and hostile pictures and outputs.")
    parser.add_argument("--pictures", type=int, default=1000, help="how many damaged pictures (default: 1000)")
    parser.add_argument("--outputs", type=int, default=100, help="how many fuzzed outputs (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other ones (default: 1)")
    parser.add_argument("--only", default="", help="check a single report, such as pictures-300")
    parser.add_argument("--keep", type=Path, help="folder for notebooks whose reports fail")
    given = parser.parse_args()
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    findings = fuzz(given.pictures, given.outputs, given.seed, given.keep, only=given.only)
    seconds = sorted(findings.seconds)
    print(f"{len(seconds)} reports, {given.pictures:,} pictures, {given.outputs:,} outputs, seed {given.seed}")
    print(f"longest report {seconds[-1]:.1f} s, median {seconds[len(seconds) // 2]:.1f} s")
    print(f"{len(findings.problems)} reports with problems")
    return 1 if findings.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())

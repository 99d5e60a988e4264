"""Time a report: AutoFlow's conversion against plain nbconvert and the asciidoctor-pdf command.

Usage: python -m benchmarks.report [--rounds N]

The notebook has 50 markdown cells, 10 tables and 5 figures. Both ways take turns, in another order each round; the
medians count. The plain way does less: it prints tables as source and omits the figures. AutoFlow's first round
includes loading asciidoctor-pdf, which stays loaded for the next ones as it does in the daemon.
"""

import argparse
import base64
import io
import logging
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
from nbconvert.exporters import ASCIIDocExporter
from nbformat import v4

from autoflow.reports import ReportContext, convert
from autoflow.settings import CONFIG_DIR
from autoflow.specs import ReportFormat
from benchmarks.goals import Goal, add_options, judge

RATIO = 0.3
"""How many times as long as the plain way AutoFlow may take."""

LONGEST = 300.0
"""Seconds that asciidoctor-pdf may take."""

MARKDOWN_CELLS, TABLES, FIGURES = 50, 10, 5
TEXT = """## Section {number}

The flow from region **{number}** to the *capital* was [above normal](https://www.example.org/{number}) on three days.
The tables below show these days, and what may have caused the increase.
"""
LIST = """
- first point
- second point with `code`
    - below it
"""


def notebook() -> nbformat.NotebookNode:
    """Return an executed notebook with these cells."""
    source = random.Random(1)
    texts = (TEXT.format(number=number) + (LIST if number % 5 == 0 else "") for number in range(MARKDOWN_CELLS))
    cells = [v4.new_markdown_cell(text) for text in texts]
    for _ in range(TABLES):
        rows = [[source.randint(0, 10**6) for _ in range(5)] for _ in range(10)]
        frame = pd.DataFrame(rows, columns=[f"region {column}" for column in range(5)])
        cells.append(_code_cell({"text/html": frame._repr_html_(), "text/plain": str(frame)}))
    for _ in range(FIGURES):
        figure, axes = plt.subplots(figsize=(8, 5))
        axes.plot([source.random() for _ in range(300)])
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=100)
        plt.close(figure)
        cells.append(_code_cell({"image/png": base64.b64encode(drawn.getvalue()).decode(), "text/plain": "<Figure>"}))
    source.shuffle(cells)
    notebook: nbformat.NotebookNode = v4.new_notebook(cells=cells)
    return notebook


def _code_cell(bundle: dict[str, str]) -> nbformat.NotebookNode:
    output = v4.new_output("display_data", bundle)
    cell: nbformat.NotebookNode = v4.new_code_cell("made()", execution_count=1, outputs=[output])
    return cell


def plain(executed: Path, report: Path) -> None:
    """Convert with plain nbconvert and asciidoctor-pdf."""
    exporter = ASCIIDocExporter()  # type: ignore[no-untyped-call]
    document, resources = exporter.from_filename(str(executed))
    source = report.with_suffix(".asciidoc")
    source.write_text(document, encoding="utf-8")
    for name, content in resources["outputs"].items():
        (report.parent / name).write_bytes(content)
    command = ["asciidoctor-pdf", "-o", str(report), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=LONGEST)


def own(executed: Path, report: Path) -> None:
    """Convert as AutoFlow does."""
    convert(
        executed,
        report,
        report_format=ReportFormat.PDF,
        context=ReportContext(workflow="benchmark", dates="2016-01-07"),
        template=CONFIG_DIR / "asciidoc_extended.tpl",
        inputs_dir=executed.parent,
    )


def seconds(way: Callable[[Path, Path], None], executed: Path) -> float:
    """Return the wall time of one conversion."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        way(executed, Path(folder) / "report.pdf")
        return time.perf_counter() - start


def main() -> int:
    """Time both ways, and print the medians and the goal."""
    parser = argparse.ArgumentParser(description="Time AutoFlow's conversion of a report against the plain one.")
    parser.add_argument("--rounds", type=int, default=7, help="how often each way converts it (default: 7)")
    add_options(parser)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    ways: dict[str, Callable[[Path, Path], None]] = {"plain": plain, "autoflow": own}
    times: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder:
        executed = Path(folder) / "executed.ipynb"
        nbformat.write(notebook(), executed)
        for number in range(options.rounds):
            for name in sorted(ways, reverse=bool(number % 2)):
                times[name].append(seconds(ways[name], executed))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name:10} {medians[name]:6.2f} s  (median of {', '.join(f'{value:.2f}' for value in values)})")
    goal = Goal("report: AutoFlow / plain", medians["autoflow"] / medians["plain"], RATIO)
    return judge([goal], check=options.check, figures=options.figures)


if __name__ == "__main__":
    sys.exit(main())

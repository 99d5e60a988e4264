"""Headings and what follows them."""

import base64
import io
import random
import re
import subprocess
from pathlib import Path

import pytest
from nbformat import NotebookNode
from PIL import Image

from tests.reports.convert import code, notebook, pages_of, prints, report_of, shows

KINDS = (
    "paragraph",
    "low picture",
    "high picture",
    "table",
    "long table",
    "wide table",
    "list",
    "text",
    "code",
    "formula",
)


def picture(width: int, height: int) -> NotebookNode:
    drawn = io.BytesIO()
    Image.new("RGB", (width, height), "#446688").save(drawn, "PNG")
    return shows(image_png=base64.b64encode(drawn.getvalue()).decode())


def table(rows: int, columns: int = 2) -> NotebookNode:
    row = "<tr>" + "".join(f"<td>value{number}</td>" for number in range(columns)) + "</tr>"
    return shows(text_html=f"<table>{row * rows}</table>")


def below(kind: str, source: random.Random) -> NotebookNode | str:
    """Return a cell to put below a heading."""
    cells: dict[str, NotebookNode | str] = {
        "paragraph": "words " * source.randint(1, 200),
        "low picture": code(picture(400, 200)),
        "high picture": code(picture(500, source.choice([700, 3000]))),
        "table": code(table(source.choice([4, 15]))),
        "long table": code(table(70)),
        "wide table": code(table(20, columns=16)),
        "list": "- item\n" * source.randint(1, 20),
        "text": code(prints("line\n" * source.choice([2, 60]))),
        "code": "```\nx = 1\n```",
        "formula": "$$\\frac{a}{\\sqrt{b}}$$",
    }
    return cells[kind]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a report with many headings, each followed by something else."""
    source = random.Random(14)
    cells: list[NotebookNode | str] = ["# Title"]
    for number in range(150):
        cells.append(f"{'#' * source.choice([2, 2, 3])} HEADING {number}")
        if source.random() < 0.8:
            cells.append(below(source.choice(KINDS), source))
    return report_of(notebook(*cells, "the end"), tmp_path_factory.mktemp("headings"))


def test_no_heading_stands_alone_at_the_foot_of_a_page(report: Path) -> None:
    boxes = subprocess.run(["pdftotext", "-bbox", str(report), "-"], check=True, capture_output=True, text=True).stdout
    pages = boxes.split("<page ")[1:]

    assert len(pages) > 30
    assert [number for number, page in enumerate(pages, start=1) if _ends_with_heading(page, report, number)] == []


def _ends_with_heading(page: str, report: Path, number: int) -> bool:
    ends = [float(end) for end in re.findall(r'yMax="([0-9.]+)">HEADING<', page)]
    if not ends:
        return False
    command = ["pdftoppm", "-r", "72", "-gray", "-f", str(number), "-l", str(number), str(report)]
    with Image.open(io.BytesIO(subprocess.run(command, check=True, capture_output=True).stdout)) as drawn:
        footer = drawn.height - 60
        darkest = drawn.crop((0, int(max(ends)) + 2, drawn.width, footer)).getextrema()[0]
    return isinstance(darkest, float | int) and darkest > 200


def test_the_heading_of_a_turned_table_is_on_its_page(tmp_path: Path) -> None:
    report = report_of(notebook("# T", "text", "## Wide", code(table(20, columns=16)), "## After"), tmp_path)

    assert [size.split()[0] for size in pages_of(report)] == ["595.28", "841.89", "595.28"]
    text = subprocess.run(
        ["pdftotext", "-f", "2", "-l", "2", str(report), "-"], check=True, capture_output=True, text=True
    )
    assert text.stdout.startswith("Wide")


def test_headings_with_the_same_text_need_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report_of(notebook("# T", "## Same", "a", "## Same", "b", "[link](#Same)"), tmp_path)

    assert not caplog.records

"""Tables whose cells cover many rows and columns, or have more text than a page."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoflow.specs import ReportFormat
from tests.reports.convert import code, notebook, pages_of, report_of, shows, text_of

MANY = 60
"""More rows than a page has."""


def words(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}q" for number in range(count)]


def frame(index: pd.MultiIndex) -> str:
    """Return a DataFrame with this index as HTML."""
    return str(pd.DataFrame({"n": words("n", len(index))}, index=index).to_html())


def table(*rows: str, head: str = "") -> str:
    return f"<table>{f'<thead>{head}</thead>' if head else ''}<tbody>{''.join(rows)}</tbody></table>"


LABELS = [(label, "inner" if number < 80 else "last", number) for number, label in enumerate(["outer"] * 95)]
LONG = " ".join(words("w", 1200))

TABLES = {
    "a label over many rows": (frame(pd.MultiIndex.from_product([["North"], range(MANY)])), ["North", *words("n", 60)]),
    "two labels over many rows": (
        frame(pd.MultiIndex.from_tuples(LABELS)),
        ["outer", "inner", "last", *words("n", 95)],
    ),
    "more text than a page": (table(f"<tr><td>{LONG}</td><td>beside</td></tr>"), [*words("w", 1200), "beside"]),
    "marked text": (table(f"<tr><td><b>{LONG}</b></td><td><code>{LONG}</code></td></tr>"), words("w", 1200)),
    "lines": (table(f"<tr><td>{'<br>'.join(words('l', 200))}</td></tr>"), words("l", 200)),
    "a long text over three rows": (
        table(f"<tr><td rowspan=3>{LONG}</td><td>b1q</td></tr>", "<tr><td>b2q</td></tr>", "<tr><td>b3q</td></tr>"),
        [*words("w", 1200), "b1q", "b2q", "b3q"],
    ),
    "a head longer than a page": (
        table(*(f"<tr><td>{word}</td></tr>" for word in words("d", 90)), head=f"<tr><th>{LONG}</th></tr>"),
        [*words("w", 1200), *words("d", 90)],
    ),
    "a head over many columns": (
        table(
            "<tr>" + "".join(f"<td>{word}</td>" for word in words("d", 30)) + "</tr>",
            head=f"<tr><th colspan=30>{' '.join(words('h', 80))}</th></tr>",
        ),
        [*words("h", 80), *words("d", 30)],
    ),
    "a head over two rows": (
        table(
            *("<tr><td>a</td><td>b</td></tr>" for _ in range(70)),
            head="<tr><th rowspan=2>tall</th><th>upper</th></tr><tr><th>lower</th></tr>",
        ),
        ["tall", "upper", "lower"],
    ),
    "a cell that claims more rows than there are": (table("<tr><td rowspan=500>first</td><td>x</td></tr>"), ["first"]),
    "rows without cells": (
        table("<tr><td rowspan=4>first</td></tr>", "<tr></tr>", "<tr></tr>", "<tr><td>fourth</td></tr>"),
        ["first", "fourth"],
    ),
    "cells that overlap": (
        table("<tr><td>a</td><td rowspan=3>b</td></tr>", "<tr><td colspan=2 rowspan=9>overlaps</td></tr>")
        + table("<tr><td rowspan=2 colspan=2>c</td></tr>", "<tr><td>outside</td></tr>"),
        ["overlaps", "outside"],
    ),
    "labels wider than the page": (
        table("<tr>" + "".join(f"<th>some longer label {word}</th>" for word in words("t", 20)) + "</tr>"),
        words("t", 20),
    ),
    "a styled table": (
        pd.DataFrame({"n": words("n", MANY)}, index=pd.MultiIndex.from_product([["North"], range(MANY)]))
        .style.set_caption("Caption of the table")
        .to_html(),
        ["Caption of the table", *words("n", MANY)],
    ),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of a notebook with all tables, each with a title."""
    cells = [cell for name, (html, _) in TABLES.items() for cell in (f"## {name}", code(shows(text_html=html)))]
    return report_of(notebook("# Tables", *cells), tmp_path_factory.mktemp("tables"))


def test_every_cell_is_legible(report: Path) -> None:
    text = text_of(report)

    for name, (_, texts) in TABLES.items():
        assert [lost for lost in texts if lost not in text] == [], name


def test_the_pdf_is_valid(report: Path) -> None:
    assert errors_in(report) == ""


def test_a_label_is_repeated_on_each_page(tmp_path: Path) -> None:
    html = frame(pd.MultiIndex.from_product([["North"], range(90)]))

    report = report_of(notebook("# T", code(shows(text_html=html))), tmp_path)

    assert len(pages_of(report)) == 3
    assert [page.count("North") for page in text_of(report).split("\f")[:3]] == [1, 1, 1]


def test_label_over_columns_may_continue_on_the_next_page(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(300)]
    head = "<tr><td colspan=3 rowspan=5>label</td><td>second</td><th colspan=2>third</th></tr>"
    table = f"<table><thead>{head}</thead><tbody><tr><td>{' '.join(words)}</td></tr></tbody></table>"
    # The page ends within the table.
    report = report_of(notebook("# T", *["text"] * 18, code(shows(text_html=table))), tmp_path)
    assert {"label", "second", "third", *words} <= set(text_of(report).split())


def test_html_reports_keep_cells_over_many_rows(tmp_path: Path) -> None:
    html = frame(pd.MultiIndex.from_product([["North"], range(MANY)]))

    page = report_of(notebook(code(shows(text_html=html))), tmp_path, report_format=ReportFormat.HTML).read_text()

    assert page.count("North") == 1
    assert f'rowspan="{MANY}"' in page


def errors_in(report: Path) -> str:
    """Return what poppler complains about while it draws a PDF."""
    command = ["pdftocairo", "-pdf", str(report), "/dev/null"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, Sequence[str]]:
    """Return an HTML table with random spans, which may overlap, and the texts in it."""
    columns = draw(st.integers(1, 8))
    number = iter(range(100_000))
    texts: list[str] = []

    def cell() -> str:
        new = [f"k{next(number):x}z" for _ in range(draw(st.sampled_from([1, 1, 1, 1, 5, 300])))]
        texts.extend(new)
        spans = draw(st.sampled_from(["", "", "", "rowspan=2", "rowspan=40", "colspan=2", "colspan=3 rowspan=5"]))
        tag = draw(st.sampled_from(["td", "td", "th"]))
        return f"<{tag} {spans}>{draw(st.sampled_from([' ', ' ', '<br>'])).join(new)}</{tag}>"

    def rows(count: int) -> Iterator[str]:
        for _ in range(count):
            yield "<tr>" + "".join(cell() for _ in range(draw(st.integers(0, columns)))) + "</tr>"

    head = "".join(rows(draw(st.integers(0, 2))))
    body = "".join(rows(draw(st.sampled_from([1, 3, 20]))))
    return f"<table>{f'<thead>{head}</thead>' if head else ''}<tbody>{body}</tbody></table>", texts


@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of tables that failed
@settings(max_examples=3, suppress_health_check=list(HealthCheck))
@given(st.lists(tables(), min_size=4, max_size=4))
def test_no_cell_of_any_table_is_lost(given_tables: list[tuple[str, Sequence[str]]]) -> None:
    cells = [code(shows(text_html=html)) for html, _ in given_tables]
    with tempfile.TemporaryDirectory() as folder:
        report = report_of(notebook("# T", *cells), Path(folder))
        text = text_of(report)

        assert errors_in(report) == ""
    for html, texts in given_tables:
        assert [lost for lost in texts if lost not in text] == [], html

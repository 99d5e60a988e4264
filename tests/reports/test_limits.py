"""Notebooks that contain too much, which must cost neither a failed report nor the time of others."""

import re
from pathlib import Path

from nbformat import NotebookNode

from autoflow.reports.limits import MOST_OF_A_REPORT, Ledger
from autoflow.specs import ReportFormat
from tests.reports.convert import PIXEL, code, notebook, prints, report_of, shows, words_of


def table(rows: int, columns: int) -> str:
    row = "<tr>" + "".join(f"<td>{number}</td>" for number in range(columns)) + "</tr>"
    return f"<table>{row * rows}</table>"


def hostile_cells() -> dict[str, list[NotebookNode | str]]:
    return {
        "a table of 300 rows and 2,000 columns": [code(shows(text_html=table(300, 2000)))],
        "combining marks": ["a" + "\u0301" * 30_000, code(prints("a" + "\u0301" * 30_000))],
        "characters without a width": ["a\u200b" * 20_000 + "\u202e" * 20_000],
        "nested elements": [code(shows(text_html="<b>" * 20_000 + "x")), "<b>" * 12_000 + "x"],
        "nested lists": [code(shows(text_html="<ul><li>" * 2_000 + "x"))],
        "nested tables": [code(shows(text_html="<table><tr><td>" * 300 + "x"))],
        "nested quotes": [">" * 5_000 + " x"],
        "brackets": ["[" * 40_000],
        "underscores": ["_a" * 25_000],
        "stars": ["*a **b " * 7_000],
        "dollars": ["$a{" * 15_000],
        "backticks": ["".join("`" * length + "a" for length in range(300))],
        "a style without end": [code(shows(text_html=f"<style>{'a,' * 200_000}</style>x"))],
        "escape sequences": [code(prints("\x1b[" * 245_000))],
        "lines of code": ["```\n" + "x\n" * 20_000 + "```"],
        "comments": [code(shows(text_html="<!--" * 100_000 + "x"))],
    }


def test_what_is_hard_to_read_is_bounded(tmp_path: Path) -> None:
    hostile_by_name = hostile_cells()
    cells = [cell for name, hostile in hostile_by_name.items() for cell in (f"## {name}", *hostile)]

    words = words_of(report_of(notebook("# T", *cells, "the end"), tmp_path, timeout=600.0))

    assert "plain text only" not in words
    assert all(name in words for name in hostile_by_name)
    assert "the end" in words
    assert "The first 60 of 2,000 columns are shown." in words
    assert "more marks]" in words
    assert re.search(r"\[\d\d,\d+ more lines\]", words)


def too_much() -> dict[str, list[NotebookNode | str]]:
    return {
        "formulas": [" ".join(f"$\\sqrt{{x_{{{number}}}}}$" for number in range(250))],
        "footnotes": ["\n\n".join(f"text[^{number}]\n\n[^{number}]: note" for number in range(400))],
        "links": [" ".join(f"[{number}](http://x.y)" for number in range(100))] * 11,
        "figures": [code(*[shows(image_png=PIXEL) for _ in range(400)])],
        "outputs": [code(*[prints(f"{number}\n") for number in range(2_000)])],
    }


def test_what_is_too_much_is_cut_with_a_note(tmp_path: Path) -> None:
    much = too_much()
    cells = [cell for given in much.values() for cell in given]

    words = words_of(report_of(notebook("# T", *cells, "the end"), tmp_path, timeout=600.0))

    assert "plain text only" not in words
    assert "the end" in words
    for kind in much:
        assert re.search(rf"it shows {MOST_OF_A_REPORT[kind]:,} of [\d,]+ {kind}\.", words), kind


def test_text_beyond_the_limit_is_cut_where_the_room_ends(tmp_path: Path) -> None:
    printed = "word " * 380 + "\n"
    cells = [code(prints(printed * 27)) for _ in range(6)]

    # HTML, as a PDF of so many pages takes a hundred times as long.
    words = words_of(report_of(notebook("# T", *cells, "the end"), tmp_path, report_format=ReportFormat.HTML))

    assert "more characters]" in words
    assert f"it shows {MOST_OF_A_REPORT['characters']:,} of" in words


def test_the_ledger_keeps_what_still_fits() -> None:
    ledger = Ledger(most={"characters": 10})

    assert [ledger.takes("characters", count) for count in (6, 6, 4)] == [True, False, True]
    assert list(ledger.notes()) == ["This report is not complete: it shows 10 of 16 characters."]

from pathlib import Path

import pytest

from autoflow.specs import ReportFormat
from tests.reports.convert import code, notebook, pages_of, report_of, right_edge_of, shows, text_of, words_of
from tests.waiting import LONG


def test_numbers_in_a_table_stand_on_the_right(tmp_path: Path) -> None:
    table = "<table><thead><tr><th></th><th>n</th></tr></thead><tbody>{}</tbody></table>"
    rows = "".join(f"<tr><th>{number}</th><td>{10**number}</td></tr>" for number in range(5))

    report = report_of(notebook(code(shows(text_html=table.format(rows)))), tmp_path)

    ends = [right_edge_of(f"{10**number}", report) for number in range(1, 5)]
    assert max(ends) - min(ends) < 0.5
    assert right_edge_of("n", report) == pytest.approx(ends[0], abs=0.5)


def test_html_tables_without_end_tags_are_tables(tmp_path: Path) -> None:
    text = text_of(report_of(notebook(code(shows(text_html="<table><tr><td>a<td>b<tr><td>c<td>d</table>"))), tmp_path))

    assert [line.split() for line in text.splitlines() if line.split() in (["a", "b"], ["c", "d"])]


def test_a_table_of_100000_rows_is_clipped_and_says_so(tmp_path: Path) -> None:
    rows = "".join(f"<tr><td>row {number}</td></tr>" for number in range(100_000))

    text = text_of(report_of(notebook(code(shows(text_html=f"<table>{rows}</table>"))), tmp_path))

    assert "row 99\n" in text
    assert "row 100\n" not in text
    assert "of 100,000 rows are shown" in text


def test_a_wide_table_is_split_so_that_nothing_is_cut_off(tmp_path: Path) -> None:
    head = "".join(f"<th>heading{number}</th>" for number in range(40))
    body = "".join(f"<td>value{number}</td>" for number in range(40))
    table = f"<table><thead><tr><th></th>{head}</tr></thead><tbody><tr><th>index</th>{body}</tr></tbody></table>"

    text = text_of(report_of(notebook(code(shows(text_html=table))), tmp_path))

    assert all(f"heading{number}" in text and f"value{number}" in text for number in range(40))
    assert text.count("index") > 1


def test_a_wide_and_long_table_is_on_a_turned_page(tmp_path: Path) -> None:
    row = "<tr>" + "".join(f"<td>value{number}</td>" for number in range(16)) + "</tr>"

    sizes = pages_of(report_of(notebook("# T", code(shows(text_html=f"<table>{row * 30}</table>")), "after"), tmp_path))

    assert any(size.startswith("841") for size in sizes)
    assert any(size.startswith("595") for size in sizes)


def test_the_text_of_a_huge_cell_is_clipped_not_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = f"<table><tr><td>{'word ' * 20_000}</td><td>beside</td></tr></table>"

    text = text_of(report_of(notebook(code(shows(text_html=table)), "after"), tmp_path))

    assert "…" in text
    assert "after" in text
    assert not caplog.records


@pytest.mark.parametrize("span", ["99999999", "'99999999'", "' 99999999 '", "0x5ffffff", "&#57;9999999"])
def test_a_cell_that_claims_millions_of_columns_is_read_quickly(span: str, tmp_path: Path) -> None:
    rows = (
        f"<tr><td title='>' COLSPAN = {span}>first</td><td>x</td></tr><tr><td>y</td><td rowspan=9999999>last</td></tr>"
    )
    table = f"<table>{rows}</table>"

    words = words_of(report_of(notebook(table, code(shows(text_html=table))), tmp_path, timeout=LONG))

    assert words.count("last") == 2


def test_a_cell_covers_the_columns_that_it_says(tmp_path: Path) -> None:
    table = "<table><tr><th colspan=2>a</th><th colspan='1'>b</th></tr><tr><td>c</td><td>d</td><td>e</td></tr></table>"

    page = report_of(notebook(code(shows(text_html=table))), tmp_path, report_format=ReportFormat.HTML).read_text()

    assert page.count('colspan="2"') == 1

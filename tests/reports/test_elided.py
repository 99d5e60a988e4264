from pathlib import Path

import pandas as pd
import pytest

from autoflow.reports.elided import with_note_in_html, with_note_in_text
from tests.reports.convert import code, notebook, prints, report_of, shows, words_of

ROWS, COLUMNS = 'pd.set_option("display.max_rows", None)', 'pd.set_option("display.max_columns", None)'
LONG = pd.DataFrame({"n": range(300)})
WIDE = pd.DataFrame([range(200)])
LABELLED = pd.DataFrame({"n": range(300)}, index=pd.MultiIndex.from_product([["x"], range(300)]))


@pytest.mark.parametrize(
    ("frame", "options"),
    [
        (LONG, {ROWS}),
        (WIDE, {COLUMNS}),
        (pd.concat([WIDE] * 300), {ROWS, COLUMNS}),
        (LABELLED, {ROWS}),
        (WIDE.T, {ROWS}),
    ],
)
def test_a_frame_that_lacks_something_says_how_to_show_it(frame: pd.DataFrame, options: set[str]) -> None:
    with pd.option_context("display.max_rows", 60, "display.max_columns", 20, "display.width", 80):
        shown = with_note_in_html(str(frame._repr_html_())), with_note_in_text(str(frame))

    for text in shown:
        assert {option for option in (ROWS, COLUMNS) if option in text} == options


def test_a_frame_that_is_complete_has_no_note() -> None:
    with pd.option_context("display.max_rows", None, "display.show_dimensions", True):
        html, text = str(LONG._repr_html_()), str(LONG)

    assert with_note_in_html(html) == html
    assert with_note_in_text(text) == text


def test_a_series_says_so_too_but_not_what_was_printed() -> None:
    assert ROWS in with_note_in_text(str(LONG.n))
    assert with_note_in_text("wait ...\n...\ndone") == "wait ...\n...\ndone"


def test_the_note_is_in_the_report(tmp_path: Path) -> None:
    outputs = code(shows(text_html=str(LONG._repr_html_()), text_plain="x"), prints(str(LONG)))

    assert words_of(report_of(notebook(outputs), tmp_path)).count("display.max_rows") == 2

from pathlib import Path

import pytest

from autoflow.notebooks.reading import HOW_TO_TAG
from tests.conftest import write_notebook
from tests.parser.good_file import ONLY, REPORT, changed, parse, problems


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "        timeout: 90",
            "        colour: red",
            f"9: {REPORT}.colour: unknown key; expected filename, parameters, output or timeout",
        ),
        (
            "filename: report.ipynb",
            "filenam: report.ipynb",
            f"6: {REPORT}.filenam: unknown key; did you mean 'filename'?",
        ),
        ("        filename: report.ipynb\n", "", f"5: {REPORT}.filename: missing key"),
        ("filename: report.ipynb", "filename:", f"6: {REPORT}.filename: missing value"),
        (
            "filename: report.ipynb",
            "filename: [report.ipynb]",
            f"6: {REPORT}.filename: expected text, not ['report.ipynb']",
        ),
        ("format: pdf, ", "", f"8: {REPORT}.output.format: missing key"),
        ("format: pdf", "format: PDF", f"8: {REPORT}.output.format: unknown format 'PDF'; expected pdf or html"),
        ("format: pdf", "format: [pdf, pdf]", f"8: {REPORT}.output.format[1]: duplicate item 'pdf'"),
        ("format: pdf", "format: []", f"8: {REPORT}.output.format: the list is empty; expected at least one item"),
        ("timeout: 90", "timeout: 0", f"9: {REPORT}.timeout: expected more than 0 seconds, not 0"),
        (
            "timeout: 90",
            "timeout: true",
            f"9: {REPORT}.timeout: expected a number of seconds from 0 to 31622400, not true",
        ),
        (
            "timeout: 90",
            "timeout: .inf",
            f"9: {REPORT}.timeout: expected a number of seconds from 0 to 31622400, not inf",
        ),
        (
            "{path: run, date: reference_date}",
            "[path]",
            f"7: {REPORT}.parameters: expected a mapping (key: value), not ['path']",
        ),
        (
            "date: reference_date",
            "date: 2016-01-01",
            (
                f"7: {REPORT}.parameters.date: expected a workflow parameter, a notebook's label, date_ranges, "
                "flowapi_url or reference_date, not 2016-01-01"
            ),
        ),
        (
            "date: reference_date",
            "dates: reference_date",
            (
                f"7: {REPORT}.parameters.dates: the notebook's cell tagged 'parameters' does not declare this "
                "parameter; did you mean 'date'?"
            ),
        ),
        (
            "date: reference_date",
            "class: reference_date",
            f"7: {REPORT}.parameters.class: not a valid Python name; rename the parameter",
        ),
        (
            "{filename: plain.ipynb}",
            "{filename: plain.ipynb, parameters: {x: date_ranges}}",
            (
                f"17: {ONLY}.parameters: the notebook has no cell tagged 'parameters'; tag the cell that declares its "
                f"parameters: {HOW_TO_TAG}"
            ),
        ),
        (
            "only:",
            "flowapi_url:",
            (
                "17: workflows[1].notebooks.flowapi_url: 'flowapi_url' is the name of an automatic parameter; "
                "choose another label"
            ),
        ),
        ("only:", "' ':", "17: workflows[1].notebooks[' ']: a label must be visible characters on one line"),
    ],
)
def test_one_mistake_in_a_notebook_gives_one_line(inputs: Path, old: str, new: str, expected: str) -> None:
    assert problems(inputs, changed((old, new))) == [expected]


def test_parameters_of_a_notebook_that_cannot_be_inspected_are_accepted(inputs: Path) -> None:
    kernelspec = {"name": "ir", "display_name": "R", "language": "R"}
    write_notebook(inputs / "r.ipynb", parameters="x <- 1", kernelspec=kernelspec)
    parse(inputs, changed(("{filename: plain.ipynb}", "{filename: r.ipynb, parameters: {any.name: date_ranges}}")))


def test_notebook_without_a_kernelspec_counts_as_python(inputs: Path) -> None:
    write_notebook(inputs / "bare.ipynb", parameters="x = 1", kernelspec=None)
    notebook = "{filename: bare.ipynb, parameters: {y: date_ranges}}"
    assert problems(inputs, changed(("{filename: plain.ipynb}", notebook))) == [
        f"17: {ONLY}.parameters.y: the notebook's cell tagged 'parameters' does not declare this parameter",
    ]

"""Values that notebooks probably do not expect are found, and the file stays valid."""

from pathlib import Path

import pytest

from tests.conftest import write_notebook
from tests.parser.good_file import ENTRY, GOOD, ONLY, REPORT, RUN, changed, parse

DECLARED = "line 3 of the cell tagged 'parameters'"


def findings(inputs: Path, text: str) -> list[str]:
    """Return the findings in a valid file, without the file's name."""
    found = parse(inputs, text).findings
    assert not any(finding.fails_runs for finding in found)
    return [finding.text.removeprefix("workflows.yml:") for finding in found]


def run_with(inputs: Path, default: str) -> None:
    """Write the notebook that gets `count` as its parameter `n`, with a line that declares it."""
    write_notebook(inputs / "sub" / "run.ipynb", parameters=f"url = ''\nranges = []\n{default}")


def test_good_file_has_no_findings(inputs: Path) -> None:
    assert findings(inputs, GOOD) == []


def test_value_of_for_each_is_found_on_its_own_line(inputs: Path) -> None:
    run_with(inputs, "n = 20")
    text = changed(
        ("      parameters: {count: 3}", "      for_each:\n        count:\n          - 3\n          - north")
    )
    (line,) = findings(inputs, text)
    assert line.startswith(f"27: {ENTRY}.for_each.count[1]: 'north' is text, but notebook 'run' declares another type")


@pytest.mark.parametrize(
    ("default", "value", "kind", "hint"),
    [
        ("n = 0.5", "0,5", "'0,5' is text", "; did you mean 0.5?"),
        ("n = 0.5", "'7'", "'7' is text", "; did you mean 7?"),
        ("n = 20", "1e3", "'1e3' is text", "; did you mean 1000?"),
        ("n = 20", "20.0", "20.0 is a number", "; did you mean 20?"),
        ("n = 20", "2.5", "2.5 is a number", ""),
        ("n = 20", "true", "true is a boolean", ""),
        ("n = False", "1", "1 is a whole number", "; did you mean true?"),
        ("n = False", "'no'", "'no' is text", "; did you mean false?"),
        ("n = ''", "12", "12 is a whole number", "; did you mean '12'?"),
        ("n = []", "north", "'north' is text", "; did you mean ['north']?"),
        ("n: int = 3", "null", "null is an empty value", ""),
        ("n: list[str] = []", "[1, 2]", "[1, 2] is a list", ""),
        ("n = {}", "[]", "[] is a list", ""),
    ],
)
def test_value_of_another_type_than_the_default_is_found(
    inputs: Path, default: str, value: str, kind: str, hint: str
) -> None:
    run_with(inputs, default)
    text = changed(("      parameters: {count: 3}", f"      parameters:\n        count: {value}"))
    assert findings(inputs, text) == [
        (
            f"25: {ENTRY}.parameters.count: {kind}, but notebook 'run' declares another type: `{default}` in "
            f"run.ipynb, {DECLARED}{hint}"
        ),
    ]


@pytest.mark.parametrize(
    ("default", "value"),
    [
        ("n = 0.5", "1"),
        ("n = None", "north"),
        ("n = ()", "[1]"),
        ("n = ''", "2016-01-01"),
        ("n: int | None = 3", "null"),
    ],
)
def test_value_that_fits_is_not_found(inputs: Path, default: str, value: str) -> None:
    run_with(inputs, default)
    assert findings(inputs, changed(("{count: 3}", f"{{count: {value}}}"))) == []


def test_parameter_that_the_notebook_declares_but_does_not_get_is_found(inputs: Path) -> None:
    write_notebook(inputs / "report.ipynb", parameters="path = ''\ndate = ''\ncount = 1")
    (finding,) = findings(inputs, GOOD)
    assert finding == (
        f"7: {REPORT}.parameters.count: this is a parameter of the workflow, and the notebook declares it, but does "
        f"not get its value (`count = 1` in report.ipynb, {DECLARED}); add 'count: count' here, or rename it in the "
        "notebook"
    )


def test_automatic_parameter_that_the_notebook_declares_but_does_not_get_is_found(inputs: Path) -> None:
    write_notebook(inputs / "plain.ipynb", parameters="reference_date = ''\nother = 1")
    (finding,) = findings(inputs, GOOD)
    assert finding == (
        f"17: {ONLY}.parameters.reference_date: this is an automatic parameter, and the notebook declares it, but does "
        "not get its value (`reference_date = ''` in plain.ipynb, line 1 of the cell tagged 'parameters'); add "
        "'reference_date: reference_date' here, or rename it in the notebook"
    )


def test_automatic_value_of_another_type_than_the_default_is_found(inputs: Path) -> None:
    write_notebook(inputs / "sub" / "run.ipynb", parameters="url = ''\nranges = ''\nn = 1")
    write_notebook(inputs / "report.ipynb", parameters="path = 3\ndate = ''")
    assert findings(inputs, GOOD) == [
        (
            f"7: {REPORT}.parameters.path: the path of notebook 'run' is text, but the notebook declares another type: "
            "`path = 3` in report.ipynb, line 1 of the cell tagged 'parameters'"
        ),
        (
            f"14: {RUN}.parameters.ranges: date_ranges is a list of pairs of dates, but the notebook declares another "
            "type: `ranges = ''` in run.ipynb, line 2 of the cell tagged 'parameters'"
        ),
    ]


def test_findings_do_not_make_a_file_another_one(inputs: Path) -> None:
    before = parse(inputs, GOOD)
    run_with(inputs, "n = ''")
    after = parse(inputs, GOOD)
    assert after.findings != before.findings
    assert after == before

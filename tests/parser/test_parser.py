import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoflow.dates.stencil import DateStencil
from autoflow.errors import WorkflowsFileError
from autoflow.specs import NO_TIMEOUT, OutputSpec, ReportFormat, TriggerSpec
from tests.conftest import write_notebook
from tests.parser.good_file import GOOD, changed, fill_inputs, lines_of, parse, problems

FOLDER = Path(__file__).resolve().parent


def test_good_file_becomes_specs(inputs: Path) -> None:
    file = parse(inputs, GOOD)
    flows, other = file.workflows
    assert [notebook.label for notebook in flows.notebooks] == ["run", "report"]
    run, report = flows.notebooks
    assert run.path == inputs / "sub" / "run.ipynb"
    assert run.parameters == {"url": "flowapi_url", "ranges": "date_ranges", "n": "count"}
    assert run.output is None
    assert run.timeout is None
    assert report.output == OutputSpec(formats=(ReportFormat.PDF,), template=inputs / "custom.tpl")
    assert report.timeout == 90.0
    assert file.sensor.schedule == "0 6 * * *"
    assert file.sensor.cdr_types == ("calls", "sms")
    first, second = file.sensor.triggers
    assert first.workflow is flows
    assert first.parameters == {"count": 3}
    assert str(first.earliest_date) == "2016-01-02"
    assert first.date_stencil == DateStencil([["2016-01-01", "2016-01-03"], -3, [-2, 0]])
    assert (first.retry_delay, first.max_attempts) == (5.0, 2)
    assert second == TriggerSpec(workflow=other)


@pytest.mark.parametrize("value", ["null", "~", ""])
def test_timeout_without_a_value_is_no_limit(inputs: Path, value: str) -> None:
    file = parse(inputs, changed(("timeout: 90", f"timeout: {value}")))
    assert [notebook.timeout for notebook in file.workflows[0].notebooks] == [None, NO_TIMEOUT]


@pytest.mark.parametrize(
    "changes",
    [
        [("'0 6 * * *'", "null")],
        [("'0 6 * * *'", "")],
        [("[calls, sms]", "null")],
        [("  cdr_types: [calls, sms]\n", "")],
        [("format: pdf", "format: [html, pdf]")],
        [("timeout: 90", "timeout: 0.5")],
        [("retry_delay: 5", "retry_delay: 0")],
        [("earliest_date: 2016-01-02", "earliest_date: '2016-01-02'")],
        [("{only: {filename: plain.ipynb}}", "{only: {filename: plain.ipynb, parameters: null, output: }}")],
        [("    - workflow_name: other\n", "")],
    ],
)
def test_other_good_files_are_accepted(inputs: Path, changes: list[tuple[str, str]]) -> None:
    parse(inputs, changed(*changes))


# Several mistakes, and none that is a mere consequence of another.


def test_thirty_mistakes_give_thirty_lines(tmp_path: Path) -> None:
    write_notebook(tmp_path / "count.ipynb", "1")
    write_notebook(tmp_path / "untagged.ipynb", "1")
    write_notebook(tmp_path / "report.ipynb", parameters="path = ''\ndate = ''\ntitle = ''")
    (tmp_path / "broken.ipynb").write_text('{"cells": ')
    found = problems(tmp_path, (FOLDER / "thirty_mistakes.yml").read_text(encoding="utf-8"))
    expected = (FOLDER / "thirty_mistakes.txt").read_text(encoding="utf-8").splitlines()
    assert [f"workflows.yml:{problem}" for problem in found] == expected
    assert len(found) == 30


def test_independent_mistakes_are_all_reported_in_the_order_of_the_file(inputs: Path) -> None:
    text = changed(
        ("filename: report.ipynb", "filename: repork.ipynb"),
        ("{path: run, date: reference_date}", "{path: run, unknown: reference_date}"),
        ("format: pdf", "format: doc"),
        ("timeout: 90", "timeout: soon"),
        ("n: count", "m: count"),
        ("{only: {filename: plain.ipynb}}", "{date_ranges: {filename: plain.ipynb, colour: red}}"),
        ("'0 6 * * *'", "'6 o clock'"),
        ("[calls, sms]", "[calls, calls]"),
        ("{count: 3}", "{}"),
        ("- -3", "- noon"),
        ("max_attempts: 2", "max_attempts: many"),
        ("- workflow_name: other", "- workflow_name: another one"),
    )
    assert lines_of(problems(inputs, text)) == [
        *["6", "8", "9", "15", "17", "17", "20", "21", "24", "28", "31", "32"],
    ]


def test_list_of_problems_is_cut_off_after_a_thousand(inputs: Path) -> None:
    text = GOOD + "".join(f"key{number}: 1\n" for number in range(2_000))
    assert len(problems(inputs, text)) == 1_000


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        # A workflow without a valid name may be the one that the sensor's entry means.
        ([("  - name: other\n    ", "  - ")], ["16"]),
        # Parameters under a misspelt key are still the parameters.
        ([("        parameters:\n", "        parametres:\n")], ["12"]),
        ([("      parameters: {count: 3}", "      paramaters: {count: 3}")], ["24"]),
        # Without the notebook, its parameters are not known.
        ([("sub/run.ipynb", "sub/ron.ipynb")], ["11"]),
        # A source that is wrong may be the one that uses the parameter.
        ([("n: count", "n: 5")], ["15"]),
        ([("          n: count\n", "          n: !odd count\n")], ["15"]),
        ([("{count: 3}", "[count]")], ["24"]),
        ([("notebooks: {only: {filename: plain.ipynb}}", "notebooks: none")], ["17"]),
        ([("{only: {filename: plain.ipynb}}", "{only: plain.ipynb}")], ["17"]),
        ([("available_dates_sensor:\n", "available_dates_sensor: none\nrest:\n")], ["19", "20"]),
        # Two cycles through one notebook are two mistakes.
        ([("date: reference_date", "date: report, other: count"), ("n: count", "n: report")], ["7", "15"]),
        # It is unclear which of the two names is meant.
        ([("  - name: other\n    ", "    name: other\n    ")], ["16", "17"]),
    ],
)
def test_consequences_of_a_mistake_are_not_reported(
    inputs: Path, changes: list[tuple[str, str]], lines: list[str]
) -> None:
    assert lines_of(problems(inputs, changed(*changes))) == lines


# Files of random text.

FRAGMENTS = [
    "*",
    "&a ",
    "*a",
    "<<: ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "'",
    '"',
    "\n",
    "\t",
    " ",
    "!!set ",
    "|",
    "\x00",
    "é",
    "? ",
    "null",
    "1",
    "\\",
]


@pytest.fixture(scope="module")
def lasting_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_inputs(tmp_path_factory.mktemp("inputs"))


@settings(max_examples=200)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 6))
def test_any_change_to_a_good_file_gives_specs_or_a_list_of_problems(
    lasting_inputs: Path, seed: int, count: int
) -> None:
    chance = random.Random(seed)
    text = GOOD
    for _ in range(count):
        start = chance.randrange(len(text))
        end = min(len(text), start + chance.choice([0, 0, 1, 5, 40]))
        middle = chance.choice([*FRAGMENTS, text[chance.randrange(len(text)) :][:30]])
        text = text[:start] + middle + text[end:]
    try:
        parse(lasting_inputs, text)
    except WorkflowsFileError as error:
        found = error.problems
    else:
        return
    assert found
    assert all(problem.startswith("workflows.yml:") and problem.isprintable() for problem in found)

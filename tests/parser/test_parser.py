# ruff: noqa: E501 - each message is one literal line
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoflow.date_stencil import DateStencil
from autoflow.errors import AutoflowError, WorkflowsFileError
from autoflow.parser import parse_workflows_file
from autoflow.parser.single_value import parse_value
from autoflow.specs import OutputSpec, ReportFormat, TriggerSpec, WorkflowsFile

GOOD = """\
# Flows above normal.
workflows:
  - name: flows
    notebooks:
      report:
        filename: report.ipynb
        parameters: {path: run, date: reference_date}
        output: {format: pdf, template: custom.tpl}
        timeout: 90
      run:
        filename: sub/run.ipynb
        parameters:
          url: flowapi_url
          ranges: date_ranges
          n: count
  - name: other
    notebooks: {only: {filename: plain.ipynb}}

available_dates_sensor:
  schedule: '0 6 * * *'
  cdr_types: [calls, sms]
  workflows:
    - workflow_name: flows
      parameters: {count: 3}
      earliest_date: 2016-01-02
      date_stencil:
        - [2016-01-01, 2016-01-03]
        - -3
        - [-2, 0]
      retry_delay: 5
      max_attempts: 2
    - workflow_name: other
"""

PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}


def write_notebook(path: Path, source: str, *, tag: str | None = "parameters", kernelspec: Any = PYTHON) -> None:
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": [tag]} if tag else {})
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": kernelspec} if kernelspec else {})
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, path)


def fill_inputs(folder: Path) -> Path:
    write_notebook(folder / "report.ipynb", "path = ''\ndate = ''\nother = None")
    write_notebook(folder / "sub" / "run.ipynb", "url = ''\nranges = []\nn = 1")
    write_notebook(folder / "plain.ipynb", "1 + 1", tag=None)
    (folder / "custom.tpl").write_text("= Title")
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    return fill_inputs(tmp_path)


@pytest.fixture(scope="module")
def lasting_inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill_inputs(tmp_path_factory.mktemp("inputs"))


def parse(inputs: Path, text: str | bytes) -> WorkflowsFile:
    path = inputs / "workflows.yml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return parse_workflows_file(path)


def problems(inputs: Path, text: str | bytes) -> list[str]:
    """Return the problems of a file, less the file's name."""
    with pytest.raises(WorkflowsFileError) as raised:
        parse(inputs, text)
    assert str(raised.value) == "\n".join(raised.value.problems)
    return [problem.removeprefix("workflows.yml:") for problem in raised.value.problems]


def changed(*changes: tuple[str, str]) -> str:
    """Return the good file with each old text, which is there once, replaced by the new one."""
    text = GOOD
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


# What a right file means.


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


def test_null_schedule_means_no_schedule(inputs: Path) -> None:
    assert parse(inputs, changed(("'0 6 * * *'", "null"))).sensor.schedule is None


def test_file_with_a_byte_order_mark_is_accepted(inputs: Path) -> None:
    assert parse(inputs, b"\xef\xbb\xbf" + GOOD.encode()) == parse(inputs, GOOD)


def test_anchors_and_merge_keys_work(inputs: Path) -> None:
    entry = "    - workflow_name: other\n"
    merged = parse(
        inputs,
        changed(
            ("    - workflow_name: flows\n", "    - &flows\n      workflow_name: flows\n"),
            (entry, f"{entry}    - <<: *flows\n      parameters: {{count: 4}}\n"),
        ),
    )
    first, _, third = merged.sensor.triggers
    assert third.parameters == {"count": 4}
    assert (third.workflow, third.date_stencil, third.retry_delay) == (first.workflow, first.date_stencil, 5.0)


def test_the_first_of_several_merged_mappings_wins(inputs: Path) -> None:
    value = "{<<: [{a: 1, b: 1}, {a: 2, c: 2}], b: 3}"
    file = parse(inputs, changed(("{count: 3}", f"{{count: {value}}}")))
    assert file.sensor.triggers[0].parameters == {"count": {"a": 1, "b": 3, "c": 2}}


def test_dates_in_parameters_become_iso_strings(inputs: Path) -> None:
    file = parse(inputs, changed(("{count: 3}", "{count: [2016-01-01, {at: 2016-01-01 12:30:00}, true, null, 1.5]}")))
    assert file.sensor.triggers[0].parameters == {
        "count": ["2016-01-01", {"at": "2016-01-01T12:30:00"}, True, None, 1.5],
    }


SURPRISES = {
    "NO": "false",
    "yes": "true",
    "On": "true",
    "0123456": "the number 42798",
    "012": "the number 10",
    "-007": "the number -7",
    "12:30": "the number 750",
    "1:30.5": "the number 90.5",
    "1_000": "the number 1000",
    "0x1_0": "the number 16",
    "1_0.5": "the number 10.5",
}
"""What people write as text or as another number, and what it is in YAML."""


@pytest.mark.parametrize("written", SURPRISES)
def test_value_that_yaml_reads_otherwise_than_people_is_refused(inputs: Path, written: str) -> None:
    meaning = SURPRISES[written]
    advice = f"put it in quotes, or write {meaning.removeprefix('the number ')}"
    message = f"'{written}' would be read as {meaning}; {advice}"
    place = "24: available_dates_sensor.workflows[0].parameters.count.a[0]"
    assert problems(inputs, changed(("{count: 3}", f"{{count: {{a: [{written}]}}}}"))) == [f"{place}: {message}"]
    with pytest.raises(AutoflowError) as raised:
        parse_value(f"{{a: [{written}]}}")
    assert str(raised.value) == f"'{{a: [{written}]}}': {message}"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("'NO'", "NO"),
        ('"012"', "012"),
        ("|-\n          12:30", "12:30"),
        ("y", "y"),
        ("True", True),
        ("0", 0),
        ("-10", -10),
        ("0.5", 0.5),
        ("0x1F", 31),
        ("0b11", 3),
        ("089", "089"),
        ("a_1:0", "a_1:0"),
        ("2016-01-01 12:30:00", "2016-01-01T12:30:00"),
    ],
)
def test_value_that_is_clear_is_taken(inputs: Path, written: str, value: object) -> None:
    file = parse(inputs, changed(("{count: 3}", f"\n        count: {written}")))
    assert file.sensor.triggers[0].parameters == {"count": value}
    assert parse_value(written) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"\\ud800"', "the text has a character that cannot be stored"),
        ('{"\\0": 1}', "the text has a character that cannot be stored"),
        ("9" * 101, "the number is too long"),
        ("!!bool maybe", "'maybe' is not a valid bool"),
        ("2016-02-30", "'2016-02-30' is not a valid date"),
        ("{1: 2}", "the keys of a mapping have to be text"),
        ("!odd x", "it is no YAML; text with special characters needs quotes"),
    ],
)
def test_single_value_that_cannot_be_used_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(AutoflowError) as raised:
        parse_value(text)
    assert str(raised.value) == f"{text!r}: {reason}"


def test_notebooks_that_do_not_depend_on_each_other_keep_the_order_of_the_file(inputs: Path) -> None:
    labels = [f"n{number}" for number in range(9, 0, -1)]
    notebooks = ", ".join(f"{label}: {{filename: plain.ipynb}}" for label in labels)
    file = parse(inputs, changed(("{only: {filename: plain.ipynb}}", f"{{{notebooks}}}")))
    assert [notebook.label for notebook in file.workflow("other").notebooks] == labels


def test_inputs_folder_can_be_another_than_the_files_own(
    inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("elsewhere") / "workflows.yml"
    path.write_text(GOOD)
    file = parse_workflows_file(path, inputs_dir=inputs)
    assert file.workflow("other").notebooks[0].path == inputs / "plain.ipynb"


def test_notebook_can_be_a_link_within_the_inputs_folder(inputs: Path) -> None:
    (inputs / "link.ipynb").symlink_to("plain.ipynb")
    parse(inputs, changed(("plain.ipynb", "link.ipynb")))


def test_braces_in_a_file_name_mean_nothing(inputs: Path) -> None:
    write_notebook(inputs / "a{b}{}.ipynb", "path = ''")
    parse(
        inputs,
        changed(
            ("{only: {filename: plain.ipynb}}", "{only: {filename: 'a{b}{}.ipynb', parameters: {path: date_ranges}}}")
        ),
    )


# One mistake, one line.


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  - name: flows", "  - nam: flows", "3: workflows[0].nam: unknown key; did you mean 'name'?"),
        (
            "        timeout: 90",
            "        colour: red",
            "9: workflows[0].notebooks.report.colour: unknown key; expected are filename, parameters, output, timeout",
        ),
        (
            "filename: report.ipynb",
            "filenam: report.ipynb",
            "6: workflows[0].notebooks.report.filenam: unknown key; did you mean 'filename'?",
        ),
        ("        filename: report.ipynb\n", "", "5: workflows[0].notebooks.report.filename: this key is missing"),
        ("filename: report.ipynb", "filename:", "6: workflows[0].notebooks.report.filename: a value is missing"),
        (
            "filename: report.ipynb",
            "filename: [report.ipynb]",
            "6: workflows[0].notebooks.report.filename: text is expected, not ['report.ipynb']",
        ),
        (
            "        timeout: 90",
            "        filename: x.ipynb",
            "9: workflows[0].notebooks.report.filename: this key is given twice, first in line 6",
        ),
        ("{only: {filename: plain.ipynb}}", "{}", "17: workflows[1].notebooks: one notebook or more is expected"),
        ("name: other\n    ", "name: 7\n    ", "16: workflows[1].name: text is expected, not 7"),
        (
            "name: other\n    ",
            "name: ' '\n    ",
            "16: workflows[1].name: ' ' is not a name: visible characters on one line are expected",
        ),
        (
            "only:",
            "flowapi_url:",
            "17: workflows[1].notebooks.flowapi_url: 'flowapi_url' cannot be a notebook's label: it is a parameter that is provided automatically",
        ),
        ("only:", "1:", "17: workflows[1].notebooks.1: the key '1' is not text; put it in quotes"),
        ("only:", "no:", "17: workflows[1].notebooks.no: the key 'no' is not text; put it in quotes"),
        ("only:", "[a]:", "17: workflows[1].notebooks['?']: a key has to be plain text"),
        (
            "report.ipynb",
            "repork.ipynb",
            "6: workflows[0].notebooks.report.filename: 'repork.ipynb' is not in the inputs folder; did you mean 'report.ipynb'?",
        ),
        (
            "report.ipynb",
            "custom.tpl",
            "6: workflows[0].notebooks.report.filename: 'custom.tpl' is not a notebook: its name does not end in .ipynb",
        ),
        ("sub/run.ipynb", "sub", "11: workflows[0].notebooks.run.filename: 'sub' is not a file"),
        (
            "sub/run.ipynb",
            "../run.ipynb",
            "11: workflows[0].notebooks.run.filename: '../run.ipynb' is outside of the inputs folder",
        ),
        (
            "sub/run.ipynb",
            "/etc/passwd",
            "11: workflows[0].notebooks.run.filename: '/etc/passwd' is outside of the inputs folder",
        ),
        (
            "custom.tpl",
            "custom.tp",
            "8: workflows[0].notebooks.report.output.template: 'custom.tp' is not in the inputs folder; did you mean 'custom.tpl'?",
        ),
        (
            "custom.tpl",
            "../custom.tpl",
            "8: workflows[0].notebooks.report.output.template: '../custom.tpl' is outside of the inputs folder",
        ),
        ("format: pdf, ", "", "8: workflows[0].notebooks.report.output.format: this key is missing"),
        (
            "format: pdf",
            "format: PDF",
            "8: workflows[0].notebooks.report.output.format: 'PDF' is not an output format; expected are pdf, html",
        ),
        (
            "format: pdf",
            "format: [pdf, pdf]",
            "8: workflows[0].notebooks.report.output.format[1]: 'pdf' is in the list twice",
        ),
        ("format: pdf", "format: []", "8: workflows[0].notebooks.report.output.format: the list is empty"),
        ("timeout: 90", "timeout: 0", "9: workflows[0].notebooks.report.timeout: more than 0 seconds are expected"),
        (
            "timeout: 90",
            "timeout: true",
            "9: workflows[0].notebooks.report.timeout: a number of seconds from 0 to 31622400 is expected, not true",
        ),
        (
            "timeout: 90",
            "timeout: .inf",
            "9: workflows[0].notebooks.report.timeout: a number of seconds from 0 to 31622400 is expected, not inf",
        ),
        (
            "{path: run, date: reference_date}",
            "[path]",
            "7: workflows[0].notebooks.report.parameters: a mapping (key: value) is expected, not ['path']",
        ),
        (
            "date: reference_date",
            "date: 2016-01-01",
            "7: workflows[0].notebooks.report.parameters.date: the name of a workflow parameter, the label of a notebook or an automatic parameter is expected, not 2016-01-01",
        ),
        (
            "date: reference_date",
            "dates: reference_date",
            "7: workflows[0].notebooks.report.parameters.dates: the notebook does not declare this in its cell tagged 'parameters'; did you mean 'date'?",
        ),
        (
            "date: reference_date",
            "class: reference_date",
            "7: workflows[0].notebooks.report.parameters.class: a parameter of a Python notebook has to be a valid Python name",
        ),
        (
            "{filename: plain.ipynb}",
            "{filename: plain.ipynb, parameters: {x: date_ranges}}",
            "17: workflows[1].notebooks.only.parameters: the notebook has no cell tagged 'parameters', so nothing can be passed to it; tag one",
        ),
        (
            "date: reference_date",
            "date: report",
            "7: workflows[0].notebooks.report.parameters.date: notebooks depend on each other in a circle: report → report",
        ),
        (
            "ranges: date_ranges",
            "ranges: report",
            "14: workflows[0].notebooks.run.parameters.ranges: notebooks depend on each other in a circle: report → run → report",
        ),
        (
            "'0 6 * * *'",
            "'0 6 * *'",
            "20: available_dates_sensor.schedule: '0 6 * *' is not a cron string: five fields are expected: minute, hour, day of the month, month, day of the week",
        ),
        (
            "'0 6 * * *'",
            "'0 26 * * *'",
            "20: available_dates_sensor.schedule: '0 26 * * *' is not a cron string: '26' is not a valid hour",
        ),
        (
            "'0 6 * * *'",
            "6",
            "20: available_dates_sensor.schedule: a cron string such as '0 6 * * *' or null is expected, not 6",
        ),
        ("  schedule: '0 6 * * *'\n", "", "19: available_dates_sensor.schedule: this key is missing"),
        (
            "[calls, sms]",
            "[calls, voice]",
            "21: available_dates_sensor.cdr_types[1]: 'voice' is not a type of CDR data; expected are calls, sms, mds, topups",
        ),
        ("[calls, sms]", "[calls, calls]", "21: available_dates_sensor.cdr_types[1]: 'calls' is in the list twice"),
        (
            "[calls, sms]",
            "[]",
            "21: available_dates_sensor.cdr_types: the list is empty; leave the key out if it is not needed",
        ),
        ("[calls, sms]", "calls", "21: available_dates_sensor.cdr_types: a list is expected, not 'calls'"),
        (
            "- workflow_name: other",
            "- workflow_name: othr",
            "32: available_dates_sensor.workflows[1].workflow_name: there is no workflow 'othr'; did you mean 'other'?",
        ),
        (
            "- workflow_name: other",
            "- {workflow_name: flows, parameters: {count: 3}}",
            "32: available_dates_sensor.workflows[1]: this is the workflow of available_dates_sensor.workflows[0] with the same parameters",
        ),
        (
            "{count: 3}",
            "{}",
            "24: available_dates_sensor.workflows[0].parameters.count: this parameter is missing: notebook 'run' of workflow 'flows' uses it",
        ),
        (
            "      parameters: {count: 3}\n",
            "",
            "23: available_dates_sensor.workflows[0].parameters.count: this parameter is missing: notebook 'run' of workflow 'flows' uses it",
        ),
        (
            "{count: 3}",
            "{count: 3, size: 4}",
            "24: available_dates_sensor.workflows[0].parameters.size: no notebook of workflow 'flows' uses this parameter",
        ),
        (
            "{count: 3}",
            "{cuont: 3}",
            "24: available_dates_sensor.workflows[0].parameters.cuont: no notebook of workflow 'flows' uses this parameter; did you mean 'count'?",
        ),
        (
            "{count: 3}",
            "{count: 3, run: 4}",
            "24: available_dates_sensor.workflows[0].parameters.run: a notebook of workflow 'flows' has this label; name one of them otherwise",
        ),
        (
            "{count: 3}",
            "{count: 3, date_ranges: []}",
            "24: available_dates_sensor.workflows[0].parameters.date_ranges: this is provided automatically; leave it out",
        ),
        (
            "{count: 3}",
            "{count: [1, .nan]}",
            "24: available_dates_sensor.workflows[0].parameters.count[1]: a parameter cannot be infinite or not a number (NaN): JSON has no such values",
        ),
        (
            "{count: 3}",
            "{count: {a: -.inf}}",
            "24: available_dates_sensor.workflows[0].parameters.count.a: a parameter cannot be infinite or not a number (NaN): JSON has no such values",
        ),
        (
            "{count: 3}",
            "{count: !!binary aGk=}",
            "24: available_dates_sensor.workflows[0].parameters.count: a parameter is text, a number, a date, true, false, null, or a list or mapping of these",
        ),
        (
            "{count: 3}",
            "{count: !!set {a}}",
            "24: available_dates_sensor.workflows[0].parameters.count: the YAML tag '!!set' cannot be used here",
        ),
        (
            "{count: 3}",
            "{count: {1: 2}}",
            "24: available_dates_sensor.workflows[0].parameters.count.1: the key '1' is not text; put it in quotes",
        ),
        (
            "{count: 3}",
            "{count: !!python/object/apply:os.getcwd []}",
            "24: available_dates_sensor.workflows[0].parameters.count: the YAML tag '!!python/object/apply:os.getcwd' cannot be used here",
        ),
        (
            "{count: 3}",
            '{count: "\\ud800"}',
            "24: available_dates_sensor.workflows[0].parameters.count: the text has a character that cannot be stored",
        ),
        (
            "{count: 3}",
            "{count: &a [*a]}",
            "24: available_dates_sensor.workflows[0].parameters.count[0]: an alias stands inside of what it refers to",
        ),
        (
            "earliest_date: 2016-01-02",
            "earliest_date: 2016-02-30",
            "25: available_dates_sensor.workflows[0].earliest_date: '2016-02-30' is not a valid date",
        ),
        (
            "earliest_date: 2016-01-02",
            "earliest_date: soon",
            "25: available_dates_sensor.workflows[0].earliest_date: 'soon' is not a date (YYYY-MM-DD)",
        ),
        (
            "- -3",
            "- true",
            "28: available_dates_sensor.workflows[0].date_stencil[1]: true is neither a date (YYYY-MM-DD), an offset in days nor a pair of these",
        ),
        (
            "- [-2, 0]",
            "- [2016-01-01 00:00:00, 0]",
            "29: available_dates_sensor.workflows[0].date_stencil[2]: 2016-01-01 00:00:00 is neither a date (YYYY-MM-DD), an offset in days nor a pair of these",
        ),
        (
            "earliest_date: 2016-01-02",
            "earliest_date: 2016-01-02 12:00:00",
            "25: available_dates_sensor.workflows[0].earliest_date: 2016-01-02 12:00:00 is not a date (YYYY-MM-DD)",
        ),
        (
            "name: other\n    ",
            "name: [true, null, {at: 2016-01-01 00:00:00}]\n    ",
            "16: workflows[1].name: text is expected, not [true, null, {'at': 2016-01-01 00:00:00}]",
        ),
        (
            "- -3",
            "- 010",
            "28: available_dates_sensor.workflows[0].date_stencil[1]: '010' would be read as the number 8; put it in quotes, or write 8",
        ),
        (
            "timeout: 90",
            "timeout: 1_000",
            "9: workflows[0].notebooks.report.timeout: '1_000' would be read as the number 1000; put it in quotes, or write 1000",
        ),
        (
            "'0 6 * * *'",
            "off",
            "20: available_dates_sensor.schedule: 'off' would be read as false; put it in quotes, or write false",
        ),
        (
            "name: other\n    ",
            "name: [Yes]\n    ",
            "16: workflows[1].name[0]: 'Yes' would be read as true; put it in quotes, or write true",
        ),
        (
            "- workflow_name: other",
            "- No",
            "32: available_dates_sensor.workflows[1]: 'No' would be read as false; put it in quotes, or write false",
        ),
        (
            "- -3",
            "- 2016-02-30",
            "28: available_dates_sensor.workflows[0].date_stencil[1]: '2016-02-30' is not a valid date",
        ),
        (
            "- [-2, 0]",
            "- [0, -2]",
            "29: available_dates_sensor.workflows[0].date_stencil[2]: [0, -2] starts after its end",
        ),
        (
            "- [-2, 0]",
            "- [2016-02-30, 0]",
            "29: available_dates_sensor.workflows[0].date_stencil[2][0]: '2016-02-30' is not a valid date",
        ),
        (
            "retry_delay: 5",
            "retry_delay: -1",
            "30: available_dates_sensor.workflows[0].retry_delay: a number of seconds from 0 to 31622400 is expected, not -1",
        ),
        (
            "max_attempts: 2",
            "max_attempts: 0",
            "31: available_dates_sensor.workflows[0].max_attempts: a whole number from 1 is expected, not 0",
        ),
        (
            "max_attempts: 2",
            "max_attempts: 2.0",
            "31: available_dates_sensor.workflows[0].max_attempts: a whole number from 1 is expected, not 2.0",
        ),
    ],
)
def test_one_mistake_gives_one_line(inputs: Path, old: str, new: str, expected: str) -> None:
    assert problems(inputs, changed((old, new))) == [expected]


# Files that are not what they should be.


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is not a valid notebook: it is not JSON"),
        ("[" * 100_000, "is not a valid notebook: it is not JSON"),
        ("[]", "is not a valid notebook: its JSON has no 'nbformat'"),
        ('{"cells": []}', "is not a valid notebook: its JSON has no 'nbformat'"),
        (
            '{"nbformat": 4, "nbformat_minor": 5, "cells": []}',
            "is not a valid notebook: 'metadata' is a required property",
        ),
        ('{"nbformat": 9, "nbformat_minor": 5, "cells": []}', "is not a valid notebook: unknown format 9.5"),
        (b"\xff\xfe", "is not a valid notebook: it is not UTF-8 text"),
    ],
)
def test_file_that_is_no_notebook_is_refused(inputs: Path, content: str | bytes, expected: str) -> None:
    (inputs / "plain.ipynb").write_bytes(content.encode() if isinstance(content, str) else content)
    assert problems(inputs, GOOD) == [f"17: workflows[1].notebooks.only.filename: 'plain.ipynb' {expected}"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside.ipynb"])
def test_link_out_of_the_inputs_folder_is_refused(inputs: Path, target: str) -> None:
    (inputs / "link.ipynb").symlink_to(target)
    assert problems(inputs, changed(("plain.ipynb", "link.ipynb"))) == [
        "17: workflows[1].notebooks.only.filename: 'link.ipynb' is outside of the inputs folder",
    ]


def test_link_to_itself_is_refused(inputs: Path) -> None:
    (inputs / "link.ipynb").symlink_to("link.ipynb")
    (problem,) = problems(inputs, changed(("plain.ipynb", "link.ipynb")))
    assert problem.startswith("17: workflows[1].notebooks.only.filename: 'link.ipynb' cannot be looked at: ")


def test_name_that_no_file_can_have_is_refused(inputs: Path) -> None:
    (problem,) = problems(inputs, changed(("plain.ipynb", f"{'x' * 300}.ipynb")))
    assert problem.startswith("17: workflows[1].notebooks.only.filename: 'xxx")


def test_parameters_of_a_notebook_that_cannot_be_inspected_are_not_complained_of(inputs: Path) -> None:
    write_notebook(inputs / "r.ipynb", "x <- 1", kernelspec={"name": "ir", "display_name": "R", "language": "R"})
    parse(inputs, changed(("{filename: plain.ipynb}", "{filename: r.ipynb, parameters: {any.name: date_ranges}}")))


def test_notebook_without_a_kernelspec_is_taken_for_python(inputs: Path) -> None:
    write_notebook(inputs / "bare.ipynb", "x = 1", kernelspec=None)
    assert problems(
        inputs, changed(("{filename: plain.ipynb}", "{filename: bare.ipynb, parameters: {y: date_ranges}}"))
    ) == [
        "17: workflows[1].notebooks.only.parameters.y: the notebook does not declare this in its cell tagged 'parameters'",
    ]


def test_missing_file_is_told_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(WorkflowsFileError, match="there is no such file") as raised:
        parse_workflows_file(tmp_path / "workflows.yml")
    assert raised.value.problems == (f"workflows.yml: there is no such file in {tmp_path}",)


def test_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "workflows.yml").mkdir()
    with pytest.raises(WorkflowsFileError, match=r"^workflows\.yml: this is a folder; a file is expected$"):
        parse_workflows_file(tmp_path / "workflows.yml")


@pytest.mark.parametrize("target", ["elsewhere.yml", "workflows.yml"])
def test_link_that_leads_nowhere_in_place_of_the_file_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "workflows.yml").symlink_to(target)
    with pytest.raises(
        WorkflowsFileError, match=rf"^workflows\.yml: this is a link to '{target}', which is not there$"
    ):
        parse_workflows_file(tmp_path / "workflows.yml")


def test_pipe_in_place_of_the_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "workflows.yml")
    with pytest.raises(WorkflowsFileError, match=r"^workflows\.yml: this is not an ordinary file$"):
        parse_workflows_file(tmp_path / "workflows.yml")


@contextmanager
def without_roots_rights() -> Iterator[None]:
    """Do what is in the block as somebody who may not read every file, whoever runs the tests."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_file_that_may_not_be_read_is_refused() -> None:
    # Not in pytest's own folder, which other users may not enter.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "workflows.yml"
        path.touch(mode=0o200)
        with without_roots_rights(), pytest.raises(WorkflowsFileError) as raised:
            parse_workflows_file(path)
    assert str(raised.value) == "workflows.yml: the file cannot be read: Permission denied"


LAUGHS = "\n".join(f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(9))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: the file is empty; 'workflows' and 'available_dates_sensor' are expected"),
        ("# nothing\n", "1: the file is empty; 'workflows' and 'available_dates_sensor' are expected"),
        ("- a\n- b\n", "1: the keys 'workflows' and 'available_dates_sensor' are expected"),
        ("a: [1,\nb: 2\n", "3: a ',' or a ']' is missing before this, to go with the '[' of line 1"),
        (
            "workflows: []\navailable_dates_sensor:\n  schedule: * * * * *\n",
            "3: text that starts with '*' has to be in quotes, as in schedule: '* * * * *'",
        ),
        (
            "schedule: @daily\n",
            "1: text that starts with '@' has to be in quotes, as in schedule: '@daily'",
        ),
        (
            "workflows:\n\t- name: a\n",
            "2: a tab cannot stand here; indent with spaces",
        ),
        ("a: 1\n---\nb: 2\n", "2: a second YAML document starts here; one is expected"),
        ("a: *b\n", "1: no '&b' stands before this '*b'; text that starts with '*' has to be in quotes"),
        (b"a: 1\nb: \xe9\n", "2: this is not UTF-8 text; save the file as UTF-8"),
        ("a: 1\n\nb: \x01\n", "3: the character 0x01 cannot be in a YAML file"),
        ("[" * 100_000, "1: not valid YAML: values are nested more than 50 deep"),
        ("{a: " * 50_000, "1: not valid YAML: values are nested more than 50 deep"),
        ("- " * 100_000, "1: not valid YAML: values are nested more than 50 deep"),
        (f"a: &a [x]\n{LAUGHS}\n", "6: with its aliases written out the file has over 100000 values"),
        ("a: b\n" * 60_000, " the file is larger than 256 KiB"),
    ],
)
def test_file_of_which_nothing_can_be_said_is_refused(
    inputs: Path,
    text: str | bytes,
    expected: str,
) -> None:
    assert problems(inputs, text) == [expected]


@pytest.mark.parametrize("value", [":".join(["59"] * 80_000), "9" * 200_000, "9" * 200_000 + ".5"])
def test_numbers_that_take_long_to_read_are_refused(inputs: Path, value: str) -> None:
    assert problems(inputs, changed(("{count: 3}", f"{{count: {value}}}"))) == [
        "24: available_dates_sensor.workflows[0].parameters.count: the number is too long",
    ]


def test_values_that_aliases_nest_too_deeply_are_refused(inputs: Path) -> None:
    links = ", ".join(f"x{number}: &x{number} [*x{number - 1}]" for number in range(1, 100))
    assert problems(inputs, changed(("{count: 3}", f"{{count: {{x0: &x0 [1], {links}}}}}"))) == [
        "19: with its aliases written out the file has values that are nested more than 50 deep",
    ]


def test_mappings_that_merges_nest_too_deeply_are_refused(inputs: Path) -> None:
    links = ", ".join(f"a: &x{number} {{<<: *x{number - 1}}}" for number in range(1, 3_000))
    text = changed(("{count: 3}", f"{{count: {{a: &x0 {{}}, {links}, b: {{<<: *x2999}}}}}}"))
    assert problems(inputs, text) == [" '<<' is nested too deeply"]


def test_mapping_that_is_merged_into_itself_is_refused_or_harmless(inputs: Path) -> None:
    parse(inputs, changed(("{count: 3}", "{count: &a {<<: *a, b: 1}}")))


def test_message_is_cut_off_after_a_thousand_mistakes(inputs: Path) -> None:
    text = GOOD + "".join(f"key{number}: 1\n" for number in range(2_000))
    assert len(problems(inputs, text)) == 1_000


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "- name: flows",
            "- name:flows",
            "4: a key cannot stand here; put a space after each colon, and text that has a colon in it in quotes",
        ),
        ("        timeout: 90", "        timeout 90", "9: a colon is missing after this key"),
        (
            "        timeout: 90",
            "         timeout: 90",
            "9: this does not fit the lines before; check how far it is indented",
        ),
        ("'0 6 * * *'", "'0 6 * * *", "20: the quote that opens here is never closed"),
        ("[calls, sms]", "[calls, sms", "22: a ',' or a ']' is missing before this, to go with the '[' of line 21"),
        ("run, date", "run date", "7: a ',' or a '}' is missing before this, to go with the '{' of line 7"),
        ("[calls, sms]", "[calls, sms]]", "21: ']' is not expected here"),
        ("{count: 3}", "{count: %3}", "24: text that starts with '%' has to be in quotes"),
        ("{count: 3}", '{count: "\\d"}', "24: a backslash in double quotes means something to YAML; use single quotes"),
    ],
)
def test_slip_of_the_pen_is_told_without_the_jargon_of_yaml(inputs: Path, old: str, new: str, expected: str) -> None:
    assert problems(inputs, changed((old, new))) == [expected]


def test_the_first_of_very_many_circles_are_told(inputs: Path) -> None:
    labels = [f"n{number}" for number in range(150)]
    write_notebook(inputs / "p.ipynb", "\n".join(f"{label} = 1" for label in labels))
    parameters = ", ".join(f"{label}: {label}" for label in labels)
    notebooks = ", ".join(f"{label}: {{filename: p.ipynb, parameters: *all}}" for label in labels[1:])
    first = f"n0: {{filename: p.ipynb, parameters: &all {{{parameters}}}}}"
    text = changed(("{only: {filename: plain.ipynb}}", f"{{{first}, {notebooks}}}"))
    found = problems(inputs, text)
    assert len(found) == 20
    assert all("in a circle" in problem for problem in found)


# Lines.


def test_lines_are_right_with_the_line_ends_of_windows(inputs: Path) -> None:
    text = changed(("timeout: 90", "timeout: 0"), ("{count: 3}", "{}"), ("max_attempts: 2", "max_attempts: 0"))
    found = problems(inputs, text)
    assert [problem.split(":")[0] for problem in found] == ["9", "24", "31"]
    assert problems(inputs, text.replace("\n", "\r\n")) == found


def test_lines_are_right_in_flow_style_and_after_comments_and_texts_of_several_lines(inputs: Path) -> None:
    text = """\
# A comment,
# and one more.
{
  workflows: [
    {name: "a
      b",

      notebooks: {
        one: {
          filename:
            nowhere.ipynb,
          timeout: 0,
        },  # ends here
      },
    },
  ],
  available_dates_sensor: {
    schedule: 'x
      y',
    workflows: [
      {workflow_name: a b, parameters: {
        text: 'more
          than one line',
        wrong: 1}},
      {workflow_name: c},
    ],
  },
}
"""
    assert problems(inputs, text) == [
        "11: workflows[0].notebooks.one.filename: 'nowhere.ipynb' is not in the inputs folder",
        "12: workflows[0].notebooks.one.timeout: more than 0 seconds are expected",
        "18: available_dates_sensor.schedule: 'x y' is not a cron string: five fields are expected: minute, hour, day of the month, month, day of the week",
        "22: available_dates_sensor.workflows[0].parameters.text: no notebook of workflow 'a b' uses this parameter",
        "24: available_dates_sensor.workflows[0].parameters.wrong: no notebook of workflow 'a b' uses this parameter",
        "25: available_dates_sensor.workflows[1].workflow_name: there is no workflow 'c'",
    ]


# Several mistakes, and none that is a mere consequence of another.


def test_independent_mistakes_are_all_told_in_the_order_of_the_file(inputs: Path) -> None:
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
    assert [problem.split(":")[0] for problem in problems(inputs, text)] == [
        *["6", "8", "9", "15", "17", "17", "20", "21", "24", "28", "31", "32"],
    ]


def test_a_name_that_is_given_twice_does_not_hide_an_entry_without_a_workflow(inputs: Path) -> None:
    assert problems(inputs, changed(("  - name: other", "  - name: flows"))) == [
        "16: workflows[1].name: the name 'flows' is that of workflows[0] already",
        "32: available_dates_sensor.workflows[1].workflow_name: there is no workflow 'other'",
    ]


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        # A workflow without a right name may be the one that the sensor's entry looks for.
        ([("  - name: other\n    ", "  - ")], ["16"]),
        # Parameters under a misspelt key are still the parameters.
        ([("        parameters:\n", "        parametres:\n")], ["12"]),
        ([("      parameters: {count: 3}", "      paramaters: {count: 3}")], ["24"]),
        # What a notebook declares is not known if there is no such notebook.
        ([("sub/run.ipynb", "sub/ron.ipynb")], ["11"]),
        # A source that is wrong may be the one that uses the parameter.
        ([("n: count", "n: 5")], ["15"]),
        ([("          n: count\n", "          n: !odd count\n")], ["15"]),
        ([("{count: 3}", "[count]")], ["24"]),
        ([("notebooks: {only: {filename: plain.ipynb}}", "notebooks: none")], ["17"]),
        ([("{only: {filename: plain.ipynb}}", "{only: plain.ipynb}")], ["17"]),
        ([("available_dates_sensor:\n", "available_dates_sensor: none\nrest:\n")], ["19", "20"]),
        # Two circles through one notebook are two mistakes.
        ([("date: reference_date", "date: report, other: count"), ("n: count", "n: report")], ["7", "15"]),
        # Of a name that is given twice nobody knows which one is meant.
        ([("  - name: other\n    ", "    name: other\n    ")], ["16", "17"]),
    ],
)
def test_consequences_of_a_mistake_are_not_told(inputs: Path, changes: list[tuple[str, str]], lines: list[str]) -> None:
    assert [problem.split(":")[0] for problem in problems(inputs, changed(*changes))] == lines


def test_longer_circle_is_told_with_all_its_notebooks(inputs: Path) -> None:
    write_notebook(inputs / "p.ipynb", "p = None")
    notebooks = "{a: {filename: p.ipynb, parameters: {p: b}}, b: {filename: p.ipynb, parameters: {p: c}}, c: {filename: p.ipynb, parameters: {p: a}}}"
    assert problems(inputs, changed(("{only: {filename: plain.ipynb}}", notebooks))) == [
        "17: workflows[1].notebooks.c.parameters.p: notebooks depend on each other in a circle: a → b → c → a",
    ]


# Files that nobody meant.

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


@settings(max_examples=200, deadline=2000)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 6))
def test_whatever_happens_to_a_good_file_ends_in_specs_or_in_a_list_of_problems(
    lasting_inputs: Path, seed: int, count: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - it is about variety
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

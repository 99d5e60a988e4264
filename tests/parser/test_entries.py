import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from autoflow.dates.completeness import Enough
from autoflow.dates.deadlines import Deadline
from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil
from autoflow.errors import WorkflowsFileError
from autoflow.parser import parse_workflows_file
from autoflow.parser.schemas import (
    FileSchema,
    NotebookSchema,
    OutputSchema,
    SensorSchema,
    TriggerSchema,
    WorkflowSchema,
)
from autoflow.specs import FOREVER, KeepSpec, NotifySpec, OnChange, Order, PoolSpec, TriggerSpec
from tests.conftest import write_notebook
from tests.parser.good_file import changed, parse, problems

ENTRY_LINES = "    - workflow_name: other\n"
FLOWS = "available_dates_sensor.workflows[0]"
OTHER = "available_dates_sensor.workflows[1]"


def other_entry(lines: str, *more: tuple[str, str]) -> str:
    """Return the good file, with `lines` in its entry for the workflow `other`, which begin on line 33."""
    indented = "".join(f"      {line}\n" for line in lines.splitlines())
    return changed((ENTRY_LINES, ENTRY_LINES + indented), *more)


def flows_entry(old: str, new: str) -> str:
    """Return the good file with a change in its entry for the workflow `flows`, which begins on line 23."""
    return changed((old, new))


def last_trigger(inputs: Path, text: str) -> TriggerSpec:
    return parse(inputs, text).sensor.triggers[-1]


def test_every_key_becomes_part_of_the_spec(inputs: Path) -> None:
    text = other_entry(
        "label: national\ntitle: The country\ndescription: All of it.\nevery: thursday\nearliest_date: 2016-01-01\n"
        "latest_date: 2016-12-31\norder: newest_first\ndate_stencil: [{period: -1}, [{period: 0}, 0]]\n"
        "requires_all_of: [calls, sms]\nenough: 60%\nlongest_gap: 3\nwait: 2\non_change: rerun\n"
        "deadline: {days: 2, at: '9:30'}\nnotify: {success: boss, failure: [ops, boss]}",
        ("  cdr_types", "  timezone: Africa/Accra\n  cdr_types"),
        ("  - name: other\n", "  - name: other\n    title: Others\n    description: What is left.\n"),
        ("description: What is left.\n", "description: What is left.\n    keep: {reports: 9, notebooks: null}\n"),
    )
    file = parse(inputs, text)
    trigger = file.sensor.triggers[-1]
    assert (file.sensor.timezone, trigger.workflow.title, trigger.workflow.description) == (
        "Africa/Accra",
        "Others",
        "What is left.",
    )
    assert trigger.workflow.keep == KeepSpec(notebooks=FOREVER, reports=9)
    assert (trigger.label, trigger.title, trigger.description) == ("national", "The country", "All of it.")
    assert (trigger.every, trigger.order, trigger.on_change) == (Every.THURSDAY, Order.NEWEST_FIRST, OnChange.RERUN)
    assert trigger.latest_date == datetime.date(2016, 12, 31)
    assert str(trigger.date_stencil) == "[{period: -1}, [{period: 0}, 0]]"
    assert trigger.requires_all_of == ("calls", "sms")
    assert (trigger.needs.enough, trigger.needs.longest_gap, trigger.needs.wait) == (Enough.of("60%"), 3, 2)
    assert trigger.needs.zone == ZoneInfo("Africa/Accra")
    assert trigger.deadline == Deadline(days=2, at=datetime.time(9, 30), zone=ZoneInfo("Africa/Accra"))
    assert trigger.notify == NotifySpec(success=("boss",), failure=("ops", "boss"))


def test_an_entry_without_the_new_keys_is_as_before(inputs: Path) -> None:
    trigger = last_trigger(inputs, changed())
    assert trigger == TriggerSpec(workflow=trigger.workflow)
    assert trigger.shown_title == "other"


def test_stencil_of_a_longer_period_is_the_period(inputs: Path) -> None:
    assert last_trigger(inputs, other_entry("every: sunday")).every is Every.WEEK
    trigger = last_trigger(inputs, other_entry("every: month"))
    assert trigger.date_stencil == DateStencil([{"period": 0}], every=Every.MONTH)
    (month,) = trigger.date_stencil.resolve(datetime.date(2016, 2, 29))
    assert month.as_strings() == ["2016-02-01", "2016-02-29"]


def test_entry_for_each_value_has_a_label_and_a_title_of_its_own(inputs: Path) -> None:
    text = flows_entry(
        "parameters: {count: 3}", "for_each: {count: [1, 'two three', 2016-01-01]}\n      title: 'Count {count}'"
    )
    triggers = parse(inputs, text).sensor.triggers[:-1]
    assert [trigger.label for trigger in triggers] == ["1", "two-three", "2016-01-01"]
    assert [trigger.title for trigger in triggers] == ["Count 1", "Count two three", "Count 2016-01-01"]
    assert [trigger.parameters for trigger in triggers] == [
        {"count": 1},
        {"count": "two three"},
        {"count": "2016-01-01"},
    ]
    assert {trigger.max_attempts for trigger in triggers} == {2}


def test_label_of_an_entry_stands_before_those_of_its_values(inputs: Path) -> None:
    text = changed(
        ("parameters: {count: 3}", "for_each: {count: [1, 2], date: [a, b]}\n      label: all"),
        ("{path: run, date: reference_date}", "{path: run, date: date}"),
    )
    labels = [trigger.label for trigger in parse(inputs, text).sensor.triggers[:-1]]
    assert labels == ["all-1-a", "all-1-b", "all-2-a", "all-2-b"]


def test_value_with_the_label_of_another_gives_one_line_however_many_combinations_have_it(inputs: Path) -> None:
    text = changed(
        ("parameters: {count: 3}", "for_each: {date: [a, b, c], count: ['1 2', 1-2]}"),
        ("{path: run, date: reference_date}", "{path: run, date: date}"),
    )
    (line,) = problems(inputs, text)
    assert line.endswith("count[1]: '1-2' gives the label 'a-1-2', which another value has, too; change one of them")


def test_values_are_put_into_a_title_all_at_once(inputs: Path) -> None:
    text = changed(
        (
            "parameters: {count: 3}",
            "for_each: {count: ['{date}', 2], date: ['{count}']}\n      title: '{date} of {count}, {other} {}'",
        ),
        ("{path: run, date: reference_date}", "{path: run, date: date}"),
    )
    titles = [trigger.title for trigger in parse(inputs, text).sensor.triggers[:-1]]
    assert titles == ["{count} of {date}, {other} {}", "{count} of 2, {other} {}"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "every: monthly",
            (
                "33: every: unknown period 'monthly'; expected day, week, month, quarter, year or a weekday, the last "
                "day of the week; did you mean 'month'?"
            ),
        ),
        ("enough: 60%", "33: enough: 'enough' needs 'wait', the number of days to wait for the rest"),
        ("wait: 2", "33: wait: 'wait' needs 'enough', because without it AutoFlow waits for all days"),
        ("enough: 130%\nwait: 2", "33: enough: 130% is not a percentage above 0% and up to 100%"),
        ("enough: 0\nwait: 2", "33: enough: 0 days cannot be enough; expected at least 1"),
        (
            "wait: 2\nenough: 0.6",
            "34: enough: 0.6 is neither a number of days, such as 5, nor a percentage, such as 60%",
        ),
        ("wait: 2.5\nenough: 3", "33: wait: expected a whole number of days from 0 to 3650, not 2.5"),
        ("longest_gap: 2", "33: longest_gap: 'longest_gap' needs 'enough', because without it no day may be missing"),
        (
            "earliest_date: 2016-02-01\nlatest_date: 2016-01-01",
            "34: latest_date: it is before earliest_date, 2016-02-01",
        ),
        (
            "date_stencil:\n  - 0\n  - {period: x}",
            "35: date_stencil[1]: expected a whole number of periods, such as {period: -1}, not 'x'",
        ),
        (
            "date_stencil: [{period: 99999}]",
            "33: date_stencil[0]: a period can be at most 36525 periods away, not 99999",
        ),
        (
            "every: week\ndate_stencil: [[{period: 0}, {period: -1}]]",
            "34: date_stencil[0]: [{period: 0}, {period: -1}] starts after its end",
        ),
        ("requires_all_of: [calls, mds]", "33: requires_all_of[1]: 'mds' is not in cdr_types, which has calls or sms"),
        ("requires_all_of: [calls, calls]", "33: requires_all_of[1]: duplicate item 'calls'"),
        (
            "order: newest_first\nafter_previous: true",
            "34: after_previous: it cannot be combined with 'order: newest_first': the previous date would come later",
        ),
        ("order: oldest", "33: order: expected oldest_first or newest_first, not 'oldest'"),
        ("on_change: redo", "33: on_change: expected ignore, notify or rerun, not 'redo'"),
        ("after_previous: 1", "33: after_previous: expected true or false, not 1"),
        ("label: a b", "33: label: expected a short name with letters, digits, '.', '_' and '-', not 'a b'"),
        ("title: ''", "33: title: expected visible characters on one line, not ''"),
        ("deadline: {at: '09:00'}", "33: deadline.days: missing key"),
        ("deadline: 2", "33: deadline: expected a mapping (key: value), not 2"),
        ("deadline: {days: -1}", "33: deadline.days: expected a whole number of days from 0 to 3650, not -1"),
        (
            "deadline: {days: 1, at: '24:00'}",
            "33: deadline.at: expected a time of day such as '09:00', from '00:00' to '23:59', not '24:00'",
        ),
        (
            "deadline: {days: 1, at: 10:30}",
            "33: deadline.at: YAML reads 10:30 as the number 630; write '10:30' for text, or 630",
        ),
        ("notify: {}", "33: notify: the mapping is empty; add a key or remove it"),
        ("notify: {success: []}", "33: notify.success: the list is empty; expected at least one item"),
        ("notify: {success: [boss, boss]}", "33: notify.success[1]: duplicate item 'boss'"),
        ("notify: {failed: ops}", "33: notify.failed: unknown key; did you mean 'failure'?"),
        ("notify: {attach: pdf}", "33: notify.attach: it needs 'success', the names of those who get the reports"),
        ("notify: {success: boss, attach: doc}", "33: notify.attach: unknown format 'doc'; expected pdf or html"),
        (
            "notify: {success: boss, attach: html}",
            "33: notify.attach: no notebook of workflow 'other' has an 'output' with the format html",
        ),
        ("for_each: {}", "33: for_each: the mapping is empty; add a key or remove it"),
    ],
)
def test_one_mistake_in_an_entry_gives_one_line(inputs: Path, lines: str, expected: str) -> None:
    line, _, rest = expected.partition(": ")
    assert problems(inputs, other_entry(lines)) == [f"{line}: {OTHER}.{rest}"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            "{count: [a, 'a b', a-b]}",
            "24: for_each.count[2]: 'a-b' gives the label 'a-b', which another value has, too; change one of them",
        ),
        ("{count: [1, 2, 1]}", "24: for_each.count[2]: duplicate item 1"),
        ("{count: [1, null]}", "24: for_each.count[1]: expected text, a number, a date, true or false, not null"),
        ("{count: [1, [2]]}", "24: for_each.count[1]: expected text, a number, a date, true or false, not [2]"),
        ("{count: []}", "24: for_each.count: the list is empty; add an item or remove the key"),
        ("{count: 1}", "24: for_each.count: expected a list, not 1"),
        (
            "{cuont: [1, 2]}",
            "24: for_each.cuont: no notebook of workflow 'flows' uses this parameter; did you mean 'count'?",
        ),
    ],
)
def test_mistakes_in_for_each_name_the_line_of_the_value(inputs: Path, values: str, expected: str) -> None:
    line, _, rest = expected.partition(": ")
    text = flows_entry("parameters: {count: 3}", f"for_each: {values}")
    assert problems(inputs, text) == [f"{line}: available_dates_sensor.workflows[0].{rest}"]


def test_parameter_is_given_once(inputs: Path) -> None:
    text = flows_entry("parameters: {count: 3}", "parameters: {count: 3}\n      for_each: {count: [1, 2]}")
    assert problems(inputs, text) == [
        f"25: {FLOWS}.for_each.count: this parameter is in 'parameters', too; remove one of them"
    ]


def test_labels_of_a_workflow_differ(inputs: Path) -> None:
    text = other_entry("label: x\n") + "    - {workflow_name: other, every: week, label: x}\n"
    assert problems(inputs, text) == [
        f"34: available_dates_sensor.workflows[2].label: duplicate label 'x', first used by {OTHER}"
    ]


def test_entries_may_differ_in_their_period_alone(inputs: Path) -> None:
    text = changed() + "    - {workflow_name: other, every: week}\n"
    assert [trigger.every for trigger in parse(inputs, text).sensor.triggers[1:]] == [Every.DAY, Every.WEEK]
    assert problems(inputs, text + "    - {workflow_name: other, every: sunday}\n") == [
        (
            "34: available_dates_sensor.workflows[3]: duplicate entry; available_dates_sensor.workflows[2] has the "
            "same workflow and parameters"
        )
    ]


def test_there_are_at_most_five_hundred_entries(inputs: Path) -> None:
    text = flows_entry("parameters: {count: 3}", f"for_each: {{count: {list(range(499))}}}")
    assert len(parse(inputs, text).sensor.triggers) == 500
    text = flows_entry("parameters: {count: 3}", f"for_each: {{count: {list(range(501))}}}")
    assert problems(inputs, text) == [
        "23: available_dates_sensor.workflows[0]: more than 500 entries, with those that 'for_each' makes"
    ]


def test_unknown_time_zone_is_reported(inputs: Path) -> None:
    text = changed(("  cdr_types", "  timezone: Africa/Acra\n  cdr_types"))
    assert problems(inputs, text) == [
        (
            "21: available_dates_sensor.timezone: unknown time zone 'Africa/Acra'; expected a name such as "
            "Africa/Accra or UTC; did you mean 'Africa/Accra'?"
        )
    ]


def test_a_file_with_every_key_is_valid(inputs: Path) -> None:
    text = (Path(__file__).parent / "every_key.yml").read_text(encoding="utf-8")
    write_notebook(inputs / "run.ipynb", parameters="flowapi_url = ''\ndate_ranges = []\nmissing = []\nunit = ''")
    write_notebook(inputs / "report.ipynb", parameters="run = ''\nreference_date = ''\nregion = ''")
    (inputs / "own.tpl").write_text("= Title")
    file = parse(inputs, text)
    assert file.findings == ()
    run, report = file.workflows[0].notebooks
    assert (run.memory, run.pool, run.secrets) == (2560 * 1024**2, PoolSpec("flowkit", 2), ("MAP_KEY",))
    assert (run.hidden, report.hidden) == ((), ("MAP_KEY",))
    labels = [(each.label, each.every, each.shown_title) for each in file.sensor.triggers]
    assert labels == [
        ("national", Every.MONTH, "Mobility, whole country"),
        ("north", Every.WEEK, "Mobility in the north"),
        ("south", Every.WEEK, "Mobility in the south"),
        ("daily", Every.DAY, "Mobility of people"),
    ]
    schemas = (FileSchema, WorkflowSchema, NotebookSchema, OutputSchema, SensorSchema, TriggerSchema)
    assert {key for schema in schemas for key in schema().fields if f"{key}:" not in text} == set()


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [
        (
            {"", "boss", "x"},
            ["33: {0}.failure[0]: unknown name 'bos'; AUTOFLOW_NOTIFY_URLS has boss and x; did you mean 'boss'?"],
        ),
        (
            {"mail", "hook"},
            [
                "33: {0}.success: unknown name 'boss'; AUTOFLOW_NOTIFY_URLS has hook and mail",
                "33: {0}.failure[0]: unknown name 'bos'; AUTOFLOW_NOTIFY_URLS has hook and mail",
            ],
        ),
        (
            {""},
            [
                "33: {0}.success: unknown name 'boss'; AUTOFLOW_NOTIFY_URLS has no URL with a name such as boss=URL",
                "33: {0}.failure[0]: unknown name 'bos'; AUTOFLOW_NOTIFY_URLS has no URL with a name such as bos=URL",
            ],
        ),
        ({"boss", "bos"}, []),
        (None, []),
    ],
)
def test_unknown_recipients_are_reported(inputs: Path, recipients: set[str] | None, expected: list[str]) -> None:
    path = inputs / "workflows.yml"
    path.write_text(other_entry("notify: {success: boss, failure: [bos]}"), encoding="utf-8")
    lines: list[str] = []
    try:
        parse_workflows_file(path, recipients=recipients)
    except WorkflowsFileError as error:
        lines = [line.removeprefix("workflows.yml:") for line in error.problems]
    assert lines == [line.format(f"{OTHER}.notify") for line in expected]


TWELVE_MISTAKES = [
    "{workflow_name: other, every: fortnight}",
    "{workflow_name: other, every: week, enough: 3}",
    "{workflow_name: other, every: month, enough: 130%, wait: 1}",
    "{workflow_name: other, every: quarter, earliest_date: 2016-02-01, latest_date: 2016-01-01}",
    "{workflow_name: other, every: monday, label: x}",
    "{workflow_name: other, every: tuesday, label: x}",
    "{workflow_name: flows, parameters: {count: 3}, for_each: {count: [1, 2]}}",
    "{workflow_name: other, every: wednesday, date_stencil: [{period: x}]}",
    "{workflow_name: other, every: thursday, requires_all_of: [mds]}",
    "{workflow_name: other, every: friday, after_previous: true, order: newest_first}",
    "{workflow_name: other, every: saturday, longest_gap: 1}",
    f"{{workflow_name: flows, for_each: {{count: {list(range(10, 510))}}}}}",
]
"""Entries for the good file, in which the type mds does not count: all have a mistake, except for the first label."""


def test_twelve_mistakes_give_a_line_each(inputs: Path) -> None:
    text = changed(("  cdr_types", "  timezone: Mars/Olympus\n  cdr_types"))
    text += "".join(f"    - {entry}\n" for entry in TWELVE_MISTAKES)
    found = problems(inputs, text)
    first = 1 + text[: text.index(TWELVE_MISTAKES[0])].count("\n")
    assert [line.split(": ")[0] for line in found] == ["21", *(str(first + n) for n in range(12) if n != 4)]

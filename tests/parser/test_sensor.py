import datetime
from pathlib import Path

import pytest

from autoflow.dates.intervals import IntervalEnds
from tests.parser.good_file import ENTRY, SENSOR, changed, parse, problems


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "'0 6 * * *'",
            "'0 6 * *'",
            (
                f"20: {SENSOR}.schedule: '0 6 * *' is not a valid cron string: "
                "expected five fields: minute, hour, day of the month, month, day of the week"
            ),
        ),
        (
            "'0 6 * * *'",
            "'0 26 * * *'",
            f"20: {SENSOR}.schedule: '0 26 * * *' is not a valid cron string: '26' is not a valid hour",
        ),
        ("'0 6 * * *'", "6", f"20: {SENSOR}.schedule: expected a cron string ('0 6 * * *') or null, not 6"),
        ("  schedule: '0 6 * * *'\n", "", f"19: {SENSOR}.schedule: missing key"),
        (
            "[calls, sms]",
            "[calls, voice]",
            f"21: {SENSOR}.cdr_types[1]: unknown CDR type 'voice'; expected calls, sms, mds or topups",
        ),
        ("[calls, sms]", "[calls, calls]", f"21: {SENSOR}.cdr_types[1]: duplicate item 'calls'"),
        ("[calls, sms]", "[]", f"21: {SENSOR}.cdr_types: the list is empty; add an item or remove the key"),
        ("[calls, sms]", "calls", f"21: {SENSOR}.cdr_types: expected a list, not 'calls'"),
        (
            "[calls, sms]",
            "[calls, sms]\n  interval_ends: exclude",
            f"22: {SENSOR}.interval_ends: expected included or excluded, not 'exclude'",
        ),
        (
            "[calls, sms]",
            "[calls, sms]\n  interval_ends: false",
            f"22: {SENSOR}.interval_ends: expected included or excluded, not false",
        ),
        (
            "{count: 3}",
            "{count: [1, .nan]}",
            f"24: {ENTRY}.parameters.count[1]: a parameter cannot be infinite or NaN, because JSON has no such values",
        ),
        (
            "{count: 3}",
            "{count: {a: -.inf}}",
            f"24: {ENTRY}.parameters.count.a: a parameter cannot be infinite or NaN, because JSON has no such values",
        ),
        (
            "{count: 3}",
            "{count: !!binary aGk=}",
            (
                f"24: {ENTRY}.parameters.count: a parameter must be text, a number, a date, true, false, null, "
                "or a list or mapping of these"
            ),
        ),
        (
            "earliest_date: 2016-01-02",
            "earliest_date: 2016-02-30",
            f"25: {ENTRY}.earliest_date: '2016-02-30' is not a valid date",
        ),
        (
            "earliest_date: 2016-01-02",
            "earliest_date: '2016-02-30'",
            f"25: {ENTRY}.earliest_date: '2016-02-30' is not a valid date",
        ),
        (
            "earliest_date: 2016-01-02",
            "earliest_date: soon",
            f"25: {ENTRY}.earliest_date: 'soon' is not a valid date; expected YYYY-MM-DD",
        ),
        (
            "earliest_date: 2016-01-02",
            "earliest_date: 2016-01-02 12:00:00",
            f"25: {ENTRY}.earliest_date: 2016-01-02 12:00:00 is not a valid date; expected YYYY-MM-DD",
        ),
        (
            "- -3",
            "- true",
            (
                f"28: {ENTRY}.date_stencil[1]: expected a date (YYYY-MM-DD), an offset in days, {{period: N}} or "
                "a pair of these, not true"
            ),
        ),
        (
            "- [-2, 0]",
            "- [2016-01-01 00:00:00, 0]",
            (
                f"29: {ENTRY}.date_stencil[2]: expected a date (YYYY-MM-DD), an offset in days, {{period: N}} or "
                "a pair of these, not 2016-01-01 00:00:00"
            ),
        ),
        ("- -3", "- 2016-02-30", f"28: {ENTRY}.date_stencil[1]: '2016-02-30' is not a valid date"),
        ("- [-2, 0]", "- [0, -2]", f"29: {ENTRY}.date_stencil[2]: [0, -2] starts after its end"),
        ("- [-2, 0]", "- [2016-02-30, 0]", f"29: {ENTRY}.date_stencil[2][0]: '2016-02-30' is not a valid date"),
        (
            "retry_delay: 5",
            "retry_delay: -1",
            f"30: {ENTRY}.retry_delay: expected a number of seconds from 0 to 31622400, not -1",
        ),
        (
            "max_attempts: 2",
            "max_attempts: 0",
            f"31: {ENTRY}.max_attempts: expected a whole number of at least 1, not 0",
        ),
        (
            "max_attempts: 2",
            "max_attempts: 2.0",
            f"31: {ENTRY}.max_attempts: expected a whole number of at least 1, not 2.0",
        ),
    ],
)
def test_one_mistake_in_the_sensor_gives_one_line(inputs: Path, old: str, new: str, expected: str) -> None:
    assert problems(inputs, changed((old, new))) == [expected]


def test_null_schedule_means_no_schedule(inputs: Path) -> None:
    assert parse(inputs, changed(("'0 6 * * *'", "null"))).sensor.schedule is None


@pytest.mark.parametrize("given", ["interval_ends: included", "interval_ends:", ""])
def test_interval_ends_are_included_unless_the_file_says_otherwise(inputs: Path, given: str) -> None:
    sensor = parse(inputs, changed(("[calls, sms]", f"[calls, sms]\n  {given}"))).sensor
    assert {sensor.interval_ends, *(trigger.date_stencil.interval_ends for trigger in sensor.triggers)} == {
        IntervalEnds.INCLUDED
    }


def test_interval_ends_hold_for_all_entries_also_for_those_without_a_stencil(inputs: Path) -> None:
    sensor = parse(inputs, changed(("[calls, sms]", "[calls, sms]\n  interval_ends: excluded"))).sensor
    assert sensor.interval_ends is IntervalEnds.EXCLUDED
    first, second = (trigger.date_stencil.resolve(datetime.date(2016, 1, 7)) for trigger in sensor.triggers)
    assert [interval.as_strings() for interval in first] == [
        ["2016-01-01", "2016-01-03"],
        ["2016-01-04", "2016-01-05"],
        ["2016-01-05", "2016-01-07"],
    ]
    assert [interval.as_strings() for interval in second] == [["2016-01-07", "2016-01-08"]]


def test_pairs_without_a_day_are_reported_with_their_lines_where_ends_are_excluded(inputs: Path) -> None:
    changes = (
        ("[calls, sms]", "[calls, sms]\n  interval_ends: excluded"),
        ("[2016-01-01, 2016-01-03]", "[2016-01-01, 2016-01-01]"),
        ("[-2, 0]", "[-2, -2]"),
    )
    assert problems(inputs, changed(*changes)) == [
        f"{line}: {ENTRY}.date_stencil[{index}]: [{day}, {day}] is empty, because 'interval_ends: excluded' excludes "
        f"its end; for this one day, write {day}"
        for line, index, day in ((28, 0, "2016-01-01"), (30, 2, "-2"))
    ]
    assert parse(inputs, changed(*changes[1:])).sensor.interval_ends is IntervalEnds.INCLUDED


def test_dates_in_parameters_become_iso_strings(inputs: Path) -> None:
    file = parse(inputs, changed(("{count: 3}", "{count: [2016-01-01, {at: 2016-01-01 12:30:00}, true, null, 1.5]}")))
    assert file.sensor.triggers[0].parameters == {
        "count": ["2016-01-01", {"at": "2016-01-01T12:30:00"}, True, None, 1.5],
    }

import asyncio
import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.client.schemas.schedules import CronSchedule
from prefect.server.schemas.schedules import CronSchedule as CronScheduleOfServer

from autoflow.parser.cron import cron_problem

CRONS_OF_PREFECT = """\
* * * * *|*/5 * * * *|0 6 * * *|0 6 * * 1-5|0 6 * * mon-fri|0 0 1 jan *|0 0 1 JAN,Mar *
0,30 8-18/2 * * *|5/15 * * * *|0 0 l * *|0 0 1,l * *|0 0 * * fri#2|0 0 * * 2#3|0 0 * * l5|0 0 ? * *
0 0 1 * ?|0 0 * * 7|0 0 * * fri-mon|0 0 * * mon-sun|22 22-2 * * *|@daily|@Hourly|@weekly|@monthly|@yearly
@annually|@midnight|0 0 * * * 30|* * * * * */5|  0   0 * * *  |0 0 29 2 *|0 0 31 * *|55/5 * * * *|0 0 08 * *
0 0 * nov-feb *|*,5 * * * *|0 0 * * 5#1,1#2|0 0 1,15 * mon|0 0 * * */7 0
0 0 * * sun,sat|0 0 * * 0-7|0 0 * * 7/2|0 6 29 2 *|0 6 31 2,3 *|0 6 30 4 *|0 6 l 2 *""".replace("\n", "|").split("|")

CRONS_OF_NOBODY = """\
*|* * * *|* * * * * * * *|60 * * * *|* 24 * * *|* * 0 * *|* * 32 * *|* * * 0 *|* * * 13 *|* * * * 8
a * * * *|*/0 * * * *|-1 * * * *|1- * * * *|1,,2 * * * *|, * * * *|1.5 * * * *|* * * jam *
* * * * mom|@often|@daily |@reboot|r * * * *|h h * * *|* ? * * *|0 0 ?,1 * *|0 0 * * fri#6
0 0 * * fri#0|0 0 * * fri#2,mon|0 0 * * l9|0 0 * * 5l|0 0 lw * *|1-5/ * * * *|0 0 * * 7 0|every day
0 0 * * * 60|0 0 * * * 0 1969|0 0 1w * *|*/-1 * * * *|0 0 * * 1-5#2|0 0 l/2 * *
0 0 * * \N{LATIN SMALL LETTER LONG S}un""".replace("\n", "|").split("|")

CRONS_THAT_PREFECT_ACCEPTS_BUT_NEVER_RUNS = [
    "0 0 30 2 *",
    "0 0 31 4,jun *",
    "0 0 30-31 2 *",
    "0 0 30/1 2 *",
    "0 0 31 2-jun/2,9 *",
    "0 6 31 4 mon",
    "0 0 30,l 2 *",
    "0 0 1 * fri#2",
    "0 0 29 2 * 0 2025",
    "0 0 l 1 * 0 2000-2025/2",
    "0 0 1 1 * 0 2024,2000-2010/5",
]

PROBLEMS = {
    "0 6 * *": "expected five fields: minute, hour, day of the month, month, day of the week",
    "0 26 * * *": "'26' is not a valid hour",
    "0 6 * jam *": "'jam' is not a valid month",
    "0 6 1,32 * *": "'32' is not a valid day of the month",
    "0 6 * * fri#6": "'fri#6' is not a valid day of the week",
    "*/0 6 * * *": "'*/0' is not a valid minute",
    "r(0-5) * * * *": "'r(0-5)' is not a valid minute",
    "0 6 * * * 60": "'60' is not a valid second",
    "0 6 1 1 * 0 2030": "a field for years is not supported",
    "0 6 * * fri#2,mon": "days of the week such as 'fri' and 'fri#2' cannot be mixed",
    "0 6 1 * fri#2": "a day of the week such as 'fri#2' cannot be combined with a day of the month",
    "0 6 * * 7 0": "Sunday is 0, not 7, where there is a field for seconds",
    "0 6 30,31 feb *": "such a day of the month never comes",
    "0 6 30,l * *": "'l' cannot be combined with days after the 28th",
    "0 22-2/2 * * *": "'22-2/2' must not have a step, because the range ends before it starts",
    "0-0 * * * *": "'0-0' starts where it ends, which Prefect reads as every minute; write 0",
    "59/5 * * * *": "'59/5' starts where it ends, which Prefect reads as every minute; write 59",
    "0 0 31 4-4 *": "'4-4' starts where it ends, which Prefect reads as every month; write 4",
    "0 0 1 apr-04 *": "'apr-04' starts where it ends, which Prefect reads as every month; write apr",
    "0 0 * * 7-sun": "'7-sun' starts where it ends, which Prefect reads as every day of the week; write 7",
}
TODAY = datetime.datetime(2026, 7, 1, tzinfo=datetime.UTC)
"""The day from which Prefect is asked for times; nothing here depends on the day on which the tests run."""


def is_accepted_by_prefect(cron: str) -> bool:
    try:
        CronSchedule(cron=cron)
    except ValueError:  # Pydantic's errors are that.
        return False
    return True


def is_run_by_prefect(cron: str) -> bool:
    """Return whether Prefect finds a time for `cron` after `TODAY`."""
    try:
        return bool(asyncio.run(CronScheduleOfServer(cron=cron).get_dates(1, TODAY)))
    except ValueError:  # croniter's errors are that.
        return False


@pytest.mark.parametrize("cron", CRONS_OF_PREFECT)
def test_cron_string_that_prefect_runs_is_accepted(cron: str) -> None:
    assert is_accepted_by_prefect(cron)
    assert is_run_by_prefect(cron)
    assert cron_problem(cron) is None


@pytest.mark.parametrize("cron", CRONS_OF_NOBODY)
def test_cron_string_that_prefect_refuses_is_refused(cron: str) -> None:
    assert not is_accepted_by_prefect(cron)
    assert cron_problem(cron)


@pytest.mark.parametrize("cron", CRONS_THAT_PREFECT_ACCEPTS_BUT_NEVER_RUNS)
def test_cron_string_that_never_runs_is_refused(cron: str) -> None:
    assert is_accepted_by_prefect(cron)
    assert not is_run_by_prefect(cron)
    assert cron_problem(cron)


@pytest.mark.parametrize("cron", PROBLEMS)
def test_problem_names_the_field_and_the_mistake(cron: str) -> None:
    assert cron_problem(cron) == PROBLEMS[cron]


CRON_PARTS = st.sampled_from(
    ["*", "?", "l", "0", "1", "7", "08", "12", "31", "60", "100", "jan", "fri", "2#3", "l5", "-", "/", ",", "2", "w"]
)


@settings(max_examples=150)
@given(st.lists(st.lists(CRON_PARTS, min_size=1, max_size=4).map("".join), min_size=5, max_size=7).map(" ".join))
def test_every_accepted_cron_string_is_one_that_prefect_runs(cron: str) -> None:
    if cron_problem(cron) is None:
        assert is_accepted_by_prefect(cron)
        assert is_run_by_prefect(cron)


@settings(max_examples=300)
@given(st.lists(CRON_PARTS, min_size=1, max_size=4).map("".join), st.integers(0, 5), st.sampled_from([5, 6]))
def test_every_accepted_field_is_one_that_prefect_runs(text: str, index: int, count: int) -> None:
    fields = ["*"] * count
    fields[min(index, count - 1)] = text
    cron = " ".join(fields)
    problem = cron_problem(cron)
    if problem is None:
        assert is_accepted_by_prefect(cron)
        assert is_run_by_prefect(cron)
    elif "never" in problem:
        assert not is_run_by_prefect(cron)


def items_of(*values: str) -> st.SearchStrategy[str]:
    """Return fields with some of `values`, alone and in ranges, with steps and without."""
    value, step = st.sampled_from(values), st.sampled_from(["", "/1", "/2", "/3", "/12", "/30"])
    range_ = st.tuples(value, value).map("-".join)
    item = st.tuples(st.one_of(value, range_, st.just("*")), step).map("".join)
    return st.lists(item, min_size=1, max_size=3).map(",".join)


@settings(max_examples=300)
@given(
    items_of("1", "28", "29", "30", "31") | st.sampled_from(["l", "?", "l,30", "31,l", "l,15"]),
    items_of("1", "2", "feb", "4", "jun", "11", "12"),
    st.sampled_from(["*", "?", "mon", "1-5", "*/2", "fri#5", "l0"]),
)
def test_accepted_days_occur_and_days_that_never_occur_are_refused(days: str, months: str, weekdays: str) -> None:
    cron = f"0 0 {days} {months} {weekdays}"
    problem = cron_problem(cron)
    if problem is None:
        assert is_run_by_prefect(cron)
    elif problem == "such a day of the month never comes":
        assert not is_run_by_prefect(cron)


BERLIN, NEW_YORK, HAVANA = "Europe/Berlin", "America/New_York", "America/Havana"


@pytest.mark.parametrize(
    ("cron", "timezone", "start", "times"),
    [
        # On 31 March 2024, the clocks in Berlin went from 02:00 to 03:00, and on 27 October from 03:00 to 02:00.
        ("30 2 * * *", BERLIN, "2024-03-30", ["03-30 01:30", "03-31 01:30", "04-01 00:30"]),
        ("30 2 31 3 *", BERLIN, "2024-03-01", ["03-31 01:30"]),
        ("30 2 * * *", BERLIN, "2024-10-26", ["10-26 00:30", "10-27 00:30", "10-28 01:30"]),
        # Between the two, and after both.
        ("30 2 * * *", BERLIN, "2024-10-27T00:31", ["10-28 01:30"]),
        ("30 2 * * *", BERLIN, "2024-10-27T01:31", ["10-28 01:30"]),
        ("0 6 * * *", BERLIN, "2024-03-30", ["03-30 05:00", "03-31 04:00", "04-01 04:00"]),
        ("0 6 * * *", BERLIN, "2024-10-26", ["10-26 04:00", "10-27 05:00", "10-28 05:00"]),
        ("30 2 * * *", NEW_YORK, "2024-03-09T12:00", ["03-10 07:30", "03-11 06:30"]),
        ("30 1 * * *", NEW_YORK, "2024-11-02T12:00", ["11-03 05:30", "11-04 06:30"]),
        # In Havana, the hour from midnight to 01:00 did not exist on 10 March.
        ("0 0 * * *", HAVANA, "2024-03-09", ["03-09 05:00", "03-10 05:00", "03-11 04:00"]),
        # Accra has no daylight saving time.
        ("0 6 * * *", "Africa/Accra", "2024-03-30", ["03-30 06:00", "03-31 06:00", "04-01 06:00"]),
    ],
)
def test_time_that_does_not_exist_or_exists_twice_takes_place_once(
    cron: str, timezone: str, start: str, times: list[str]
) -> None:
    schedule = CronScheduleOfServer(cron=cron, timezone=timezone)
    first = datetime.datetime.fromisoformat(start).replace(tzinfo=datetime.UTC)
    last = datetime.datetime.fromisoformat(f"2024-{times[-1]}").replace(tzinfo=datetime.UTC)
    found = asyncio.run(schedule.get_dates(n=100, start=first, end=last))
    assert [f"{each.astimezone(datetime.UTC):%m-%d %H:%M}" for each in found] == times

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
0,30 8-18/2 * * *|5/15 * * * *|0 0 l * *|0 0 10-l * *|0 0 * * fri#2|0 0 * * 2#3|0 0 * * l5|0 0 ? * *
0 0 1 * ?|0 0 * * 7|0 0 * * fri-mon|22 22-2 * * *|@daily|@Hourly|@weekly|@monthly|@yearly|@annually
@midnight|0 0 * * * 30|0 0 * * * 30 2030|  0   0 * * *  |0 0 29 2 *|0 0 31 * *|55/5 * * * *
0 0 * nov-feb *|*,5 * * * *|0 0 * * mon-fri#1|0 0 * * 5#1,1#2
0 0 * * sun,sat|0 0 * * 0-7|0 0 * * 7/2""".replace("\n", "|").split("|")

CRONS_OF_NOBODY = """\
*|* * * *|* * * * * * * *|60 * * * *|* 24 * * *|* * 0 * *|* * 32 * *|* * * 0 *|* * * 13 *|* * * * 8
a * * * *|*/0 * * * *|-1 * * * *|1- * * * *|1,,2 * * * *|, * * * *|1.5 * * * *|* * * jam *
* * * * mom|@often|@daily |@reboot|r * * * *|h h * * *|* ? * * *|0 0 ?,1 * *|0 0 * * fri#6
0 0 * * fri#0|0 0 * * fri#2,mon|0 0 * * l9|0 0 * * 5l|0 0 lw * *|1-5/ * * * *|0 0 * * 7 0|every day
0 0 * * * 60|0 0 * * * 0 1969|0 0 1w * *|*/-1 * * * *|0 0 * * 1-5#2|0 0 l/2 * *""".replace("\n", "|").split("|")

CRONS_THAT_PREFECT_WOULD_TAKE_BUT_NEVER_OR_RANDOMLY_RUN = [
    "0 0 30 2 *",
    "0 0 31 4,jun *",
    "r(0-5) * * * *",
    "r/5 * * * *",
    "0 0 30-31 2 *",
    "0 0 30/1 2 *",
    "0 0 31 2-jun/2,9 *",
    "0 6 31 4 mon",
    "0 0 30,l 2 *",
    "0 0 29 2 * 0 2030-2031",
    "0 0 1 1 * 0 2024,2000-2010/5",
]

RANGES_THAT_PREFECT_WOULD_TAKE_FOR_EVERYTHING = {
    "0-0 * * * *": "'0-0' starts where it ends, which Prefect takes for every minute; write 0",
    "59/5 * * * *": "'59/5' starts where it ends, which Prefect takes for every minute; write 59",
    "0 0 31 4-4 *": "'4-4' starts where it ends, which Prefect takes for every month; write 4",
    "0 0 1 apr-04 *": "'apr-04' starts where it ends, which Prefect takes for every month; write apr",
    "0 0 31-l * *": "'31-l' starts where it ends, which Prefect takes for every day of the month; write 31",
    "0 0 * * 7-sun": "'7-sun' starts where it ends, which Prefect takes for every day of the week; write 7",
    "0 0 * * fri-fri#2": "'fri-fri#2' starts where it ends, which Prefect takes for every day of the week; write fri#2",
}
TODAY = datetime.date(2026, 7, 1)


def is_taken_by_prefect(cron: str) -> bool:
    try:
        CronSchedule(cron=cron)
    except ValueError:  # Pydantic's errors are that.
        return False
    return True


@pytest.mark.parametrize("cron", CRONS_OF_PREFECT)
def test_cron_string_that_prefect_takes_is_taken(cron: str) -> None:
    assert is_taken_by_prefect(cron)
    assert cron_problem(cron) is None


@pytest.mark.parametrize("cron", CRONS_OF_NOBODY)
def test_cron_string_that_prefect_refuses_is_refused(cron: str) -> None:
    assert not is_taken_by_prefect(cron)
    assert cron_problem(cron)


@pytest.mark.parametrize("cron", CRONS_THAT_PREFECT_WOULD_TAKE_BUT_NEVER_OR_RANDOMLY_RUN)
def test_cron_string_that_never_runs_or_at_random_is_refused(cron: str) -> None:
    assert is_taken_by_prefect(cron)
    assert cron_problem(cron, TODAY)


@pytest.mark.parametrize("cron", RANGES_THAT_PREFECT_WOULD_TAKE_FOR_EVERYTHING)
def test_range_that_starts_where_it_ends_is_refused(cron: str) -> None:
    assert is_taken_by_prefect(cron)
    assert cron_problem(cron) == RANGES_THAT_PREFECT_WOULD_TAKE_FOR_EVERYTHING[cron]


@pytest.mark.parametrize(
    ("cron", "problem"),
    [
        ("0 6 * *", "five fields are expected: minute, hour, day of the month, month, day of the week"),
        ("0 26 * * *", "'26' is not a valid hour"),
        ("0 6 * jam *", "'jam' is not a valid month"),
        ("0 6 1,32 * *", "'32' is not a valid day of the month"),
        ("0 6 * * fri#6", "'fri#6' is not a valid day of the week"),
        ("0 6 * * fri#2,mon", "days of the week such as 'fri' and 'fri#2' cannot be mixed"),
        ("0 6 * * 7 0", "Sunday is 0, not 7, where there are fields for seconds or years"),
        ("0 6 30,31 feb *", "such a day of the month never comes"),
        ("0 6 1 1 * 0 1999-2025", "all its years are in the past"),
    ],
)
def test_what_is_wrong_is_told(cron: str, problem: str) -> None:
    assert cron_problem(cron) == problem


@pytest.mark.parametrize(
    "cron",
    ["0 6 29 2 *", "0 6 31 2,3 *", "0 6 30 4 *", "0 6 l 2 *", "0 6 29 2 * 0 2028", "0 6 1 1 * 0 2025-2026"],
)
def test_day_that_comes_at_times_is_taken(cron: str) -> None:
    assert cron_problem(cron, TODAY) is None


def test_years_are_in_the_past_when_they_are_over() -> None:
    assert cron_problem("0 6 1 1 * 0 2026", datetime.date(2026, 12, 31)) is None
    assert cron_problem("0 6 1 1 * 0 2026", datetime.date(2027, 1, 1)) == "all its years are in the past"


CRON_PARTS = st.sampled_from(
    ["*", "?", "l", "0", "1", "7", "08", "12", "31", "60", "100", "jan", "fri", "2#3", "l5", "-", "/", ",", "2"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(CRON_PARTS, min_size=1, max_size=4).map("".join), min_size=5, max_size=7).map(" ".join))
def test_whatever_cron_string_is_taken_is_one_that_prefect_takes(cron: str) -> None:
    if cron_problem(cron) is None:
        assert is_taken_by_prefect(cron)


@settings(max_examples=150, deadline=None)
@given(st.lists(CRON_PARTS, min_size=1, max_size=4).map("".join), st.integers(0, 6), st.sampled_from([5, 6, 7]))
def test_whatever_field_is_taken_is_one_that_prefect_takes(text: str, index: int, count: int) -> None:
    fields = ["*"] * count
    fields[min(index, count - 1)] = text
    cron = " ".join(fields)
    if cron_problem(cron) is None:
        assert is_taken_by_prefect(cron)


def is_run_by_prefect(cron: str) -> bool:
    """Tell whether Prefect finds a time for `cron` after `TODAY`."""
    start = datetime.datetime.combine(TODAY, datetime.time(), datetime.UTC)
    try:
        return bool(asyncio.run(CronScheduleOfServer(cron=cron).get_dates(1, start)))
    except ValueError:  # croniter's errors are that.
        return False


def items_of(*values: str) -> st.SearchStrategy[str]:
    """Return fields with some of `values`, alone and in ranges, with steps and without."""
    value, step = st.sampled_from(values), st.sampled_from(["", "/1", "/2", "/3", "/12", "/30"])
    range_ = st.tuples(value, value).map("-".join)
    item = st.tuples(st.one_of(value, range_, st.just("*")), step).map("".join)
    return st.lists(item, min_size=1, max_size=3).map(",".join)


@settings(max_examples=150, deadline=None)
@given(
    items_of("1", "28", "29", "30", "31") | st.sampled_from(["l", "?", "l,30", "31,l"]),
    items_of("1", "2", "feb", "4", "jun", "11", "12"),
    st.sampled_from(["*", "?", "mon", "1-5", "*/2"]),
    st.just("") | items_of("2000", "2025", "2027", "2028", "2030", "2050").map(" 0 {}".format),
)
def test_day_that_is_taken_comes_and_one_that_is_said_to_come_never_does_not(
    days: str, months: str, weekdays: str, years: str
) -> None:
    cron = f"0 0 {days} {months} {weekdays}{years}"
    problem = cron_problem(cron, TODAY)
    if problem is None:
        assert is_run_by_prefect(cron)
    elif problem in {"such a day of the month never comes", "all its years are in the past"}:
        assert not is_run_by_prefect(cron)

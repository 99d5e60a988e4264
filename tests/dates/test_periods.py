import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflow.dates.periods import Every, describe_period, is_last_day, last_days, nearest_last_days, period_of

DAYS = st.dates(dt.date(1900, 1, 1), dt.date(2200, 12, 31))
KINDS = st.sampled_from(Every)


def ends(day: str, every: Every, shift: int = 0) -> list[str]:
    return period_of(dt.date.fromisoformat(day), every, shift=shift).as_strings()


@pytest.mark.parametrize(
    ("day", "every", "first", "last"),
    [
        ("2016-02-29", Every.DAY, "2016-02-29", "2016-02-29"),
        ("2016-01-04", Every.WEEK, "2016-01-04", "2016-01-10"),
        ("2016-01-10", Every.WEEK, "2016-01-04", "2016-01-10"),
        ("2016-01-03", Every.WEEK, "2015-12-28", "2016-01-03"),  # week 53 of 2015
        ("2020-12-31", Every.WEEK, "2020-12-28", "2021-01-03"),  # week 53 of 2020
        ("2016-01-07", Every.THURSDAY, "2016-01-01", "2016-01-07"),
        ("2016-01-08", Every.THURSDAY, "2016-01-08", "2016-01-14"),
        ("2016-02-01", Every.MONTH, "2016-02-01", "2016-02-29"),
        ("2015-02-10", Every.MONTH, "2015-02-01", "2015-02-28"),
        ("1900-02-10", Every.MONTH, "1900-02-01", "1900-02-28"),
        ("2000-02-10", Every.MONTH, "2000-02-01", "2000-02-29"),
        ("2016-04-30", Every.MONTH, "2016-04-01", "2016-04-30"),
        ("2016-12-31", Every.MONTH, "2016-12-01", "2016-12-31"),
        ("2016-02-29", Every.QUARTER, "2016-01-01", "2016-03-31"),
        ("2016-11-01", Every.QUARTER, "2016-10-01", "2016-12-31"),
        ("2016-07-01", Every.YEAR, "2016-01-01", "2016-12-31"),
    ],
)
def test_period_of_a_day(day: str, every: Every, first: str, last: str) -> None:
    assert ends(day, every) == [first, last]


@pytest.mark.parametrize(
    ("day", "every", "shift", "first", "last"),
    [
        ("2016-03-31", Every.MONTH, -1, "2016-02-01", "2016-02-29"),
        ("2016-03-31", Every.MONTH, -13, "2015-02-01", "2015-02-28"),
        ("2016-01-10", Every.WEEK, -1, "2015-12-28", "2016-01-03"),
        ("2016-01-31", Every.QUARTER, -1, "2015-10-01", "2015-12-31"),
        ("2016-01-31", Every.YEAR, 1, "2017-01-01", "2017-12-31"),
        ("2016-03-01", Every.DAY, -1, "2016-02-29", "2016-02-29"),
    ],
)
def test_period_some_periods_away(day: str, every: Every, shift: int, first: str, last: str) -> None:
    assert ends(day, every, shift) == [first, last]


@given(DAYS, KINDS)
def test_each_day_lies_in_exactly_one_period(day: dt.date, every: Every) -> None:
    period = period_of(day, every)
    assert period.start <= day <= period.end
    assert all(period_of(each, every) == period for each in (period.start, period.end))
    assert period_of(day, every, shift=1).start == period.end + dt.timedelta(days=1)
    assert period_of(day, every, shift=-1).end == period.start - dt.timedelta(days=1)


@given(DAYS, st.integers(0, 800), KINDS)
def test_periods_between_two_days_are_those_of_the_days(first: dt.date, length: int, every: Every) -> None:
    days = [first + dt.timedelta(days=number) for number in range(length)]
    found = list(last_days(first, first + dt.timedelta(days=length - 1), every))
    assert found == sorted({period_of(day, every).end for day in days})
    assert all(is_last_day(day, every) for day in found)


@given(DAYS, KINDS, st.integers(-500, 500))
def test_shifts_add_up(day: dt.date, every: Every, shift: int) -> None:
    shifted = period_of(day, every, shift=shift)
    assert period_of(shifted.start, every, shift=-shift) == period_of(day, every)


@pytest.mark.parametrize("every", [kind for kind in Every if kind is not Every.DAY])
def test_period_beyond_the_calendar_is_refused(every: Every) -> None:
    for day, shift in ((dt.date.max, 1), (dt.date.min, -1), (dt.date(2016, 1, 1), 36_525 * 12)):
        with pytest.raises(ValueError, match="beyond the calendar"):
            period_of(day, every, shift=shift)
    assert all(day <= dt.date.max for day in last_days(dt.date(9999, 12, 1), dt.date.max, every))


def test_periods_follow_one_that_begins_before_the_calendar() -> None:
    assert list(last_days(dt.date.min, dt.date(1, 1, 18), Every.THURSDAY)) == [
        dt.date(1, 1, 11),
        dt.date(1, 1, 18),
    ]


def test_sunday_is_another_name_of_week() -> None:
    assert Every.named("sunday") is Every.WEEK
    assert Every.named("thursday") is Every.THURSDAY
    with pytest.raises(ValueError, match="fortnight"):
        Every.named("fortnight")


def test_nearest_dates_are_named_for_a_day_within_a_period() -> None:
    assert nearest_last_days(dt.date(2016, 2, 10), Every.MONTH) == (dt.date(2016, 1, 31), dt.date(2016, 2, 29))


def test_periods_are_described_for_people() -> None:
    day = dt.date(2016, 1, 10)
    assert describe_period(day, Every.DAY) == "2016-01-10"
    assert describe_period(day, Every.WEEK) == "week 2016-01-04 to 2016-01-10"
    assert describe_period(dt.date(2016, 1, 7), Every.THURSDAY) == "week 2016-01-01 to 2016-01-07"
    assert describe_period(dt.date(2016, 2, 29), Every.MONTH) == "month 2016-02-01 to 2016-02-29"

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflow.dates.availability import LONG_AGO, Arrival, Availability, AvailableDates
from autoflow.dates.completeness import ALL_DAYS, Completeness, Enough, end_of, readiness, readiness_of_period
from autoflow.dates.intervals import DateInterval


def day(number: int) -> dt.date:
    return dt.date(2016, 1, 1) + dt.timedelta(days=number - 1)


def time(number: int, hour: int = 0) -> dt.datetime:
    return dt.datetime.combine(day(number), dt.time(hour))


def seen(days: list[int], arrived: dict[int, dt.datetime] | None = None) -> AvailableDates:
    arrivals = {day(number): Arrival(at) for number, at in (arrived or {}).items()}
    return Availability(types={"calls": frozenset(map(day, days))}, arrivals={"calls": arrivals}).to()


WEEK = DateInterval(day(4), day(10))
SIXTY = Completeness(enough=Enough.of("60%"), wait=3)


@pytest.mark.parametrize(
    ("value", "length", "days"),
    [
        ("60%", 7, 5),
        ("50%", 7, 4),
        ("100%", 7, 7),
        ("1%", 7, 1),
        ("66.7%", 3, 3),
        ("66.6%", 3, 2),
        (5, 7, 5),
        (9, 7, 7),
    ],
)
def test_enough_is_rounded_up_and_at_most_all(value: object, length: int, days: int) -> None:
    assert Enough.of(value).of_days(length) == days


@pytest.mark.parametrize("value", ["130%", "0%", 0, -1, True, "60", "60 %", 0.6, None, "x%", "1e2%", [5]])
def test_other_values_are_not_enough(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected|neither|percentage"):
        Enough.of(value)


@pytest.mark.parametrize(
    "values", [{"enough": Enough(days=1)}, {"wait": 3}, {"longest_gap": 2}, {"enough": Enough(days=1), "wait": -1}]
)
def test_keys_that_belong_together_are_required_together(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"needs|negative"):
        Completeness(**values)  # type: ignore[arg-type]


def test_all_days_are_needed_without_enough() -> None:
    assert readiness([WEEK], ALL_DAYS, seen([*range(4, 11)])).at == LONG_AGO
    ready = readiness([WEEK], ALL_DAYS, seen([4, 5, 6, 7, 9, 10]))
    assert (ready.missing, ready.at) == ((day(8),), None)


def test_complete_stencil_is_ready_at_once_although_a_day_has_just_arrived() -> None:
    assert readiness([WEEK], SIXTY, seen([*range(4, 11)], {10: time(11, 9)})).at == LONG_AGO


def test_enough_days_are_ready_some_days_after_the_last_missing_day_has_ended() -> None:
    ready = readiness([WEEK], SIXTY, seen([4, 5, 6, 7, 8, 9]))
    assert (ready.missing, ready.at) == ((day(10),), time(14))


def test_wait_starts_again_when_a_day_of_the_stencil_arrives() -> None:
    assert readiness([WEEK], SIXTY, seen([4, 5, 6, 7, 8], {8: time(13, 9)})).at == time(16, 9)
    assert readiness([WEEK], SIXTY, seen([4, 5, 6, 7, 8, 20], {20: time(21)})).at == time(14)


def test_too_few_days_are_never_ready() -> None:
    assert readiness([WEEK], SIXTY, seen([4, 5, 6, 7])).at is None


@pytest.mark.parametrize(
    ("days", "is_ready"), [([6, 7, 8, 9, 10], True), ([4, 5, 8, 9, 10], True), ([7, 8, 9, 10], False)]
)
def test_longest_gap_includes_the_edges(days: list[int], is_ready: bool) -> None:
    needed = Completeness(enough=Enough(days=4), longest_gap=2, wait=0)
    assert (readiness([WEEK], needed, seen(days)).at is not None) is is_ready


def test_each_element_needs_enough_days_of_its_own() -> None:
    both = [WEEK, DateInterval(day(1), day(1))]
    assert readiness(both, SIXTY, seen([*range(4, 11)])).at is None
    assert readiness(both, SIXTY, seen([1, *range(4, 10)])).at == time(14)


def test_days_end_in_the_time_zone() -> None:
    assert end_of(dt.date(2016, 3, 26), ZoneInfo("Europe/Berlin")) == dt.datetime(2016, 3, 26, 23)
    assert end_of(dt.date(2016, 3, 27), ZoneInfo("Europe/Berlin")) == dt.datetime(2016, 3, 27, 22)
    needed = Completeness(enough=Enough(days=6), wait=1, zone=ZoneInfo("Asia/Kathmandu"))
    assert readiness([WEEK], needed, seen([*range(4, 10)])).at == dt.datetime(2016, 1, 11, 18, 15)


def test_period_is_over_when_a_later_day_is_available() -> None:
    last_week = [DateInterval(day(-3), day(3))]
    assert readiness_of_period(WEEK, last_week, ALL_DAYS, seen([*range(-3, 4), 9])).at is None
    assert readiness_of_period(WEEK, last_week, ALL_DAYS, seen([*range(-3, 4), 10])).at == LONG_AGO
    assert readiness_of_period(WEEK, last_week, ALL_DAYS, seen([*range(-3, 4), 12])).at == LONG_AGO


def test_period_is_over_without_its_last_day_once_the_wait_is_over() -> None:
    last_week = [DateInterval(day(-3), day(3))]
    assert readiness_of_period(WEEK, last_week, SIXTY, seen([*range(-3, 4)])).at == time(14)
    assert readiness_of_period(WEEK, [WEEK], SIXTY, seen([4, 5, 6, 7, 8])).at == time(14)
    assert readiness_of_period(WEEK, [WEEK], SIXTY, seen([5, 6, 7, 8, 11])).at is None
    assert readiness_of_period(WEEK, [WEEK], SIXTY, seen([4, 6, 7, 8, 10, 11])).at == time(13)


@given(st.sets(st.integers(1, 31)), st.integers(1, 31), st.integers(0, 5), st.integers(0, 31))
def test_more_days_never_make_a_run_less_ready(days: set[int], enough: int, wait: int, more: int) -> None:
    needed = Completeness(enough=Enough(days=enough), wait=wait)
    month = [DateInterval(day(1), day(31))]
    before, after = (readiness(month, needed, seen(sorted(each))) for each in (days, days | {more}))
    if before.at is not None:
        assert after.at is not None
        assert after.at <= before.at

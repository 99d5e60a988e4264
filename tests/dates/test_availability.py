import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflow.dates.availability import LONG_AGO, Arrival, Availability

DAY = dt.date(2016, 1, 1)


def hour(number: int) -> dt.datetime:
    return dt.datetime(2016, 2, 1, number)


def test_a_date_is_available_if_any_type_has_it_or_each_of_those_required() -> None:
    other, third = DAY + dt.timedelta(days=1), DAY + dt.timedelta(days=2)
    found = Availability(types={"calls": frozenset({DAY, other}), "sms": frozenset({other, third})})
    assert found.to().dates == {DAY, other, third}
    assert found.to(["calls", "sms"]).dates == {other}
    assert found.to(["calls", "mds"]).dates == frozenset()
    assert found.only(["sms"]).to().dates == {other, third}
    assert (found.to().newest, Availability(types={}).to().newest) == (third, None)


@pytest.mark.parametrize(
    ("calls", "sms", "any_arrived", "all_arrived"),
    [
        (Arrival(), Arrival(), LONG_AGO, LONG_AGO),
        (Arrival(hour(1)), Arrival(hour(3)), hour(1), hour(3)),
        (Arrival(), Arrival(hour(3)), LONG_AGO, hour(3)),
        # Both were gone, and one came back first.
        (Arrival(hour(1), hour(4), hour(6)), Arrival(hour(2), hour(5), hour(7)), hour(6), hour(7)),
        # One was there all the time.
        (Arrival(hour(1), hour(4), hour(6)), Arrival(hour(2)), hour(1), hour(6)),
        # They were gone one after the other.
        (Arrival(hour(1), hour(2), hour(3)), Arrival(hour(1), hour(4), hour(5)), hour(1), hour(5)),
    ],
)
def test_arrival_is_when_a_date_became_available_last(
    calls: Arrival, sms: Arrival, any_arrived: dt.datetime, all_arrived: dt.datetime
) -> None:
    types = {"calls": frozenset({DAY}), "sms": frozenset({DAY})}
    found = Availability(types=types, arrivals={"calls": {DAY: calls}, "sms": {DAY: sms}})
    assert found.to().arrived(DAY) == any_arrived
    assert found.to(["calls", "sms"]).arrived(DAY) == all_arrived


def test_a_type_without_the_date_does_not_matter() -> None:
    types = {"calls": frozenset({DAY}), "sms": frozenset[dt.date]()}
    found = Availability(
        types=types, arrivals={"calls": {DAY: Arrival(hour(2))}, "sms": {DAY: Arrival(vanished=hour(1))}}
    )
    assert found.to().arrived(DAY) == hour(2)


def test_a_date_without_a_record_arrived_long_ago() -> None:
    assert Availability.of({DAY}).to().arrived(DAY) == LONG_AGO


def test_a_type_that_is_missing_from_the_answer_keeps_dates_of_others_from_arriving() -> None:
    arrivals = {"calls": {DAY: Arrival(hour(2))}, "sms": {DAY: Arrival(hour(1))}}
    found = Availability(types={"calls": frozenset({DAY})}).with_arrivals(arrivals)
    assert found.to().dates == {DAY}
    assert found.to().arrived(DAY) == hour(1)
    assert found.only(["calls"]).to().arrived(DAY) == hour(2)


@given(st.dictionaries(st.integers(0, 60), st.integers(0, 23), max_size=30), st.integers(-5, 65), st.integers(0, 65))
def test_days_are_counted_and_the_last_arrival_found_between_any_two(
    hours: dict[int, int], first: int, length: int
) -> None:
    arrivals = {"calls": {DAY + dt.timedelta(days=number): Arrival(hour(at)) for number, at in hours.items()}}
    found = Availability.of(arrivals["calls"]).with_arrivals(arrivals).to()
    inside = [hour(at) for number, at in hours.items() if first <= number <= first + length]
    days = DAY.toordinal() + first, DAY.toordinal() + first + length
    assert (found.count(*days), found.last_arrival(*days)) == (len(inside), max(inside, default=LONG_AGO))

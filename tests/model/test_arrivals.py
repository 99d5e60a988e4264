import datetime as dt
from contextlib import closing

from autoflow.dates.availability import LONG_AGO, Arrival
from autoflow.model.store import RunStore
from tests.model.conftest import Clock

FIRST, SECOND, THIRD = (dt.date(2016, 1, number) for number in (1, 2, 3))
MINUTE = dt.timedelta(minutes=1)


def found(*dates: dt.date) -> dict[str, frozenset[dt.date]]:
    return {"calls": frozenset(dates)}


def test_first_look_finds_what_arrived_long_ago(store: RunStore, clock: Clock) -> None:
    assert store.note_dates(found(FIRST)) == {"calls": {FIRST: Arrival(LONG_AGO)}}
    clock.now += MINUTE
    assert store.note_dates(found(FIRST, SECOND))["calls"][SECOND] == Arrival(clock.now)
    assert store.arrivals() == {"calls": {FIRST: Arrival(LONG_AGO), SECOND: Arrival(clock.now)}}


def test_a_first_look_that_finds_nothing_counts(store: RunStore, clock: Clock) -> None:
    assert store.note_dates({}) == {}
    clock.now += MINUTE
    assert store.note_dates(found(FIRST)) == {"calls": {FIRST: Arrival(clock.now)}}


def test_dates_that_vanish_and_return_are_recorded(store: RunStore, clock: Clock) -> None:
    store.note_dates(found(FIRST, SECOND))
    times = []
    for dates in ([FIRST], [FIRST], [FIRST, SECOND], [FIRST, SECOND]):
        clock.now += MINUTE
        times.append(clock.now)
        arrivals = store.note_dates(found(*dates))
    gone, _, back, _ = times
    assert arrivals["calls"][SECOND] == Arrival(LONG_AGO, gone, back)
    clock.now += MINUTE
    assert store.note_dates(found(FIRST))["calls"][SECOND].is_gone
    clock.now += MINUTE
    assert store.note_dates(found(FIRST, SECOND))["calls"][SECOND] == Arrival(LONG_AGO, clock.now - MINUTE, clock.now)


def test_a_type_that_is_missing_from_the_answer_has_not_vanished(store: RunStore, clock: Clock) -> None:
    store.note_dates({**found(FIRST), "sms": frozenset({FIRST})})
    clock.now += MINUTE
    for answer in (found(FIRST), {**found(FIRST), "sms": frozenset()}):
        assert store.note_dates(answer)["sms"] == {FIRST: Arrival(LONG_AGO)}


def test_two_daemons_agree(uri: str, store: RunStore, clock: Clock) -> None:
    with closing(RunStore(uri, clock=clock)) as other:
        store.note_dates(found(FIRST))
        clock.now += MINUTE
        expected = store.note_dates(found(FIRST, THIRD))
        clock.now += MINUTE
        assert other.note_dates(found(FIRST, THIRD)) == expected


def test_ten_years_are_recorded_and_read_back(store: RunStore) -> None:
    dates = frozenset(FIRST + dt.timedelta(days=number) for number in range(3_650))
    arrivals = store.note_dates(dict.fromkeys(("calls", "sms"), dates))
    assert {name: arrivals[name].keys() for name in arrivals} == {"calls": dates, "sms": dates}

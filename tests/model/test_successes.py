import datetime

from autoflow.model.store import RunStore
from autoflow.model.successes import Success, last_successes
from autoflow.runs.records import RunKey, RunState
from tests.model.conftest import Clock


def run(store: RunStore, clock: Clock, key: RunKey, state: RunState, *, again: bool = False) -> None:
    claim = store.claim(key, again=again)
    assert claim
    clock.now += datetime.timedelta(minutes=1)
    store.finish(claim, state)


def test_the_last_success_of_each_entry_is_the_one_that_ended_last(store: RunStore, clock: Clock) -> None:
    days = [datetime.date(2016, 1, number) for number in (1, 2, 3)]
    north, south, failing = ([RunKey.of("w", {"region": name}, day) for day in days] for name in ("n", "s", "f"))
    run(store, clock, north[1], RunState.SUCCEEDED)
    run(store, clock, north[2], RunState.SUCCEEDED)
    run(store, clock, south[2], RunState.SUCCEEDED)
    run(store, clock, north[0], RunState.SUCCEEDED)
    first = Success(clock.now, days[0])
    run(store, clock, failing[0], RunState.FAILED)
    found = last_successes(store.database)
    assert found.keys() == {north[0].workflow_key, south[0].workflow_key}
    assert found[north[0].workflow_key] == first

    run(store, clock, north[2], RunState.SUCCEEDED, again=True)
    assert last_successes(store.database)[north[0].workflow_key] == Success(clock.now, days[2])

import datetime
from contextlib import closing

from autoflow.model.store import RunStore
from autoflow.runs.records import RunKey, RunState
from tests.model.conftest import Clock

MINUTE = datetime.timedelta(minutes=1)
DATE = datetime.date(2016, 1, 1)


def succeed(store: RunStore, clock: Clock, *, days: int, minutes: float, workflow: str = "flows") -> None:
    """Record successes for a number of days, each of which took so long."""
    for number in range(days):
        claim = store.claim(RunKey.of(workflow, {}, DATE + datetime.timedelta(days=number)))
        assert claim
        clock.now += minutes * MINUTE
        assert store.finish(claim, RunState.SUCCEEDED)


def test_run_is_stuck_compared_with_the_last_successes_of_its_workflow(store: RunStore, clock: Clock) -> None:
    succeed(store, clock, days=20, minutes=60)
    succeed(store, clock, days=3, minutes=100, workflow="slow")
    for number in range(20, 30):
        claim = store.claim(RunKey.of("flows", {}, DATE + datetime.timedelta(days=number)))
        assert claim
        clock.now += 4 * MINUTE
        assert store.finish(claim, RunState.SUCCEEDED)
    running = store.claim(RunKey.of("flows", {}, datetime.date(2016, 3, 1)))
    assert running

    clock.now += 20 * MINUTE
    assert store.stuck_runs() == []
    clock.now += 1 * MINUTE
    (stuck,) = store.stuck_runs()
    assert stuck.record.id == running.id
    assert (stuck.running_for, stuck.usual) == (21 * MINUTE, 4 * MINUTE)


def test_rerun_without_successes_is_stuck_after_an_hour_until_it_ends(store: RunStore, clock: Clock) -> None:
    succeed(store, clock, days=1, minutes=1)
    rerun = store.claim(RunKey.of("flows", {}, DATE), again=True)
    assert rerun
    clock.now += 61 * MINUTE
    assert [each.record.id for each in store.stuck_runs()] == [rerun.id]
    assert store.finish(rerun, RunState.FAILED)
    assert store.stuck_runs() == []


def test_stuck_run_is_found_by_the_database_own_clock(uri: str) -> None:
    with closing(RunStore(uri)) as store:
        store.migrate()
        assert store.claim(RunKey.of("flows", {}, DATE))
        assert store.stuck_runs() == []
    ahead = Clock()
    ahead.now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + 61 * MINUTE
    with closing(RunStore(uri, clock=ahead)) as store:
        assert len(store.stuck_runs()) == 1

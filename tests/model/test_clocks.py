"""Times that were recorded while a clock was ahead."""

import datetime
from collections.abc import Iterator
from contextlib import closing

import pytest

from autoflow.model.clocks import settle_times
from autoflow.model.store import RunStore
from autoflow.runs.records import CRASHED_AFTER, Claim, RunKey, RunState
from autoflow.system.stop_signal import StopSignal
from tests.model.conftest import Clock

SECOND = datetime.timedelta(seconds=1)
KEY = RunKey.of("flows", {}, datetime.date(2016, 1, 1))
OTHER = RunKey.of("others", {}, datetime.date(2016, 1, 1))
AHEAD = (SECOND, datetime.timedelta(hours=1), datetime.timedelta(days=365))


def claim(store: RunStore, key: RunKey = KEY) -> Claim:
    claimed = store.claim(key)
    assert claimed is not None
    return claimed


@pytest.mark.parametrize("ahead", AHEAD)
def test_run_with_a_heartbeat_from_the_future_has_crashed_once_the_usual_time_has_passed(
    store: RunStore, clock: Clock, ahead: datetime.timedelta
) -> None:
    clock.now += ahead
    lost, kept = claim(store), claim(store, OTHER)
    clock.now -= ahead
    assert store.give_up_crashed() == 0
    clock.now += CRASHED_AFTER
    store.renew([kept])
    assert store.give_up_crashed() == 0
    clock.now += SECOND
    assert store.give_up_crashed() == 1
    assert store.renew([lost, kept]) == {kept}
    assert claim(store).attempt == 2


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize("state", [RunState.FAILED, RunState.SUCCEEDED, RunState.CANCELLED])
def test_no_time_is_in_the_future_once_the_clock_is_back(
    store: RunStore, clock: Clock, ahead: datetime.timedelta, state: RunState
) -> None:
    clock.now += ahead
    store.finish(claim(store), state)
    clock.now -= ahead
    before = clock.now
    store.give_up_crashed()
    clock.now += SECOND
    store.give_up_crashed()
    (record,) = store.runs()
    assert (record.started_at, record.heartbeat_at, record.finished_at) == (before, before, before)
    assert len(store.runs_ended_before(before + SECOND)) == 1


def test_times_in_the_past_stay_as_they_are(store: RunStore, clock: Clock) -> None:
    run = claim(store)
    clock.now += SECOND
    store.finish(run, RunState.FAILED)
    recorded = store.runs()
    clock.now += SECOND
    assert store.pull_back_times() == {}
    assert store.runs() == recorded


@pytest.mark.parametrize("ahead", AHEAD[1:])
def test_clock_of_the_database_itself_counts_if_the_store_has_none(uri: str, ahead: datetime.timedelta) -> None:
    early = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + ahead
    with closing(RunStore(uri, clock=lambda: early)) as wrong, closing(RunStore(uri)) as store:
        wrong.migrate()
        run = claim(wrong)
        ((run_id, heartbeat),) = store.pull_back_times().items()
        assert run_id == run.id
        assert heartbeat < early


class TestSettleTimes:
    """A store whose clock is that of the machine, and runs for which a second without a heartbeat is too long."""

    @pytest.fixture
    def hasty(self, uri: str) -> Iterator[RunStore]:
        with closing(RunStore(uri, crashed_after=SECOND)) as store:
            store.migrate()
            yield store

    def claim_ahead(self, uri: str, key: RunKey = KEY) -> Claim:
        ahead = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(days=365)
        with closing(RunStore(uri, clock=lambda: ahead)) as wrong:
            return claim(wrong, key)

    def test_run_that_does_not_renew_its_heartbeat_is_marked_as_crashed(
        self, hasty: RunStore, uri: str, logged: list[str]
    ) -> None:
        lost = self.claim_ahead(uri)
        settle_times(hasty, waiting)
        assert [run.state for run in hasty.runs()] == [RunState.CRASHED]
        assert logged == [
            (
                "the clock was set back: waiting up to 1 s for the next heartbeat of runs recorded as running "
                f"(run {lost.id})"
            )
        ]

    def test_run_that_renews_its_heartbeat_continues_and_keeps_no_one_waiting(self, hasty: RunStore, uri: str) -> None:
        run, looks = self.claim_ahead(uri), 0

        def wait(_seconds: float) -> bool:
            nonlocal looks
            looks += 1
            return not hasty.renew([run])

        settle_times(hasty, wait)
        assert looks == 1
        assert [run.state for run in hasty.runs()] == [RunState.RUNNING]

    def test_nobody_waits_without_such_a_run_or_after_a_stop(self, hasty: RunStore, uri: str) -> None:
        claim(hasty, OTHER)
        settle_times(hasty, lambda _seconds: pytest.fail("it waits"))
        self.claim_ahead(uri)
        looks = 0

        def stop(_seconds: float) -> bool:
            nonlocal looks
            looks += 1
            return True

        settle_times(hasty, stop)
        assert looks == 1


def waiting(seconds: float) -> bool:
    """Wait as the stop signal of a daemon that keeps running does."""
    return StopSignal().wait(seconds)

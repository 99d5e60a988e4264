import datetime

import pytest

from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.runs.records import CANCELLED_FROM_COMMAND_LINE, CRASHED_AFTER, Claim, RunKey, RunState
from autoflow.system.stop_signal import StopSignal
from tests.model.conftest import Clock

SECOND = datetime.timedelta(seconds=1)


def claim(store: RunStore, date: int = 1) -> Claim:
    claimed = store.claim(RunKey.of("flows", {}, datetime.date(2016, 1, date)))
    assert claimed
    return claimed


def state(store: RunStore, run_id: int) -> RunState:
    record = store.run(run_id)
    assert record
    return record.state


def test_only_the_run_that_somebody_wants_to_cancel_is_stopped(store: RunStore) -> None:
    claims = [claim(store, date) for date in (1, 2)]
    stops, cancels = [StopSignal(), StopSignal()], [StopSignal(), StopSignal()]
    heartbeat = Heartbeat(store)
    with heartbeat.of(claims[0], stops[0], cancel=cancels[0]), heartbeat.of(claims[1], stops[1], cancel=cancels[1]):
        heartbeat.stop_cancelled()
        assert not any(cancel.is_set for cancel in cancels)
        assert store.ask_to_cancel(claims[1].id)
        heartbeat.stop_cancelled()
    assert [cancel.reason for cancel in cancels] == ["", CANCELLED_FROM_COMMAND_LINE]
    assert not any(stop.is_set for stop in stops)


def test_run_that_has_ended_or_never_was_cannot_be_cancelled(store: RunStore) -> None:
    ended = claim(store)
    store.finish(ended, RunState.FAILED)
    assert not store.ask_to_cancel(ended.id)
    assert not store.ask_to_cancel(ended.id + 1)
    assert store.asked_to_cancel([ended]) == frozenset()


def test_first_request_counts(store: RunStore, clock: Clock) -> None:
    asked_at, one = clock.now, claim(store)
    assert store.ask_to_cancel(one.id)
    clock.now += SECOND
    assert store.ask_to_cancel(one.id)
    record = store.run(one.id)
    assert record
    assert record.cancel_asked_at == asked_at


def test_run_of_a_process_that_is_gone_is_cancelled_and_not_due_again(store: RunStore, clock: Clock) -> None:
    cancelled, crashed = claim(store, 1), claim(store, 2)
    store.ask_to_cancel(cancelled.id)
    assert store.give_up_crashed() == 0
    clock.now += CRASHED_AFTER + SECOND
    assert store.give_up_crashed() == 1
    assert (state(store, cancelled.id), state(store, crashed.id)) == (RunState.CANCELLED, RunState.CRASHED)
    failures = store.histories()[cancelled.key.workflow_key].failures
    assert failures[cancelled.key.reference_date].cancelled
    assert not failures[crashed.key.reference_date].cancelled


@pytest.mark.parametrize(
    ("end", "recorded"),
    [
        (RunState.INTERRUPTED, RunState.CANCELLED),
        (RunState.CANCELLED, RunState.CANCELLED),
        (RunState.SUCCEEDED, RunState.SUCCEEDED),
        (RunState.FAILED, RunState.FAILED),
    ],
)
def test_run_that_is_stopped_after_somebody_asked_to_cancel_it_is_cancelled(
    store: RunStore, end: RunState, recorded: RunState
) -> None:
    asked, other = claim(store, 1), claim(store, 2)
    store.ask_to_cancel(asked.id)
    assert store.finish(asked, end)
    assert store.finish(other, end)
    assert (state(store, asked.id), state(store, other.id)) == (recorded, end)

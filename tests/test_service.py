"""When a tick follows one that failed."""

import pytest

from autoflow.errors import AutoflowError, FlowApiError, RunStoreError, WorkflowsFileError
from autoflow.specs import SensorSpec, WorkflowsFile
from autoflow.workflows.tick import Tick, TickRetry

TICKED = WorkflowsFile(workflows=(), sensor=SensorSpec(schedule="0 6 * * *", cdr_types=None, triggers=()))


class Timer:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def pauses(retry: TickRetry, timer: Timer, error: AutoflowError, *, times: int) -> list[float]:
    """Let a tick fail so many times; return after how many seconds each time the next one is due."""
    found: list[float] = []
    for _ in range(times):
        retry.tick_ended(error)
        failed_at = timer.seconds
        while not retry.is_due:
            timer.seconds += 30
        retry.tick_scheduled()
        assert not retry.is_due
        found.append(timer.seconds - failed_at)
    return found


@pytest.mark.parametrize("error", [FlowApiError("it does not answer"), RunStoreError("the database is locked")])
def test_a_tick_that_failed_is_repeated_after_growing_pauses_however_far_the_schedule_is(error: AutoflowError) -> None:
    retry = TickRetry(timer := Timer())
    assert pauses(retry, timer, error, times=7) == [60, 120, 240, 480, 900, 900, 900]


def test_the_pauses_are_short_again_after_a_tick_that_succeeded() -> None:
    retry = TickRetry(timer := Timer())
    pauses(retry, timer, FlowApiError("it does not answer"), times=4)
    retry.tick_ended(Tick(file=TICKED))
    timer.seconds += 1_000_000
    assert not retry.is_due
    assert pauses(retry, timer, FlowApiError("it does not answer"), times=1) == [60]


def test_a_tick_with_an_invalid_file_is_not_repeated_before_the_file_is_edited() -> None:
    retry = TickRetry(timer := Timer())
    retry.tick_ended(WorkflowsFileError(["workflows.yml:1: no"]))
    timer.seconds += 1_000_000
    assert not retry.is_due

import datetime
from collections.abc import Mapping
from pathlib import Path

import pytest

from autoflow.date_stencil import DateStencil
from autoflow.runs.plan import PlannedDate, Standing, due_runs, in_ranges, make_plan
from autoflow.runs.records import Failures, History, RunKey
from autoflow.specs import NotebookSpec, TriggerSpec, WorkflowSpec

NOW = datetime.datetime(2026, 1, 1, 12)
HOUR = datetime.timedelta(hours=1)
WORKFLOW = WorkflowSpec(name="w", notebooks=(NotebookSpec(label="n", path=Path("/n.ipynb")),))


def day(number: int) -> datetime.date:
    return datetime.date(2016, 1, number)


TRIGGER = TriggerSpec(
    workflow=WORKFLOW, earliest_date=day(3), date_stencil=DateStencil([[-1, 0]]), retry_delay=7200, max_attempts=2
)
AVAILABLE = frozenset(day(number) for number in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12))
HISTORY = History(
    done=frozenset({day(4), day(30)}),
    running=frozenset({day(5)}),
    failures={
        day(6): Failures(1, NOW - HOUR),
        day(7): Failures(2, NOW - HOUR),
        day(8): Failures(0, None, cancelled=True),
        day(12): Failures(1, NOW - 3 * HOUR),
    },
)
HISTORIES: Mapping[tuple[str, str], History] = {("w", RunKey.of("w", {}, day(1)).parameters_hash): HISTORY}


def planned() -> dict[int, PlannedDate]:
    (plan,) = make_plan([TRIGGER], AVAILABLE, HISTORIES, NOW)
    return {each.date.day: each for each in plan.dates}


def test_each_date_that_is_available_or_was_run_has_a_standing() -> None:
    assert {number: each.standing for number, each in planned().items()} == {
        1: Standing.TOO_EARLY,
        2: Standing.TOO_EARLY,
        3: Standing.DUE,
        4: Standing.DONE,
        5: Standing.RUNNING,
        6: Standing.WAITING,
        7: Standing.GIVEN_UP,
        8: Standing.CANCELLED,
        11: Standing.INCOMPLETE,
        12: Standing.DUE,
        30: Standing.DONE,
    }


def test_what_is_due_is_what_the_sensor_would_run() -> None:
    due = due_runs([TRIGGER], AVAILABLE, HISTORIES, NOW)
    assert [run.reference_date for run in due] == [
        each.date for each in planned().values() if each.standing is Standing.DUE
    ]


def test_counts_name_every_standing() -> None:
    (plan,) = make_plan([TRIGGER], AVAILABLE, HISTORIES, NOW)
    assert plan.counts == {
        Standing.DONE: 2,
        Standing.RUNNING: 1,
        Standing.DUE: 2,
        Standing.WAITING: 1,
        Standing.GIVEN_UP: 1,
        Standing.CANCELLED: 1,
        Standing.TOO_EARLY: 2,
        Standing.INCOMPLETE: 1,
    }


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (3, ""),
        (6, "failed 1 time, next attempt at 2026-01-01 13:00:00 UTC"),
        (7, "failed 2 times"),
        (11, "missing 2016-01-10"),
    ],
)
def test_the_reason_is_told(number: int, why: str) -> None:
    assert planned()[number].why == why


def test_a_stencil_that_is_backwards_is_told() -> None:
    trigger = TriggerSpec(workflow=WORKFLOW, date_stencil=DateStencil([["2016-01-02", 0]]))
    (plan,) = make_plan([trigger], frozenset({day(1)}), {}, NOW)
    assert [(each.standing, each.why) for each in plan.dates] == [
        (Standing.INCOMPLETE, "the stencil is backwards for this date")
    ]


def test_what_failed_or_was_cancelled_has_failed_until_it_is_done() -> None:
    assert [number for number, each in planned().items() if each.has_failed] == [6, 7, 8, 12]


def test_days_in_a_row_are_written_in_short() -> None:
    assert in_ranges([day(1), day(2), day(3), day(5), day(8), day(9)]) == (
        "2016-01-01 to 2016-01-03, 2016-01-05, 2016-01-08 to 2016-01-09"
    )

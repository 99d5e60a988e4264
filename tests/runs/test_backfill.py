import datetime
from pathlib import Path

import pytest

from autoflow.errors import AutoflowError
from autoflow.runs.backfill import Reprocess, left_out, triggers_of, wanted_dates
from autoflow.runs.plan import PlannedDate, Standing, TriggerPlan
from autoflow.specs import NotebookSpec, SensorSpec, TriggerSpec, WorkflowsFile, WorkflowSpec

WORKFLOW = WorkflowSpec(name="w", notebooks=(NotebookSpec(label="n", path=Path("/n.ipynb"), parameters={"a": "unit"}),))
TRIGGER = TriggerSpec(workflow=WORKFLOW, parameters={"unit": "admin2"}, earliest_date=datetime.date(2020, 1, 1))


def day(number: int) -> datetime.date:
    return datetime.date(2016, 1, number)


PLAN = TriggerPlan(
    trigger=TRIGGER,
    dates=(
        PlannedDate(date=day(1), standing=Standing.DUE),
        PlannedDate(date=day(2), standing=Standing.DONE),
        PlannedDate(date=day(3), standing=Standing.RUNNING),
        PlannedDate(date=day(4), standing=Standing.DUE, failures=1),
        PlannedDate(date=day(5), standing=Standing.WAITING, failures=1),
        PlannedDate(date=day(6), standing=Standing.GIVEN_UP, failures=5),
        PlannedDate(date=day(7), standing=Standing.CANCELLED),
        PlannedDate(date=day(8), standing=Standing.INCOMPLETE, missing=(day(9),)),
        PlannedDate(date=day(10), standing=Standing.DUE),
    ),
)


def wanted(reprocess: Reprocess, *, first: int = 1, last: int = 9, newest_first: bool = False) -> list[int]:
    found = wanted_dates([PLAN], first=day(first), last=day(last), reprocess=reprocess, newest_first=newest_first)
    assert all(each.again == (reprocess is Reprocess.ALL) for each in found)
    return [each.date.day for each in found]


def test_what_has_not_been_run_is_run() -> None:
    assert wanted(Reprocess.NONE) == [1]


def test_only_what_has_failed_or_was_cancelled_is_run() -> None:
    assert wanted(Reprocess.FAILED) == [4, 5, 6, 7]


def test_all_is_run_but_what_is_running_or_lacks_dates() -> None:
    assert wanted(Reprocess.ALL) == [1, 2, 4, 5, 6, 7]


def test_both_ends_of_the_range_are_in_it_and_the_newest_can_come_first() -> None:
    assert wanted(Reprocess.ALL, first=2, last=10, newest_first=True) == [10, 7, 6, 5, 4, 2]


def test_what_is_left_out_is_counted_by_why() -> None:
    chosen = wanted_dates([PLAN], first=day(1), last=day(9), reprocess=Reprocess.NONE)
    assert left_out([PLAN], chosen, first=day(1), last=day(9)) == {
        "done": 1,
        "running": 1,
        "failed before": 4,
        "dates missing": 1,
    }


def file(*triggers: TriggerSpec) -> WorkflowsFile:
    return WorkflowsFile(workflows=(WORKFLOW,), sensor=SensorSpec(schedule=None, cdr_types=None, triggers=triggers))


def test_entries_of_a_workflow_are_taken_without_their_earliest_date() -> None:
    (trigger,) = triggers_of(file(TRIGGER), "w")
    assert trigger.earliest_date is None
    assert trigger.parameters == TRIGGER.parameters


def test_a_workflow_that_nobody_gives_parameters_cannot_be_backfilled() -> None:
    with pytest.raises(AutoflowError, match="no entry for 'w' that gives its parameters unit"):
        triggers_of(file(), "w")

import datetime
from collections import Counter
from pathlib import Path

import pytest

from autoflow.dates.intervals import IntervalEnds
from autoflow.dates.stencil import DateStencil
from autoflow.errors import AutoflowError
from autoflow.runs.backfill import Reprocess, left_out, triggers_of, wanted_dates
from autoflow.runs.plan import TriggerPlan
from autoflow.runs.records import RunKey
from autoflow.runs.statuses import DateStatus, PlannedDate
from autoflow.specs import NotebookSpec, SensorSpec, TriggerSpec, WorkflowsFile, WorkflowSpec

WORKFLOW = WorkflowSpec(name="w", notebooks=(NotebookSpec(label="n", path=Path("/n.ipynb"), parameters={"a": "unit"}),))
TRIGGER = TriggerSpec(workflow=WORKFLOW, parameters={"unit": "admin2"}, earliest_date=datetime.date(2020, 1, 1))


def day(number: int) -> datetime.date:
    return datetime.date(2016, 1, number)


PLAN = TriggerPlan(
    trigger=TRIGGER,
    dates=(
        PlannedDate(date=day(1), status=DateStatus.DUE),
        PlannedDate(date=day(2), status=DateStatus.DONE),
        PlannedDate(date=day(3), status=DateStatus.RUNNING),
        PlannedDate(date=day(4), status=DateStatus.DUE, failures=1),
        PlannedDate(date=day(5), status=DateStatus.WAITING, failures=1),
        PlannedDate(date=day(6), status=DateStatus.GIVEN_UP, failures=5),
        PlannedDate(date=day(7), status=DateStatus.CANCELLED),
        PlannedDate(date=day(8), status=DateStatus.INCOMPLETE, missing=(day(9),)),
        PlannedDate(date=day(10), status=DateStatus.DUE),
    ),
)


def wanted(reprocess: Reprocess, *, first: int = 1, last: int = 9, newest_first: bool = False) -> list[int]:
    found = wanted_dates([PLAN], first=day(first), last=day(last), reprocess=reprocess, newest_first=newest_first)
    assert all(each.again == (reprocess is Reprocess.ALL) for each in found)
    assert [each.key for each in found] == [RunKey.of("w", {"unit": "admin2"}, each.date) for each in found]
    return [each.date.day for each in found]


def test_by_default_only_dates_that_were_never_run_are_run() -> None:
    assert wanted(Reprocess.NONE) == [1]


def test_failed_reprocesses_only_dates_that_failed_or_were_cancelled() -> None:
    assert wanted(Reprocess.FAILED) == [4, 5, 6, 7]


def test_all_reprocesses_every_date_that_is_neither_running_nor_incomplete() -> None:
    assert wanted(Reprocess.ALL) == [1, 2, 4, 5, 6, 7]


def test_range_includes_both_ends_and_the_newest_date_can_come_first() -> None:
    assert wanted(Reprocess.ALL, first=2, last=10, newest_first=True) == [10, 7, 6, 5, 4, 2]


def test_every_date_of_the_range_is_run_or_left_out_for_a_reason() -> None:
    chosen = wanted_dates([PLAN], first=day(1), last=day(9), reprocess=Reprocess.NONE)
    found = left_out([PLAN], chosen, first=day(1), last=day(9))
    assert sorted([*(each.date for each in chosen), *(each.date for each in found)]) == [
        day(number) for number in range(1, 10)
    ]
    assert [each.missing for each in found if each.missing] == [(day(9),)]
    assert Counter(each.reason for each in found) == {
        "done": 1,
        "running": 1,
        "failed before": 4,
        "dates missing": 1,
        "without data in FlowAPI": 1,
    }


def file(*triggers: TriggerSpec) -> WorkflowsFile:
    return WorkflowsFile(workflows=(WORKFLOW,), sensor=SensorSpec(schedule=None, cdr_types=None, triggers=triggers))


def test_earliest_date_of_an_entry_does_not_count() -> None:
    (trigger,) = triggers_of(file(TRIGGER), "w")
    assert trigger.earliest_date is None
    assert trigger.parameters == TRIGGER.parameters


def test_a_workflow_without_an_entry_has_the_interval_ends_of_the_file() -> None:
    plain = WorkflowSpec(name="plain", notebooks=(NotebookSpec(label="n", path=Path("/n.ipynb")),))
    sensor = SensorSpec(schedule=None, cdr_types=None, triggers=(), interval_ends=IntervalEnds.EXCLUDED)
    (trigger,) = triggers_of(WorkflowsFile(workflows=(plain,), sensor=sensor), "plain")
    assert trigger.date_stencil == DateStencil([0], IntervalEnds.EXCLUDED)


def test_a_workflow_whose_parameters_no_entry_gives_cannot_be_backfilled() -> None:
    with pytest.raises(AutoflowError, match="no entry for 'w' that gives its parameters unit"):
        triggers_of(file(), "w")

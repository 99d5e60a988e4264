"""Which dates of a range a backfill runs."""

import datetime
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from autoflow.errors import AutoflowError
from autoflow.runs.plan import Standing, TriggerPlan
from autoflow.specs import TriggerSpec, WorkflowsFile


class Reprocess(enum.StrEnum):
    """What of the past a backfill does again."""

    NONE = "none"
    """Nothing: only dates that have neither succeeded nor failed so far."""
    FAILED = "failed"
    """Only dates that have failed, were given up or were cancelled."""
    ALL = "all"
    """All dates, those that are done as well."""


@dataclass(frozen=True, kw_only=True)
class WantedDate:
    """A date to run; `again` allows to run it although it is done."""

    trigger: TriggerSpec
    date: datetime.date
    again: bool = False


def triggers_of(file: WorkflowsFile, workflow: str) -> list[TriggerSpec]:
    """Return the sensor's entries for `workflow`, without their `earliest_date`: whoever names a range means it.

    Raises
    ------
    AutoflowError
        If there is no such workflow, or it needs parameters that no entry gives.

    """
    known = {spec.name: spec for spec in file.workflows}
    if workflow not in known:
        raise AutoflowError(f"there is no workflow '{workflow}' in workflows.yml; there are {', '.join(sorted(known))}")
    triggers = [trigger for trigger in file.sensor.triggers if trigger.workflow.name == workflow]
    if not triggers and known[workflow].parameter_names:
        names = ", ".join(sorted(known[workflow].parameter_names))
        raise AutoflowError(f"available_dates_sensor has no entry for '{workflow}' that gives its parameters {names}")
    return [replace(trigger, earliest_date=None) for trigger in triggers or [TriggerSpec(workflow=known[workflow])]]


def wanted_dates(
    plans: Iterable[TriggerPlan],
    *,
    first: datetime.date,
    last: datetime.date,
    reprocess: Reprocess,
    newest_first: bool = False,
) -> list[WantedDate]:
    """Return what to run from `first` to `last`, both included, of dates whose stencil is available."""
    wanted = [
        WantedDate(trigger=plan.trigger, date=each.date, again=reprocess is Reprocess.ALL)
        for plan in plans
        for each in plan.dates
        if first <= each.date <= last and _is_wanted(reprocess, each.standing, has_failed=each.has_failed)
    ]
    return sorted(wanted, key=lambda each: each.date, reverse=newest_first)


def _is_wanted(reprocess: Reprocess, standing: Standing, *, has_failed: bool) -> bool:
    if standing in {Standing.RUNNING, Standing.INCOMPLETE, Standing.TOO_EARLY}:
        return False
    if reprocess is Reprocess.ALL:
        return True
    if reprocess is Reprocess.FAILED:
        return has_failed
    return standing is Standing.DUE and not has_failed


def left_out(
    plans: Sequence[TriggerPlan], wanted: Sequence[WantedDate], *, first: datetime.date, last: datetime.date
) -> dict[str, int]:
    """Return how many dates from `first` to `last` are not run, by how it stands with them."""
    chosen = {(id(each.trigger), each.date) for each in wanted}
    counts: dict[str, int] = {}
    for plan in plans:
        for each in plan.dates:
            if first <= each.date <= last and (id(plan.trigger), each.date) not in chosen:
                reason = "failed before" if each.has_failed else str(each.standing)
                counts[reason] = counts.get(reason, 0) + 1
    return counts

"""Which dates of a range a backfill runs."""

import datetime
import enum
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from autoflow.dates.periods import last_days
from autoflow.errors import AutoflowError
from autoflow.runs.plan import TriggerPlan
from autoflow.runs.records import RunKey, WorkflowKey
from autoflow.runs.requests import entries_named
from autoflow.runs.statuses import UNDONE, DateStatus, PlannedDate
from autoflow.specs import OnChange, Order, TriggerSpec, WorkflowsFile

NO_DATA = "without data in FlowAPI"
"""Why dates are left out that FlowAPI does not have, and that were never run."""


class Reprocess(enum.StrEnum):
    """Which dates that were run before a backfill runs again."""

    NONE = "none"
    """None: only dates that have neither succeeded nor failed."""
    FAILED = "failed"
    """Only dates that failed, were given up or were cancelled."""
    OUTDATED = "outdated"
    """Only dates that are done, and whose notebooks have changed since."""
    ALL = "all"
    """All dates, including those that are done."""

    @property
    def is_again(self) -> bool:
        """Whether dates are run that are done."""
        return self in {Reprocess.OUTDATED, Reprocess.ALL}


@dataclass(frozen=True, kw_only=True)
class WantedDate:
    """A date to run. `again`: run it even if it is done."""

    trigger: TriggerSpec
    date: datetime.date
    again: bool = False

    @property
    def key(self) -> RunKey:
        """The key of its run."""
        return WorkflowKey.of_trigger(self.trigger).on(self.date)


def triggers_of(file: WorkflowsFile, name: str) -> list[TriggerSpec]:
    """Return the sensor's entries called `name`, a workflow or one with a label, to be run for a given range.

    Their bounds, order and waits do not count: the range overrides them. Whether enough dates are there counts.

    Raises
    ------
    AutoflowError
        If there is no such workflow or label, or it needs parameters that no entry gives.

    """
    spec, triggers = entries_named(file, name)
    if not triggers and spec.parameter_names:
        names = ", ".join(sorted(spec.parameter_names))
        raise AutoflowError(f"available_dates_sensor has no entry for '{name}' that gives its parameters {names}")
    return [_without_bounds(trigger) for trigger in triggers or [file.default_trigger(spec)]]


def _without_bounds(trigger: TriggerSpec) -> TriggerSpec:
    needs = trigger.needs if trigger.needs.wait is None else replace(trigger.needs, wait=0)
    return replace(
        trigger,
        earliest_date=None,
        latest_date=None,
        after_previous=False,
        order=Order.OLDEST_FIRST,
        on_change=OnChange.IGNORE,
        needs=needs,
    )


def wanted_dates(
    plans: Iterable[TriggerPlan],
    first: datetime.date,
    last: datetime.date,
    *,
    reprocess: Reprocess,
    newest_first: bool = False,
    outdated: Collection[RunKey] = (),
) -> list[WantedDate]:
    """Return the dates to run from `first` to `last`, both included, whose stencil is available.

    `outdated` are the keys of the dates that are done and whose notebooks have changed since; they start with the
    newest, so that readers see the effect first.
    """
    wanted = [
        WantedDate(trigger=plan.trigger, date=each.date, again=reprocess.is_again)
        for plan in plans
        for each in plan.dates
        if first <= each.date <= last and _is_wanted(plan.trigger, each, reprocess, outdated)
    ]
    is_reversed = newest_first or reprocess is Reprocess.OUTDATED
    return sorted(wanted, key=lambda each: each.date, reverse=is_reversed)


def held_dates(
    plans: Iterable[TriggerPlan],
    first: datetime.date,
    last: datetime.date,
    *,
    reprocess: Reprocess,
    outdated: Collection[RunKey] = (),
) -> list[WantedDate]:
    """Return the dates from `first` to `last` that another process is running, and that are wanted if it is gone."""
    return [
        WantedDate(trigger=plan.trigger, date=each.date, again=reprocess.is_again)
        for plan in plans
        for each in plan.dates
        if first <= each.date <= last
        and each.status is DateStatus.RUNNING
        and _is_wanted_if_gone(WorkflowKey.of_trigger(plan.trigger).on(each.date), each, reprocess, outdated)
    ]


def _is_wanted_if_gone(key: RunKey, planned: PlannedDate, reprocess: Reprocess, outdated: Collection[RunKey]) -> bool:
    if reprocess is Reprocess.OUTDATED:
        return key in outdated
    return reprocess is Reprocess.ALL or (planned.failures > 0) == (reprocess is Reprocess.FAILED)


def _is_wanted(trigger: TriggerSpec, planned: PlannedDate, reprocess: Reprocess, outdated: Collection[RunKey]) -> bool:
    if reprocess is Reprocess.OUTDATED:
        return planned.status.is_done and WorkflowKey.of_trigger(trigger).on(planned.date) in outdated
    if reprocess is Reprocess.ALL:
        return planned.status.is_done or planned.status in UNDONE
    if reprocess is Reprocess.FAILED:
        return planned.has_failed
    return planned.status is DateStatus.DUE and not planned.has_failed


@dataclass(frozen=True, kw_only=True)
class LeftOutDate:
    """A date that is not run, and the reason; `missing` are the days that its stencil lacks."""

    trigger: TriggerSpec
    date: datetime.date
    reason: str
    missing: tuple[datetime.date, ...] = ()


def left_out(
    plans: Sequence[TriggerPlan], wanted: Sequence[WantedDate], *, first: datetime.date, last: datetime.date
) -> list[LeftOutDate]:
    """Return the dates from `first` to `last` that are not run, also those that FlowAPI does not have."""
    chosen = {(id(each.trigger), each.date) for each in wanted}
    found: list[LeftOutDate] = []
    for plan in plans:
        planned = {each.date: each for each in plan.dates}
        dates = sorted({*planned, *last_days(first, last, plan.trigger.every)})
        found += (
            _left_out(plan.trigger, date, planned.get(date))
            for date in dates
            if first <= date <= last and (id(plan.trigger), date) not in chosen
        )
    return found


def _left_out(trigger: TriggerSpec, date: datetime.date, planned: PlannedDate | None) -> LeftOutDate:
    if planned is None:
        return LeftOutDate(trigger=trigger, date=date, reason=NO_DATA)
    reason = "failed before" if planned.has_failed else str(planned.status)
    return LeftOutDate(trigger=trigger, date=date, reason=reason, missing=planned.missing)

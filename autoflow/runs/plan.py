"""The status of each date: done, running, due, or why it is not due.

This wing alone decides a date's status. Whoever needs it (the sensor, the page, the command line) asks here.
"""

import datetime
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoflow.dates.availability import Availability
from autoflow.dates.periods import Every, is_last_day
from autoflow.dates.stencil import UnresolvableStencilError
from autoflow.runs.naming import entry_names
from autoflow.runs.planner import NO_FAILURES, Planner, status_in_history
from autoflow.runs.records import Failures, Histories, History, RunKey, WorkflowKey
from autoflow.runs.retries import RetryPolicy
from autoflow.runs.run import WorkflowRun
from autoflow.runs.statuses import PLAN_STATUSES, DateStatus, PlannedDate
from autoflow.specs import OnChange, TriggerSpec

MOST_KEPT = 50
"""How many due runs of each entry are kept: a backlog of ten years must not take memory."""

_NO_HISTORY = History()


@dataclass(frozen=True, kw_only=True)
class TriggerPlan:
    """All dates that matter to an entry of the sensor, oldest first: those that could run, are done or running."""

    trigger: TriggerSpec
    dates: tuple[PlannedDate, ...]

    @property
    def counts(self) -> Mapping[DateStatus, int]:
        """How many dates have each status."""
        found = Counter(each.status for each in self.dates)
        return {status: found[status] for status in PLAN_STATUSES}


def make_plan(
    triggers: Iterable[TriggerSpec],
    availability: Availability,
    histories: Histories,
    now: datetime.datetime,
) -> list[TriggerPlan]:
    """Return the status of each date of each of `triggers` at `now` (UTC)."""
    return [
        TriggerPlan(trigger=planner.trigger, dates=planner.plan())
        for planner in planners(triggers, availability, histories, now)
    ]


@dataclass(frozen=True, kw_only=True)
class DueWork:
    """What is due at a moment.

    `runs` has the first due runs of each entry, in the order of the entries; `cut` are the entries with more than
    that. `total` counts all due runs. `next_retry` and `next_wait` (UTC) are when the next retry delay, and the next
    wait for data, is over. `waiting` counts the dates that wait for data.
    """

    runs: Mapping[WorkflowKey, Sequence[WorkflowRun]] = field(default_factory=dict)
    cut: frozenset[WorkflowKey] = frozenset()
    total: int = 0
    next_retry: datetime.datetime | None = None
    next_wait: datetime.datetime | None = None
    waiting: int = 0


def due_work(
    triggers: Iterable[TriggerSpec],
    availability: Availability,
    histories: Histories,
    now: datetime.datetime,
    *,
    most: int = MOST_KEPT,
) -> DueWork:
    """Return what is due at `now` (UTC), with at most `most` runs of each of `triggers`, to bound the memory."""
    triggers = tuple(triggers)
    names = entry_names(triggers, with_every=False)
    runs: dict[WorkflowKey, Sequence[WorkflowRun]] = {}
    cut = set()
    found = []
    for planner in planners(triggers, availability, histories, now):
        key = WorkflowKey.of_trigger(planner.trigger)
        due = planner.due_dates()
        found.append(due)
        runs[key] = [replace(planner.run(date), entry=names[key]) for date in due.dates[:most]]
        if len(due.dates) > most:
            cut.add(key)
    return DueWork(
        runs=runs,
        cut=frozenset(cut),
        total=sum(len(due.dates) for due in found),
        next_retry=min(filter(None, (due.next_retry for due in found)), default=None),
        next_wait=min(filter(None, (due.next_wait for due in found)), default=None),
        waiting=sum(due.waiting for due in found),
    )


def keys_with_reruns(triggers: Iterable[TriggerSpec]) -> frozenset[WorkflowKey]:
    """Return the keys of the entries that need to know when their runs started, because days may change later."""
    return frozenset(WorkflowKey.of_trigger(each) for each in triggers if each.on_change is not OnChange.IGNORE)


def planners(
    triggers: Iterable[TriggerSpec], availability: Availability, histories: Histories, now: datetime.datetime
) -> Iterator[Planner]:
    """Yield the planner of each of `triggers` at `now` (UTC)."""
    for trigger in triggers:
        history = _history(histories, WorkflowKey.of_trigger(trigger))
        available = availability.to(trigger.requires_all_of)
        yield Planner(trigger=trigger, history=history, available=available, now=now)


def recorded_status(histories: Histories, key: RunKey) -> DateStatus | None:
    """Return `RUNNING`, `DONE`, `SKIPPED` or `CANCELLED` if the run store says so.

    Return None if the date has failed or was never run: then the status depends on workflows.yml and FlowAPI. A date
    that is run again is `RUNNING`.
    """
    return status_in_history(_history(histories, key.workflow_key), key.reference_date)


def past_status(histories: Histories, key: RunKey, trigger: TriggerSpec | None) -> DateStatus:
    """Return the status of a date that was run, without asking which dates FlowAPI has.

    Without them, a date that will be retried counts as `WAITING`, even if it is due. `trigger` is the sensor's
    entry with this workflow and these parameters. If it is None, a date that failed is `FAILED`.
    """
    if recorded := recorded_status(histories, key):
        return recorded
    if trigger is None or why_never_due(trigger, key.reference_date):
        return DateStatus.FAILED
    failures = _history(histories, key.workflow_key).failures.get(key.reference_date, NO_FAILURES)
    has_attempts_left = RetryPolicy.of(trigger).has_attempts_left(failures.count)
    return DateStatus.WAITING if has_attempts_left else DateStatus.GIVEN_UP


def _history(histories: Histories, key: WorkflowKey) -> History:
    return histories.get(key, _NO_HISTORY)


def given_up_keys(triggers: Iterable[TriggerSpec], histories: Histories) -> list[RunKey]:
    """Return the dates that are given up, available or not, oldest first for each of `triggers`."""
    return [
        key
        for trigger in triggers
        for key, _ in _undone(trigger, histories)
        if past_status(histories, key, trigger) is DateStatus.GIVEN_UP
    ]


def given_up_dates(triggers: Iterable[TriggerSpec], histories: Histories) -> list[tuple[RunKey, datetime.datetime]]:
    """Return the dates that are given up, each with the time (UTC) of its last failure."""
    return [
        (key, failures.last)
        for trigger in triggers
        for key, failures in _undone(trigger, histories)
        if failures.last and past_status(histories, key, trigger) is DateStatus.GIVEN_UP
    ]


def failed_keys(triggers: Iterable[TriggerSpec], histories: Histories) -> list[RunKey]:
    """Return the dates that failed and are neither done, running nor cancelled, oldest first for each of `triggers`."""
    return [key for trigger in triggers for key, failures in _undone(trigger, histories) if failures.count]


def _undone(trigger: TriggerSpec, histories: Histories) -> Iterator[tuple[RunKey, Failures]]:
    """Yield the dates that ended without success, with their failures, oldest first; none that is cancelled."""
    key = WorkflowKey.of_trigger(trigger)
    history = _history(histories, key)
    for date, failures in sorted(history.failures.items(), key=lambda item: item[0]):
        if status_in_history(history, date) is None:
            yield key.on(date), failures


def why_never_due(trigger: TriggerSpec | None, date: datetime.date) -> str | None:
    """Return why no tick will ever run `date`, whichever dates FlowAPI has; None if a tick may run it.

    `trigger` is the sensor's entry with the workflow and the parameters, None if there is none.
    """
    if trigger is None:
        return "the sensor in workflows.yml has no entry with its workflow and parameters"
    if trigger.every is not Every.DAY and not is_last_day(date, trigger.every):
        return f"it is not the last day of a {trigger.every.noun}"
    if trigger.is_too_early(date):
        return f"it is before its earliest_date in workflows.yml, {trigger.earliest_date}"
    if trigger.is_too_late(date):
        return f"it is after its latest_date in workflows.yml, {trigger.latest_date}"
    try:
        trigger.date_stencil.resolve(date)
    except UnresolvableStencilError as error:
        return str(error)
    return None

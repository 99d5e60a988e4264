"""The status of each date: done, running, due, or why it is not due.

This module alone decides a date's status. Whoever needs it (the sensor, the page, the command line) asks here.
"""

import datetime
import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from autoflow.date_stencil import UnresolvableStencilError
from autoflow.runs.records import Failures, Histories, History, RunKey, WorkflowKey
from autoflow.runs.retries import RetryPolicy
from autoflow.runs.run import WorkflowRun
from autoflow.specs import TriggerSpec


class DateStatus(enum.StrEnum):
    """The status of a date; users see the text."""

    DONE = "done"
    """A run has succeeded."""
    RUNNING = "running"
    """A run is in progress."""
    DUE = "due"
    """It runs as soon as there is a free slot."""
    WAITING = "waiting for a retry"
    """It failed, and is due again after a delay."""
    GIVEN_UP = "given up"
    """It failed, and has no attempts left."""
    CANCELLED = "cancelled"
    """A user cancelled the newest run."""
    TOO_EARLY = "before earliest_date"
    """The entry's `earliest_date` excludes it."""
    INCOMPLETE = "dates missing"
    """Dates of its stencil are not available, or the stencil cannot be resolved for it."""
    FAILED = "failed"
    """It failed, and workflows.yml no longer asks for it. Only `past_status` returns this."""


PLAN_STATUSES = tuple(status for status in DateStatus if status is not DateStatus.FAILED)
"""The statuses that a date in a plan can have."""

UNDONE = (DateStatus.DUE, DateStatus.WAITING, DateStatus.GIVEN_UP, DateStatus.CANCELLED)
"""The statuses of dates that a user can still run on request."""

MOST_KEPT = 50
"""How many due runs of each entry are kept: a backlog of ten years must not take memory."""

_BEGUN = (DateStatus.RUNNING, DateStatus.DONE)
_NO_HISTORY = History()
_NO_FAILURES = Failures()


@dataclass(frozen=True, kw_only=True)
class PlannedDate:
    """A date and its status.

    `next_attempt` (UTC) is set if it is `WAITING`; `missing` lists the dates that keep it `INCOMPLETE`, sorted.
    """

    date: datetime.date
    status: DateStatus
    failures: int = 0
    next_attempt: datetime.datetime | None = None
    missing: tuple[datetime.date, ...] = ()

    @property
    def has_failed(self) -> bool:
        """Whether a run failed or was cancelled, and none has succeeded since."""
        return self.status in UNDONE and (self.failures > 0 or self.status is DateStatus.CANCELLED)

    @property
    def why(self) -> str:
        """The reason for the status in a few words, where the status alone does not say it."""
        if self.status is DateStatus.INCOMPLETE:
            return (
                f"missing {in_ranges(self.missing)}"
                if self.missing
                else "an interval of the stencil is empty for this date"
            )
        times = f"failed {self.failures} time{'' if self.failures == 1 else 's'}" if self.failures else ""
        if self.next_attempt:
            return f"{times}, next attempt at {self.next_attempt:%Y-%m-%d %H:%M:%S} UTC"
        return times


@dataclass(frozen=True, kw_only=True)
class TriggerPlan:
    """All dates that matter to an entry of the sensor, oldest first: those available, and those done or running."""

    trigger: TriggerSpec
    dates: tuple[PlannedDate, ...]

    @property
    def counts(self) -> Mapping[DateStatus, int]:
        """How many dates have each status."""
        found = Counter(each.status for each in self.dates)
        return {status: found[status] for status in PLAN_STATUSES}


@dataclass(frozen=True, kw_only=True)
class _Planner:
    """Decides the status of the dates of one entry of the sensor at `now` (UTC)."""

    trigger: TriggerSpec
    history: History
    available_dates: frozenset[datetime.date]
    now: datetime.datetime

    @cached_property
    def policy(self) -> RetryPolicy:
        """The retry policy of the entry."""
        return RetryPolicy.of(self.trigger)

    def status(self, date: datetime.date) -> DateStatus:
        """Return the status of `date`."""
        recorded = _recorded_status(self.history, date)
        if recorded in _BEGUN:
            return recorded
        if _is_too_early(self.trigger, date):
            return DateStatus.TOO_EARLY
        if not self.trigger.date_stencil.is_available(date, self.available_dates):
            return DateStatus.INCOMPLETE
        return recorded or self._retry_status(self._failures(date))

    def planned(self, date: datetime.date) -> PlannedDate:
        """Return `date` with its status, and with what explains it."""
        status = self.status(date)
        if status is DateStatus.INCOMPLETE:
            return PlannedDate(date=date, status=status, missing=self._missing(date))
        if status not in UNDONE:
            return PlannedDate(date=date, status=status)
        failures = self._failures(date)
        next_attempt = self.policy.next_attempt(failures) if status is DateStatus.WAITING else None
        return PlannedDate(date=date, status=status, failures=failures.count, next_attempt=next_attempt)

    def plan(self) -> TriggerPlan:
        """Return all dates that are available, done or running, with their status."""
        dates = sorted(self.available_dates | self.history.done | self.history.running)
        return TriggerPlan(trigger=self.trigger, dates=tuple(self.planned(date) for date in dates))

    def due_dates(self) -> tuple[list[datetime.date], datetime.datetime | None]:
        """Return the dates whose status is `DUE`, oldest first, and when the next one is, which waits for a retry."""
        due: list[datetime.date] = []
        retries: list[datetime.datetime] = []
        # Dates that are done or running are not due. Removing these sets first keeps a tick fast after years of dates.
        for date in self.available_dates - self.history.done - self.history.running:
            status = self.status(date)
            if status is DateStatus.DUE:
                due.append(date)
            elif status is DateStatus.WAITING and (next_attempt := self.policy.next_attempt(self._failures(date))):
                retries.append(next_attempt)
        return sorted(due), min(retries, default=None)

    def run(self, date: datetime.date) -> WorkflowRun:
        """Return the run for `date`."""
        return WorkflowRun(
            workflow=self.trigger.workflow,
            parameters=self.trigger.parameters,
            reference_date=date,
            date_ranges=self.trigger.date_stencil.resolve(date),
            failures=self._failures(date).count,
            retry=self.policy,
        )

    def _failures(self, date: datetime.date) -> Failures:
        failures = self.history.failures.get(date, _NO_FAILURES)
        if failures.last and failures.last > self.now:
            # A clock was ahead when it was recorded.
            return replace(failures, last=self.now)
        return failures

    def _retry_status(self, failures: Failures) -> DateStatus:
        if not self.policy.has_attempts_left(failures.count):
            return DateStatus.GIVEN_UP
        next_attempt = self.policy.next_attempt(failures)
        return DateStatus.WAITING if next_attempt and self.now < next_attempt else DateStatus.DUE

    def _missing(self, date: datetime.date) -> tuple[datetime.date, ...]:
        try:
            return self.trigger.date_stencil.missing_dates(date, self.available_dates)
        except UnresolvableStencilError:
            return ()


def make_plan(
    triggers: Iterable[TriggerSpec],
    available_dates: frozenset[datetime.date],
    histories: Histories,
    now: datetime.datetime,
) -> list[TriggerPlan]:
    """Return the status of each date of each of `triggers` at `now` (UTC)."""
    return [planner.plan() for planner in _planners(triggers, available_dates, histories, now)]


@dataclass(frozen=True, kw_only=True)
class DueWork:
    """What is due at a moment.

    `runs` has the oldest due runs of each entry, in the order of the entries; `cut` are the entries with more than
    that. `total` counts all due runs. `next_at` (UTC) is when the next retry delay ends.
    """

    runs: Mapping[WorkflowKey, Sequence[WorkflowRun]] = field(default_factory=dict)
    cut: frozenset[WorkflowKey] = frozenset()
    total: int = 0
    next_at: datetime.datetime | None = None


def due_work(
    triggers: Iterable[TriggerSpec],
    available_dates: frozenset[datetime.date],
    histories: Histories,
    now: datetime.datetime,
    *,
    most: int = MOST_KEPT,
) -> DueWork:
    """Return what is due at `now` (UTC), with at most `most` runs of each of `triggers`, to bound the memory."""
    runs: dict[WorkflowKey, Sequence[WorkflowRun]] = {}
    cut = set()
    retries: list[datetime.datetime] = []
    total = 0
    for planner in _planners(triggers, available_dates, histories, now):
        key = WorkflowKey.of_trigger(planner.trigger)
        dates, next_at = planner.due_dates()
        total += len(dates)
        retries += [next_at] if next_at else []
        runs[key] = [planner.run(date) for date in dates[:most]]
        if len(dates) > most:
            cut.add(key)
    return DueWork(runs=runs, cut=frozenset(cut), total=total, next_at=min(retries, default=None))


def _planners(
    triggers: Iterable[TriggerSpec],
    available_dates: frozenset[datetime.date],
    histories: Histories,
    now: datetime.datetime,
) -> Iterator[_Planner]:
    for trigger in triggers:
        history = _history(histories, WorkflowKey.of_trigger(trigger))
        yield _Planner(trigger=trigger, history=history, available_dates=available_dates, now=now)


def recorded_status(histories: Histories, key: RunKey) -> DateStatus | None:
    """Return `RUNNING`, `DONE` or `CANCELLED` if the run store says so.

    Return None if the date has failed or was never run: then the status depends on workflows.yml and FlowAPI. A date
    that is run again is `RUNNING`.
    """
    return _recorded_status(_history(histories, key.workflow_key), key.reference_date)


def past_status(histories: Histories, key: RunKey, trigger: TriggerSpec | None) -> DateStatus:
    """Return the status of a date that was run, without asking which dates FlowAPI has.

    Without them, a date that will be retried counts as `WAITING`, even if it is due. `trigger` is the sensor's
    entry with this workflow and these parameters. If it is None, a date that failed is `FAILED`.
    """
    if recorded := recorded_status(histories, key):
        return recorded
    if trigger is None or why_never_due(trigger, key.reference_date):
        return DateStatus.FAILED
    failures = _history(histories, key.workflow_key).failures.get(key.reference_date, _NO_FAILURES)
    has_attempts_left = RetryPolicy.of(trigger).has_attempts_left(failures.count)
    return DateStatus.WAITING if has_attempts_left else DateStatus.GIVEN_UP


def _recorded_status(history: History, date: datetime.date) -> DateStatus | None:
    if date in history.running:
        return DateStatus.RUNNING
    if date in history.done:
        return DateStatus.DONE
    failures = history.failures.get(date)
    return DateStatus.CANCELLED if failures and failures.cancelled else None


def _history(histories: Histories, key: WorkflowKey) -> History:
    return histories.get(key, _NO_HISTORY)


def _is_too_early(trigger: TriggerSpec, date: datetime.date) -> bool:
    return trigger.earliest_date is not None and date < trigger.earliest_date


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
        if _recorded_status(history, date) is None:
            yield key.on(date), failures


def why_never_due(trigger: TriggerSpec | None, date: datetime.date) -> str | None:
    """Return why no tick will ever run `date`, whichever dates FlowAPI has; None if a tick may run it.

    `trigger` is the sensor's entry with the workflow and the parameters, None if there is none.
    """
    if trigger is None:
        return "the sensor in workflows.yml has no entry with its workflow and parameters"
    if _is_too_early(trigger, date):
        return f"it is before its earliest_date in workflows.yml, {trigger.earliest_date}"
    try:
        trigger.date_stencil.resolve(date)
    except UnresolvableStencilError as error:
        return str(error)
    return None


def in_ranges(dates: Iterable[datetime.date]) -> str:
    """Write sorted dates in short: consecutive days as ``FIRST to LAST``."""
    rows: list[list[datetime.date]] = []
    for date in dates:
        if rows and date - rows[-1][-1] == datetime.timedelta(days=1):
            rows[-1] = [rows[-1][0], date]
        else:
            rows.append([date])
    return ", ".join(" to ".join(str(date) for date in row) for row in rows)

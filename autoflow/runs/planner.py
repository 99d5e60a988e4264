"""Decides the status of the dates of one entry of the sensor."""

import datetime
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from autoflow.dates.availability import LONG_AGO, AvailableDates
from autoflow.dates.completeness import Readiness, is_over, readiness, readiness_of_period
from autoflow.dates.intervals import DateInterval
from autoflow.dates.periods import Every, last_days
from autoflow.dates.stencil import UnresolvableStencilError
from autoflow.runs.records import Failures, History
from autoflow.runs.retries import RetryPolicy
from autoflow.runs.run import WorkflowRun
from autoflow.runs.statuses import DateStatus, PlannedDate
from autoflow.specs import OnChange, Order, TriggerSpec

_BEGUN = (DateStatus.RUNNING, DateStatus.DONE, DateStatus.SKIPPED)
_BLOCKING = (DateStatus.DUE, DateStatus.WAITING, DateStatus.WAITING_FOR_DATA, DateStatus.RUNNING)
"""The statuses of a date that keep the dates after it waiting, with `after_previous`."""

NO_FAILURES = Failures()


def status_in_history(history: History, date: datetime.date) -> DateStatus | None:
    """Return the status of a date that is running, done or cancelled; None if it depends on more than the run store."""
    if date in history.running:
        return DateStatus.RUNNING
    if date in history.done:
        return DateStatus.SKIPPED if date in history.skipped else DateStatus.DONE
    failures = history.failures.get(date)
    return DateStatus.CANCELLED if failures and failures.cancelled else None


@dataclass(frozen=True, kw_only=True)
class DueDates:
    """The dates of an entry that are due, in the order in which they run.

    `next_retry` and `next_wait` (UTC) are when the first retry delay, and the first wait for data, is over; None if
    there is none. `waiting` counts the dates that wait for data.
    """

    dates: Sequence[datetime.date] = ()
    next_retry: datetime.datetime | None = None
    next_wait: datetime.datetime | None = None
    waiting: int = 0


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Decides the status of the dates of one entry of the sensor at `now` (UTC)."""

    trigger: TriggerSpec
    history: History
    available: AvailableDates
    now: datetime.datetime

    @cached_property
    def policy(self) -> RetryPolicy:
        """The retry policy of the entry."""
        return RetryPolicy.of(self.trigger)

    def status(self, date: datetime.date) -> DateStatus:
        """Return the status of `date`, apart from the dates before it."""
        recorded = status_in_history(self.history, date)
        if recorded in _BEGUN:
            return recorded
        if self.trigger.is_too_early(date):
            return DateStatus.TOO_EARLY
        if self.trigger.is_too_late(date):
            return DateStatus.TOO_LATE
        at = self._ready_at(date)
        if at is None:
            return self._why_not_ready(date)
        if at > self.now:
            return DateStatus.WAITING_FOR_DATA
        return recorded or self._retry_status(self._failures(date))

    def rerun_status(self, date: datetime.date) -> DateStatus | None:
        """Return the status of a new run of `date`, which is done; None if no new run is wanted."""
        changed = self.changed_at(date) if self.trigger.on_change is OnChange.RERUN else None
        if changed is None or date in self.history.running:
            return None
        failures = self.history.failures_since(date, changed)
        at = self._ready_at(date)
        if failures.cancelled or at is None or self.trigger.is_too_early(date) or self.trigger.is_too_late(date):
            return None
        return DateStatus.WAITING_FOR_DATA if at > self.now else self._retry_status(failures)

    def planned(self, date: datetime.date) -> PlannedDate:
        """Return `date` with its status, and with what explains it, apart from the dates before it."""
        status = self.status(date)
        if status.is_done and (again := self.rerun_status(date)):
            changed = self.changed_at(date) or LONG_AGO
            failures = self.history.failures_since(date, changed)
            is_given_up = again is DateStatus.GIVEN_UP
            return self._explained(date, status if is_given_up else again, failures, is_rerun=True)
        return self._explained(date, status, self._failures(date))

    def _explained(
        self, date: datetime.date, status: DateStatus, failures: Failures, *, is_rerun: bool = False
    ) -> PlannedDate:
        ready = self._readiness(date)
        times = {DateStatus.WAITING: self.policy.next_attempt(failures), DateStatus.WAITING_FOR_DATA: ready.at}
        has_begun = status in _BEGUN and not is_rerun
        return PlannedDate(
            date=date,
            status=status,
            period=self.trigger.period(date),
            failures=0 if has_begun else failures.count,
            next_attempt=times.get(status),
            missing=() if has_begun else ready.missing,
            arrived=self._arrived(date),
            is_rerun=is_rerun,
        )

    def plan(self) -> tuple[PlannedDate, ...]:
        """Return all dates that could run, are done or running, with their status, oldest first."""
        found = []
        is_blocked = False
        for date in sorted({*self._candidates(), *self.history.done, *self.history.running}):
            each = self.planned(date)
            if is_blocked and each.status is DateStatus.DUE and not each.is_rerun:
                each = replace(each, status=DateStatus.BLOCKED)
            is_blocked = is_blocked or (self.trigger.after_previous and self.blocks(date, each.status))
            found.append(each)
        return tuple(found)

    def counts(self) -> Counter[DateStatus]:
        """Return how many dates of `plan` have each status; it is faster, as most dates are done."""
        found: Counter[DateStatus] = Counter()
        is_blocked = False
        for date, status in self._open_dates():
            found[DateStatus.BLOCKED if is_blocked and status is DateStatus.DUE else status] += 1
            is_blocked = is_blocked or (self.trigger.after_previous and self.blocks(date, status))
        running, done = self.history.running, self.history.done
        found[DateStatus.RUNNING] += len(running & done if self.trigger.after_previous else running)
        reruns = done - running if self.trigger.on_change is OnChange.RERUN else frozenset()
        again = {date: self.rerun_status(date) for date in reruns}
        due_again = {date: each for date, each in again.items() if each not in {None, DateStatus.GIVEN_UP}}
        found.update(due_again.values())
        stays = done - running - due_again.keys()
        found[DateStatus.SKIPPED] += len(stays & self.history.skipped)
        found[DateStatus.DONE] += len(stays - self.history.skipped)
        return found

    def due_dates(self) -> DueDates:
        """Return the dates whose status is `DUE`, and when the next ones are."""
        due: list[datetime.date] = []
        retries: list[datetime.datetime] = []
        waits: list[datetime.datetime] = []
        for date, status in self._open_dates():
            if status is DateStatus.DUE:
                due.append(date)
            elif status is DateStatus.WAITING and (next_attempt := self.policy.next_attempt(self._failures(date))):
                retries.append(next_attempt)
            elif status is DateStatus.WAITING_FOR_DATA and (at := self._ready_at(date)):
                waits.append(at)
            if self.trigger.after_previous and self.blocks(date, status):
                break
        reruns = self._due_reruns(retries, waits)
        due = sorted([*due, *reruns], reverse=self.trigger.order is Order.NEWEST_FIRST)
        next_retry, next_wait = min(retries, default=None), min(waits, default=None)
        return DueDates(dates=due, next_retry=next_retry, next_wait=next_wait, waiting=len(waits))

    def _due_reruns(self, retries: list[datetime.datetime], waits: list[datetime.datetime]) -> Iterator[datetime.date]:
        """Yield the dates that are done and due again; add the times at which others will be to the lists."""
        if self.trigger.on_change is not OnChange.RERUN:
            return
        for date in self.history.done - self.history.running:
            status = self.rerun_status(date)
            if status is DateStatus.DUE:
                yield date
            elif status is DateStatus.WAITING and (changed := self.changed_at(date)):
                retries += filter(None, [self.policy.next_attempt(self.history.failures_since(date, changed))])
            elif status is DateStatus.WAITING_FOR_DATA and (at := self._ready_at(date)):
                waits.append(at)

    def run(self, date: datetime.date) -> WorkflowRun:
        """Return the run for `date`."""
        is_rerun = date in self.history.done
        failures = self._failures(date)
        if is_rerun:
            failures = self.history.failures_since(date, self.changed_at(date) or LONG_AGO)
        return WorkflowRun(
            workflow=self.trigger.workflow,
            parameters=self.trigger.parameters,
            reference_date=date,
            every=self.trigger.every,
            date_ranges=self.trigger.date_stencil.resolve(date),
            missing_dates=self._readiness(date).missing,
            failures=failures.count,
            retry=self.policy,
            resume=self.trigger.resume,
            is_rerun=is_rerun,
            changed=self.changed_days(date) if is_rerun else (),
            label=self.trigger.label,
            title=self.trigger.shown_title,
        )

    def changed_days(self, date: datetime.date) -> tuple[datetime.date, ...]:
        """Return the days that the run of `date` used which arrived or returned after it started, sorted."""
        started = self.history.started.get(date)
        return tuple(sorted(day for day in self._days(date) if started and self.available.arrived(day) > started))

    def changed_at(self, date: datetime.date) -> datetime.datetime | None:
        """Return when a day that the run of `date` used arrived or returned after it started; None if none has."""
        started = self.history.started.get(date)
        arrived = self._arrived(date) if started else None
        return arrived if started and arrived and arrived > started else None

    def _candidates(self) -> Iterator[datetime.date] | frozenset[datetime.date]:
        """Return the dates that the entry could run for, whatever their status."""
        dates = self.available.dates
        if self.trigger.every is Every.DAY or not dates:
            return dates
        return last_days(min(dates), max(dates), self.trigger.every)

    def _open_dates(self) -> Iterator[tuple[datetime.date, DateStatus]]:
        """Yield the dates that are not done, with their status; oldest first if the order matters."""
        # Dates that are done or running are not due. Removing these sets first keeps a tick fast after years of dates.
        open_dates = frozenset(self._candidates()) - self.history.done
        if not self.trigger.after_previous:
            return ((date, self.status(date)) for date in open_dates - self.history.running)
        return ((date, self.status(date)) for date in sorted(open_dates | (self.history.running - self.history.done)))

    def blocks(self, date: datetime.date, status: DateStatus) -> bool:
        """Return whether the dates after `date` wait for it; a new run of a date that is done blocks nothing."""
        return status in _BLOCKING and date not in self.history.done

    def _failures(self, date: datetime.date) -> Failures:
        failures = self.history.failures.get(date, NO_FAILURES)
        if failures.last and failures.last > self.now:
            # A clock was ahead when it was recorded.
            return replace(failures, last=self.now)
        return failures

    def _retry_status(self, failures: Failures) -> DateStatus:
        if not self.policy.has_attempts_left(failures.count):
            return DateStatus.GIVEN_UP
        next_attempt = self.policy.next_attempt(failures)
        return DateStatus.WAITING if next_attempt and self.now < next_attempt else DateStatus.DUE

    def _ready_at(self, date: datetime.date) -> datetime.datetime | None:
        """Return from when on `date` may run, as far as the available dates are concerned; None if it may not."""
        newest = self.available.newest
        is_over = date in self.available.dates if self.trigger.every is Every.DAY else newest and newest >= date
        if is_over and self.trigger.date_stencil.is_available(date, self.available.dates):
            return LONG_AGO
        return self._readiness(date).at if self._may_have_enough(date) else None

    def _may_have_enough(self, date: datetime.date) -> bool:
        """Return whether enough days are available, whatever the gaps between them; this is quick."""
        enough = self.trigger.needs.enough
        return enough is not None and all(
            self.available.count(first, last) >= enough.of_days(last - first + 1)
            for first, last in self.trigger.date_stencil.spans(date)
        )

    def _readiness(self, date: datetime.date) -> Readiness:
        elements = self._elements(date)
        if not elements:
            return Readiness(at=None)
        if self.trigger.every is not Every.DAY:
            return readiness_of_period(self.trigger.period(date), elements, self.trigger.needs, self.available)
        ready = readiness(elements, self.trigger.needs, self.available)
        if date in self.available.dates:
            return ready
        return Readiness(missing=tuple(sorted({*ready.missing, date})), at=None)

    def _why_not_ready(self, date: datetime.date) -> DateStatus:
        if self.trigger.every is Every.DAY or not self._elements(date):
            return DateStatus.INCOMPLETE
        has_ended = is_over(self.trigger.period(date), self.trigger.needs, self.available, self.now)
        return DateStatus.INCOMPLETE if has_ended else DateStatus.NOT_OVER

    def _elements(self, date: datetime.date) -> Sequence[DateInterval]:
        """Return the intervals of the stencil, none if it cannot be resolved."""
        try:
            return self.trigger.date_stencil.resolve(date)
        except UnresolvableStencilError:
            return ()

    def _arrived(self, date: datetime.date) -> datetime.datetime | None:
        """Return when the last available day of the stencil arrived; None if that was before AutoFlow first looked."""
        spans = self.trigger.date_stencil.spans(date)
        last = max((self.available.last_arrival(*span) for span in spans), default=LONG_AGO)
        return None if last == LONG_AGO else last

    def _days(self, date: datetime.date) -> set[datetime.date]:
        """Return the days of the stencil that are available."""
        return {day for element in self._elements(date) for day in element.dates() if day in self.available.dates}

"""The statuses of dates, and a date with its status."""

import datetime
import enum
from collections.abc import Iterable
from dataclasses import dataclass

from autoflow.dates.intervals import DateInterval
from autoflow.dates.periods import Every, period_of


class DateStatus(enum.StrEnum):
    """The status of a date; users see the text."""

    DONE = "done"
    """A run has succeeded."""
    SKIPPED = "skipped"
    """It is done: a run has ended well, without reports, because there was nothing to do."""
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
    """The entry's `earliest_date` excludes it, or the start of its period."""
    TOO_LATE = "after latest_date"
    """The entry's `latest_date` excludes it."""
    INCOMPLETE = "dates missing"
    """Dates of its stencil are not available, or the stencil cannot be resolved for it."""
    NOT_OVER = "period not over"
    """FlowAPI has no date on or after the last day of its period, whether others are missing or not."""
    WAITING_FOR_DATA = "waiting for data"
    """Enough dates are available, and the wait for the others is not over."""
    BLOCKED = "waiting for an earlier date"
    """It is due once the dates before it are done."""
    FAILED = "failed"
    """It failed, and workflows.yml no longer asks for it. Only `past_status` returns this."""

    @property
    def is_done(self) -> bool:
        """Whether a run has ended well, and no other one is due or in progress."""
        return self in {DateStatus.DONE, DateStatus.SKIPPED}


PLAN_STATUSES = tuple(status for status in DateStatus if status is not DateStatus.FAILED)
"""The statuses that a date in a plan can have."""

UNDONE = (DateStatus.DUE, DateStatus.WAITING, DateStatus.GIVEN_UP, DateStatus.CANCELLED)
"""The statuses of dates that a user can still run on request."""


@dataclass(frozen=True, kw_only=True)
class PlannedDate:
    """A date and its status.

    `period` are the days that it stands for. `missing` lists the dates of its stencil that are not available, sorted.
    `next_attempt` (UTC) is when it is due, if it is `WAITING` or `WAITING_FOR_DATA`. `arrived` (UTC) is when the last
    of its available days arrived, None if that was before AutoFlow first looked. `is_rerun`: the date is done, and
    `status` is that of a new run with days that have changed since. `blocked_by` is the date that it waits for, if it
    is `BLOCKED` and that is known.
    """

    date: datetime.date
    status: DateStatus
    period: DateInterval | None = None
    failures: int = 0
    next_attempt: datetime.datetime | None = None
    missing: tuple[datetime.date, ...] = ()
    arrived: datetime.datetime | None = None
    is_rerun: bool = False
    blocked_by: datetime.date | None = None

    @property
    def has_failed(self) -> bool:
        """Whether a run failed or was cancelled, and none has succeeded since."""
        return self.status in UNDONE and (self.failures > 0 or self.status is DateStatus.CANCELLED)

    @property
    def why(self) -> str:
        """The reason for the status in a few words, where the status alone does not say it."""
        reasons = [self._why_missing(), self._why_again()]
        if self.next_attempt and self.status is DateStatus.WAITING:
            reasons.append(f"next attempt at {_minute(self.next_attempt)}")
        if self.blocked_by:
            reasons.append(f"starts after {self.blocked_by}")
        return ", ".join(filter(None, reasons))

    def _why_missing(self) -> str:
        if self.status is DateStatus.INCOMPLETE and not self.missing:
            return "an interval of the stencil is empty for this date"
        is_needed = self.status not in {DateStatus.TOO_EARLY, DateStatus.TOO_LATE}
        text = f"missing {in_ranges(self.missing)}" if self.missing and is_needed else ""
        if self.next_attempt and self.status is DateStatus.WAITING_FOR_DATA:
            starts = f"starts at {_minute(self.next_attempt)}"
            return f"{text}; {starts} without more" if text else starts
        return text

    def _why_again(self) -> str:
        times = f"failed {self.failures} time{'' if self.failures == 1 else 's'}" if self.failures else ""
        if self.is_rerun and self.status.is_done:
            return f"days have changed since it ran, a new run was given up{f' after it {times}' if times else ''}"
        if self.is_rerun:
            return f"again, because days have changed since it ran{f', {times}' if times else ''}"
        return times


def _minute(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def in_ranges(dates: Iterable[datetime.date], every: Every = Every.DAY) -> str:
    """Write sorted dates in short: consecutive days, or last days of consecutive periods, as ``FIRST to LAST``."""
    rows: list[list[datetime.date]] = []
    for date in dates:
        if rows and period_of(date, every).start - rows[-1][-1] == datetime.timedelta(days=1):
            rows[-1] = [rows[-1][0], date]
        else:
            rows.append([date])
    return ", ".join(" to ".join(str(date) for date in row) for row in rows)

"""By when a date has to be done. All times are in UTC, without a time zone, unless said otherwise."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from autoflow.dates.availability import NEVER
from autoflow.dates.periods import Every, last_days

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """A time of day, `at`, so many `days` after the reference date, in the time zone `zone`.

    A time that the change to summer time skips is an hour later; of one that comes twice, the first counts.

    Raises
    ------
    ValueError
        If `days` is negative.

    """

    days: int
    at: dt.time = dt.time()
    zone: dt.tzinfo = dt.UTC

    def __post_init__(self) -> None:
        """Check the value."""
        if self.days < 0:
            raise ValueError("'days' cannot be negative")

    def of(self, date: dt.date) -> dt.datetime:
        """Return the deadline of a reference date; `NEVER` if it is beyond the calendar."""
        try:
            local = dt.datetime.combine(date + self.days * _DAY, self.at, tzinfo=self.zone)
            return local.astimezone(dt.UTC).replace(tzinfo=None)
        except OverflowError:
            return NEVER

    def text(self, date: dt.date) -> str:
        """Return the deadline of a reference date for people, in its time zone."""
        try:
            return f"{date + self.days * _DAY} {self.at:%H:%M} {self.zone}"
        except OverflowError:
            return "never"

    def dates_between(self, after: dt.datetime, until: dt.datetime, every: Every) -> Iterator[dt.date]:
        """Yield the reference dates, for periods of the kind `every`, whose deadline is later than `after`.

        Those whose deadline is later than `until` are left out.
        """
        # Time zones are up to a day apart.
        first, last = (time.date() - self.days * _DAY for time in (after - 2 * _DAY, until + 2 * _DAY))
        yield from (date for date in last_days(first, last, every) if after < self.of(date) <= until)

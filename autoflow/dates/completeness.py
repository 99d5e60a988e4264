"""Whether enough days are available for a run, and how long to wait for the rest.

Everything follows from dates and from when they arrived. All times are in UTC, without a time zone.
"""

import datetime as dt
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from autoflow.dates.availability import LONG_AGO, NEVER, AvailableDates
from autoflow.dates.intervals import DateInterval

_PERCENTAGE = re.compile(r"\d{1,3}(?:\.\d{1,6})?%", re.ASCII)
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Enough:
    """How many days of a stencil's element are enough: `days`, or `percent` of them, rounded up.

    Raises
    ------
    ValueError
        If it is not exactly one of the two, `days` is below 1, or `percent` not above 0 and at most 100.

    """

    days: int | None = None
    percent: Decimal | None = None

    def __post_init__(self) -> None:
        """Check the value."""
        if (self.days is None) == (self.percent is None):
            raise ValueError("expected a number of days or a percentage")
        if self.days is not None and self.days < 1:
            raise ValueError(f"{self.days} days cannot be enough; expected at least 1")
        if self.percent is not None and not 0 < self.percent <= 100:
            raise ValueError(f"{self.percent}% is not a percentage above 0% and up to 100%")

    @classmethod
    def of(cls, value: object) -> "Enough":
        """Return the meaning of a number of days, or of a text such as ``60%``; ValueError if it is neither."""
        if isinstance(value, int) and not isinstance(value, bool):
            return cls(days=value)
        if isinstance(value, str) and _PERCENTAGE.fullmatch(value):
            return cls(percent=Decimal(value.removesuffix("%")))
        raise ValueError(f"{value!r} is neither a number of days, such as 5, nor a percentage, such as 60%")

    def __str__(self) -> str:
        """Write the value as in workflows.yml."""
        return str(self.days) if self.percent is None else f"{self.percent}%"

    def of_days(self, length: int) -> int:
        """Return how many of `length` days are enough; all of them if there are fewer."""
        if self.percent is None:
            return min(self.days or length, length)
        return math.ceil(self.percent * length / 100)


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """What a run needs of the days of each element of its stencil.

    Without `enough`, all of them have to be available. Otherwise, that many are enough once `wait` days have passed; at
    most `longest_gap` days in a row may be missing, if that is not None. Days end in the time zone `zone`.

    Raises
    ------
    ValueError
        If one of `enough` and `wait` is given without the other, `longest_gap` without `enough`, or one is negative.

    """

    enough: Enough | None = None
    longest_gap: int | None = None
    wait: int | None = None
    zone: dt.tzinfo = dt.UTC

    def __post_init__(self) -> None:
        """Check the values."""
        if self.enough is not None and self.wait is None:
            raise ValueError("'enough' needs 'wait', the number of days to wait for the rest")
        if self.wait is not None and self.enough is None:
            raise ValueError("'wait' needs 'enough', because without it AutoFlow waits for all days")
        if self.longest_gap is not None and self.enough is None:
            raise ValueError("'longest_gap' needs 'enough', because without it no day may be missing")
        for name, value in (("longest_gap", self.longest_gap), ("wait", self.wait)):
            if value is not None and value < 0:
                raise ValueError(f"'{name}' cannot be negative")

    def allows(self, length: int, missing: Sequence[dt.date]) -> bool:
        """Return whether an element of `length` days may lack those in `missing`, which are sorted."""
        if not missing:
            return True
        if self.enough is None or length - len(missing) < self.enough.of_days(length):
            return False
        return self.longest_gap is None or _longest_run(missing) <= self.longest_gap


ALL_DAYS = Completeness()
"""Every day has to be available."""


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether a run may start.

    `missing` are the days that are not available, sorted. `at` is the time from which the run may start, provided that
    nothing arrives until then: `LONG_AGO` if it may start at once, None if too much is missing.
    """

    missing: tuple[dt.date, ...] = ()
    at: dt.datetime | None = LONG_AGO


def readiness(elements: Sequence[DateInterval], needed: Completeness, available: AvailableDates) -> Readiness:
    """Return whether the days of a stencil's `elements` are available as `needed`."""
    lacking = [[day for day in element.dates() if day not in available.dates] for element in elements]
    missing = tuple(sorted({day for days in lacking for day in days}))
    if not missing:
        return Readiness()
    if not all(needed.allows(len(element), days) for element, days in zip(elements, lacking, strict=True)):
        return Readiness(missing=missing, at=None)
    return Readiness(missing=missing, at=_waited(elements, needed, available, last_missing=missing[-1]))


def readiness_of_period(
    period: DateInterval, elements: Sequence[DateInterval], needed: Completeness, available: AvailableDates
) -> Readiness:
    """Return the same as `readiness`, for a period that must be over, too.

    It is over if a day on or after its last one is available. With `wait`, it is over as well once its last day has
    passed, and the wait after it.
    """
    ready = readiness(elements, needed, available)
    if ready.at is None or (available.newest is not None and available.newest >= period.end):
        return ready
    if needed.wait is None:
        return Readiness(missing=ready.missing, at=None)
    return Readiness(
        missing=ready.missing, at=max(ready.at, _waited(elements, needed, available, last_missing=period.end))
    )


def is_over(period: DateInterval, needed: Completeness, available: AvailableDates, now: dt.datetime) -> bool:
    """Return whether `period` is over at `now`, as for `readiness_of_period` but whatever the wait."""
    if available.newest is not None and available.newest >= period.end:
        return True
    return needed.wait is not None and now >= end_of(period.end, needed.zone)


def end_of(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    """Return when `day` ends in the time zone `zone`."""
    if day >= dt.date.max - _DAY:
        return NEVER
    midnight = dt.datetime.combine(day + _DAY, dt.time(), tzinfo=zone)
    return midnight.astimezone(dt.UTC).replace(tzinfo=None)


def _waited(
    elements: Sequence[DateInterval], needed: Completeness, available: AvailableDates, *, last_missing: dt.date
) -> dt.datetime:
    """Return when the wait is over that began with the end of the last missing day, and with the last arrival."""
    wait = needed.wait or 0
    try:
        ended = end_of(last_missing + wait * _DAY, needed.zone)
    except OverflowError:
        return NEVER
    last_arrival = max(available.last_arrival(each.start.toordinal(), each.end.toordinal()) for each in elements)
    return ended if last_arrival == LONG_AGO else max(ended, last_arrival + wait * _DAY)


def _longest_run(days: Sequence[dt.date]) -> int:
    """Return how many days follow each other at most in `days`, which are sorted and not empty."""
    longest = length = 1
    for day, following in itertools.pairwise(days):
        length = length + 1 if following - day == _DAY else 1
        longest = max(longest, length)
    return longest

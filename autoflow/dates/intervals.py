"""Intervals of days."""

import datetime as dt
import enum
from collections.abc import Iterator
from dataclasses import dataclass

_LAST_ORDINAL = dt.date.max.toordinal()


class IntervalEnds(enum.StrEnum):
    """Whether the end of an interval is part of it; users write the text."""

    INCLUDED = "included"
    EXCLUDED = "excluded"
    """Intervals are half-open, as in FlowKit 1.0 and later: the end is the day after the last day."""


@dataclass(frozen=True)
class DateInterval:
    """The days from `start` to `end`, both included; ValueError if `start` is after `end`.

    `ends` says how notebooks get it; the days are the same.
    """

    start: dt.date
    end: dt.date
    ends: IntervalEnds = IntervalEnds.INCLUDED

    def __post_init__(self) -> None:
        """Check the ends."""
        for day in (self.start, self.end):
            if not _is_plain_date(day):
                raise ValueError(f"{day!r} is not a valid date")
        if self.start > self.end and self.ends is IntervalEnds.EXCLUDED:
            raise ValueError(f"the interval starts on {self.start}, and ends before {self.as_strings()[1]}")
        if self.start > self.end:
            raise ValueError(f"the interval ends on {self.end}, before it starts on {self.start}")
        if self.end.toordinal() > last_day(self.ends):
            raise ValueError(f"no date follows {self.end}, the last day of the interval")

    def __len__(self) -> int:
        """Return how many days it has."""
        return (self.end - self.start).days + 1

    def dates(self) -> Iterator[dt.date]:
        """Yield each day of the interval, in order."""
        return map(dt.date.fromordinal, range(self.start.toordinal(), self.end.toordinal() + 1))

    def as_strings(self) -> list[str]:
        """Return the ends as ISO dates, the form that notebooks get."""
        end = self.end + dt.timedelta(days=1) if self.ends is IntervalEnds.EXCLUDED else self.end
        return [self.start.isoformat(), end.isoformat()]


def last_day(ends: IntervalEnds) -> int:
    """Return the last day that an interval can have, as an ordinal."""
    return _LAST_ORDINAL - 1 if ends is IntervalEnds.EXCLUDED else _LAST_ORDINAL


def _is_plain_date(value: object) -> bool:
    return isinstance(value, dt.date) and not isinstance(value, dt.datetime)

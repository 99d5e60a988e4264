"""The dates that FlowAPI has, by type of CDR, and when they arrived. All times are in UTC, without a time zone."""

import datetime as dt
import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self, TypeAlias

LONG_AGO = dt.datetime.combine(dt.date.min, dt.time())
"""When a date arrived that was there before AutoFlow looked for the first time."""

NEVER = dt.datetime.combine(dt.date.max, dt.time())
"""A time that does not come."""

_ANY = "any"


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a date of one type was found in FlowAPI.

    `first_seen` is when it was found first; `vanished` when it was last noticed to be gone, and `last_seen` when it was
    last found again after it had been gone: None if never.
    """

    first_seen: dt.datetime = LONG_AGO
    vanished: dt.datetime | None = None
    last_seen: dt.datetime | None = None

    @property
    def is_gone(self) -> bool:
        """Whether the date has vanished and was not found again."""
        return self.vanished is not None and (self.last_seen is None or self.last_seen < self.vanished)

    @property
    def times(self) -> Sequence[dt.datetime]:
        """The times at which it arrived, oldest first; times between its first and its last arrival are forgotten."""
        return (self.first_seen,) if self.last_seen is None else (self.first_seen, self.last_seen)

    def was_absent_before(self, time: dt.datetime) -> bool:
        """Return whether the date was not available right before `time`."""
        if time <= self.first_seen:
            return True
        end = NEVER if self.is_gone or self.last_seen is None else self.last_seen
        return self.vanished is not None and self.vanished < time <= end


Arrivals: TypeAlias = Mapping[str, Mapping[dt.date, Arrival]]
"""When each date arrived, by type."""


@dataclass(frozen=True, kw_only=True)
class AvailableDates:
    """The dates that are available to an entry, and when each became available.

    With `needs_all`, a date is available if each of the types has it, otherwise if any has it. `types` has the dates of
    these types, `arrivals` when they arrived: those that are not in it arrived long ago.
    """

    types: Mapping[str, frozenset[dt.date]]
    arrivals: Arrivals = field(default_factory=dict)
    needs_all: bool = False
    _digests: dict[tuple[dt.date, dt.date], str] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def dates(self) -> frozenset[dt.date]:
        """All dates that are available."""
        sets = list(self.types.values())
        if self.needs_all:
            return frozenset.intersection(*sets) if sets else frozenset()
        return sets[0] if len(sets) == 1 else frozenset().union(*sets)

    @cached_property
    def newest(self) -> dt.date | None:
        """The newest date that is available; None if none is."""
        return max(self.dates, default=None)

    @cached_property
    def years(self) -> frozenset[int]:
        """The calendar years with a date that is available."""
        return frozenset(date.year for date in self.dates)

    def digest(self, first: dt.date, last: dt.date) -> str:
        """Return a hash that is another one if the dates from `first` to `last`, or when they arrived, are others.

        It also depends on whether there are earlier and later dates.
        """
        if (first, last) not in self._digests:
            start, stop = bisect_left(self._days, first.toordinal()), bisect_right(self._days, last.toordinal())
            arrivals = [time.isoformat() for time in self._last_arrivals[0][start:stop]]
            text = repr((self._days[start:stop], arrivals, start > 0, stop < len(self._days)))
            self._digests[first, last] = hashlib.sha256(text.encode()).hexdigest()
        return self._digests[first, last]

    def arrived(self, date: dt.date) -> dt.datetime:
        """Return when `date`, which is available, became available the last time."""
        records = [record for name in self.types if (record := self.arrivals.get(name, {}).get(date))]
        if len(records) < len(self.types) and not self.needs_all and self._has_unrecorded(date):
            return LONG_AGO
        times = [time for record in records for time in record.times]
        if not self.needs_all:
            times = [time for time in times if all(record.was_absent_before(time) for record in records)]
        return max(times, default=LONG_AGO)

    def count(self, first: int, last: int) -> int:
        """Return how many days from `first` to `last`, as ordinals, are available."""
        return bisect_right(self._days, last) - bisect_left(self._days, first)

    def last_arrival(self, first: int, last: int) -> dt.datetime:
        """Return when a day from `first` to `last`, as ordinals, arrived last; `LONG_AGO` if none is available."""
        start, stop = bisect_left(self._days, first), bisect_right(self._days, last)
        if start >= stop:
            return LONG_AGO
        power = (stop - start).bit_length() - 1
        row = self._last_arrivals[power]
        return max(row[start], row[stop - (1 << power)])

    @cached_property
    def _days(self) -> Sequence[int]:
        """The available dates as ordinals, sorted."""
        return sorted(date.toordinal() for date in self.dates)

    @cached_property
    def _last_arrivals(self) -> Sequence[Sequence[dt.datetime]]:
        """The last arrivals among 1, 2, 4, 8 … available dates in a row, from each of them on.

        Any number of dates in a row is covered by two of these, so that a query takes the same time for a day and for
        ten years.
        """
        rows = [[self.arrived(dt.date.fromordinal(day)) for day in self._days]]
        while (step := 1 << (len(rows) - 1)) * 2 <= len(self._days):
            rows.append(list(map(max, rows[-1], rows[-1][step:])))
        return rows

    def _has_unrecorded(self, date: dt.date) -> bool:
        """Return whether a type has `date`, but there is no record of its arrival."""
        return any(date in dates and date not in self.arrivals.get(name, {}) for name, dates in self.types.items())


@dataclass(frozen=True, kw_only=True)
class Availability:
    """The dates that FlowAPI has of each type that counts, and when they arrived.

    `is_limited`: only the types in `types` count; otherwise, those in `arrivals` do, too.
    """

    types: Mapping[str, frozenset[dt.date]]
    arrivals: Arrivals = field(default_factory=dict)
    is_limited: bool = False
    _views: dict[object, AvailableDates] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, dates: Iterable[dt.date]) -> Self:
        """Return the availability of `dates` of a single type, which arrived long ago."""
        return cls(types={"calls": frozenset(dates)})

    @classmethod
    def of_arrivals(cls, arrivals: Arrivals) -> Self:
        """Return the dates that have arrived and not vanished."""
        types = {
            name: frozenset(date for date, arrival in of_type.items() if not arrival.is_gone)
            for name, of_type in arrivals.items()
        }
        return cls(types=types, arrivals=arrivals)

    def with_arrivals(self, arrivals: Arrivals) -> Self:
        """Return the same dates with the times at which they arrived.

        A type that is missing from FlowAPI's answer still counts: dates that it had do not arrive with another type.
        """
        absent = {} if self.is_limited else dict.fromkeys(arrivals, frozenset[dt.date]())
        return replace(self, types={**absent, **self.types}, arrivals=arrivals)

    def only(self, cdr_types: Iterable[str] | None) -> Self:
        """Return the dates of `cdr_types` alone; of all types if that is None."""
        if cdr_types is None:
            return self
        types = {name: self.types.get(name, frozenset()) for name in cdr_types}
        return replace(self, types=types, is_limited=True)

    def to(self, requires_all_of: Sequence[str] | None = None) -> AvailableDates:
        """Return the dates that are available to an entry.

        A date counts if any type has it; with `requires_all_of`, if each of these types has it.
        """
        key = _ANY if requires_all_of is None else tuple(requires_all_of)
        if key not in self._views:
            if requires_all_of is None:
                view = AvailableDates(types=self.types, arrivals=self.arrivals)
            else:
                types = {name: self.types.get(name, frozenset()) for name in requires_all_of}
                view = AvailableDates(types=types, arrivals=self.arrivals, needs_all=True)
            self._views[key] = view
        return self._views[key]

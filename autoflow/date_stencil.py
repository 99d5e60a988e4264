"""Date stencils: the dates that must be available before a workflow runs for a reference date."""

import datetime as dt
import enum
import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias

from autoflow.utils import as_yaml

DateOrOffset: TypeAlias = dt.date | int
"""An absolute date, or a number of days from the reference date (negative: before it)."""

StencilElement: TypeAlias = DateOrOffset | tuple[DateOrOffset, DateOrOffset]
"""One date, or the first and the last date of an interval."""

MAX_OFFSET_DAYS = 36_525
"""A hundred years; larger offsets are probably typing mistakes."""

_LAST_ORDINAL = dt.date.max.toordinal()
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_FEW_DAYS = 7


class IntervalEnds(enum.StrEnum):
    """Whether the end of an interval is part of it; users write the text."""

    INCLUDED = "included"
    EXCLUDED = "excluded"
    """Intervals are half-open, as in FlowKit 1.0 and later: the end is the day after the last day."""


class InvalidStencilError(ValueError):
    """The elements are not a valid date stencil for any reference date."""


class UnresolvableStencilError(ValueError):
    """The stencil cannot be resolved for one reference date, though it may be for others."""


def as_date(value: object) -> dt.date:
    """Return `value`, a date or an ISO string (YYYY-MM-DD), as a date; ValueError if it is neither."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    if isinstance(value, str) and _ISO_DATE.fullmatch(value):
        try:
            return dt.date.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{as_yaml(value)} is not a valid date") from error
    raise ValueError(f"{as_yaml(value)} is not a valid date; expected YYYY-MM-DD")


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
        if self.end.toordinal() > _last_day(self.ends):
            raise ValueError(f"no date follows {self.end}, the last day of the interval")

    def dates(self) -> Iterator[dt.date]:
        """Yield each day of the interval, in order."""
        return map(dt.date.fromordinal, range(self.start.toordinal(), self.end.toordinal() + 1))

    def as_strings(self) -> list[str]:
        """Return the ends as ISO dates, the form that notebooks get."""
        end = self.end + dt.timedelta(days=1) if self.ends is IntervalEnds.EXCLUDED else self.end
        return [self.start.isoformat(), end.isoformat()]


@dataclass(frozen=True)
class _Bound:
    """One end of an element: `days` is an ordinal (`factor` 0) or an offset from the reference date (`factor` 1)."""

    days: int
    factor: int

    def ordinal(self, reference_ordinal: int) -> int:
        return self.days + self.factor * reference_ordinal


@dataclass(frozen=True)
class DateStencil:
    """A pattern of dates around a reference date, which must all be available for a workflow to run.

    `elements` is a sequence of at least one element: a date, an offset in days from the reference date, or a pair
    of these, an interval. A date can also be an ISO string; the stencil keeps `dt.date` values, and pairs as tuples.

    `interval_ends` says whether the second of a pair is the last day of the interval, or the day after it.

    Raises
    ------
    InvalidStencilError
        If an element is something else, or a pair that is backwards or empty for every reference date.

    """

    elements: Sequence[object]
    interval_ends: IntervalEnds = IntervalEnds.INCLUDED
    _bounds: tuple[tuple[_Bound, _Bound], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Normalize the elements, so that equal stencils have equal hashes."""
        if isinstance(self.elements, str) or not isinstance(self.elements, Sequence):
            raise InvalidStencilError(f"expected a list of dates, offsets and pairs, not {as_yaml(self.elements)}")
        if not self.elements:
            raise InvalidStencilError("a date stencil needs at least one element")
        elements = tuple(_element(element, self.interval_ends) for element in self.elements)
        object.__setattr__(self, "elements", elements)
        object.__setattr__(self, "_bounds", tuple(_bounds(element, self.interval_ends) for element in elements))

    def __str__(self) -> str:
        """Write the stencil as in YAML."""
        return as_yaml(self.elements)

    def resolve(self, reference_date: dt.date) -> tuple[DateInterval, ...]:
        """Return the interval of each element for `reference_date`, in the stencil's order.

        Raises
        ------
        UnresolvableStencilError
            If a pair of a date and an offset is backwards or empty for `reference_date`, or a date is beyond the
            calendar.

        """
        intervals = []
        for element, (start, end) in zip(self.elements, self._ordinals(reference_date), strict=True):
            try:
                days = dt.date.fromordinal(start), dt.date.fromordinal(end)
                intervals.append(DateInterval(*days, self.interval_ends))
            except (ValueError, OverflowError) as error:
                raise UnresolvableStencilError(
                    f"date stencil element {as_yaml(element)} has no dates for {reference_date}: {error}",
                ) from error
        return tuple(intervals)

    def is_available(self, reference_date: dt.date, available_dates: AbstractSet[dt.date]) -> bool:
        """Return whether all dates of the stencil are available; False if it cannot be resolved.

        Pass a frozenset to check many reference dates: long intervals are then looked up in an index that is built
        once, not day by day.
        """
        last_day = _last_day(self.interval_ends)
        return all(
            start <= end <= last_day and _has_all_days(start, end, available_dates=available_dates)
            for start, end in self._ordinals(reference_date)
        )

    def missing_dates(
        self,
        reference_date: dt.date,
        available_dates: AbstractSet[dt.date],
    ) -> tuple[dt.date, ...]:
        """Return the dates of the stencil that are not available, sorted; raises as `resolve` does."""
        missing = {
            day for interval in self.resolve(reference_date) for day in interval.dates() if day not in available_dates
        }
        return tuple(sorted(missing))

    def _ordinals(self, reference_date: dt.date) -> Iterator[tuple[int, int]]:
        """Yield the first and the last day of each element."""
        reference = reference_date.toordinal()
        return ((start.ordinal(reference), end.ordinal(reference)) for start, end in self._bounds)


def _has_all_days(start: int, end: int, *, available_dates: AbstractSet[dt.date]) -> bool:
    if end - start >= len(available_dates):
        return False
    if end - start < _FEW_DAYS:
        return _walk_finds_all(start, end, available_dates=available_dates)
    return _first_days(frozenset(available_dates)).get(end, end + 1) <= start


def _walk_finds_all(start: int, end: int, *, available_dates: AbstractSet[dt.date]) -> bool:
    if start < 1:
        return False
    return all(dt.date.fromordinal(day) in available_dates for day in range(start, end + 1))


@lru_cache(maxsize=4)
def _first_days(available_dates: frozenset[dt.date]) -> dict[int, int]:
    """Map each available day to the first day of the unbroken sequence that it ends (all as ordinals)."""
    first_days: dict[int, int] = {}
    for day in sorted(date.toordinal() for date in available_dates):
        first_days[day] = first_days.get(day - 1, day)
    return first_days


def _last_day(ends: IntervalEnds) -> int:
    """Return the last day that an interval can have, as an ordinal."""
    return _LAST_ORDINAL - 1 if ends is IntervalEnds.EXCLUDED else _LAST_ORDINAL


def _bounds(element: StencilElement, ends: IntervalEnds) -> tuple[_Bound, _Bound]:
    """Return the first and the last day of `element`."""
    if not isinstance(element, tuple):
        return _bound(element), _bound(element)
    start, end = map(_bound, element)
    return start, replace(end, days=end.days - 1) if ends is IntervalEnds.EXCLUDED else end


def _bound(value: DateOrOffset) -> _Bound:
    return _Bound(value, factor=1) if isinstance(value, int) else _Bound(value.toordinal(), factor=0)


def _element(value: object, ends: IntervalEnds) -> StencilElement:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return _pair(value, ends)
    return _date_or_offset(value)


def _pair(value: Sequence[object], ends: IntervalEnds) -> tuple[DateOrOffset, DateOrOffset]:
    if len(value) != 2:
        raise InvalidStencilError(f"{as_yaml(value)} is not a pair; expected a start and an end")
    start, end = (_date_or_offset(item) for item in value)
    if isinstance(start, int) == isinstance(end, int) and start > end:  # type: ignore[operator] # both of one kind
        raise InvalidStencilError(f"{as_yaml(value)} starts after its end")
    if start == end and ends is IntervalEnds.EXCLUDED:
        raise InvalidStencilError(
            f"{as_yaml(value)} is empty, because 'interval_ends: excluded' excludes its end; "
            f"for this one day, write {as_yaml(start)}"
        )
    return start, end


def _date_or_offset(value: object) -> DateOrOffset:
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > MAX_OFFSET_DAYS:
            raise InvalidStencilError(f"an offset can be at most {MAX_OFFSET_DAYS} days, not {value}")
        return value
    if isinstance(value, str | dt.date) and not isinstance(value, dt.datetime):
        return as_date(value)
    raise InvalidStencilError(
        f"expected a date (YYYY-MM-DD), an offset in days or a pair of these, not {as_yaml(value)}"
    )


def _is_plain_date(value: object) -> bool:
    return isinstance(value, dt.date) and not isinstance(value, dt.datetime)

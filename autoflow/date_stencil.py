"""Date stencils: which dates have to be there before a workflow may run for a reference date."""

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

DateOrOffset: TypeAlias = dt.date | int
"""An absolute date, or a number of days from the reference date (negative: before it)."""

StencilElement: TypeAlias = DateOrOffset | tuple[DateOrOffset, DateOrOffset]
"""One date, or the first and the last date of an interval."""

MAX_OFFSET_DAYS = 36_525
"""Offsets beyond a hundred years are taken for typing mistakes."""

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_FEW_DAYS = 7


class UnresolvableStencilError(ValueError):
    """A stencil makes no sense for one reference date, though it may for others."""


def as_date(value: object) -> dt.date:
    """Return `value`, a date or the ISO string (YYYY-MM-DD) of one, as a date; ValueError if it is something else."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    if isinstance(value, str) and _ISO_DATE.fullmatch(value):
        try:
            return dt.date.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{value} is not in the calendar") from error
    raise ValueError(f"{_text(value)} is not a date (YYYY-MM-DD)")


@dataclass(frozen=True)
class DateInterval:
    """The days from `start` to `end`, both included; ValueError if `start` is after `end`."""

    start: dt.date
    end: dt.date

    def __post_init__(self) -> None:
        """Refuse an interval that is none."""
        for day in (self.start, self.end):
            if not _is_plain_date(day):
                raise ValueError(f"{day!r} is not a date")
        if self.start > self.end:
            raise ValueError(f"the interval starts on {self.start}, after its end on {self.end}")

    def dates(self) -> Iterator[dt.date]:
        """Yield each day of the interval, in order."""
        return map(dt.date.fromordinal, range(self.start.toordinal(), self.end.toordinal() + 1))

    def as_strings(self) -> list[str]:
        """Return the ends as ISO dates: the form in which notebooks get them."""
        return [self.start.isoformat(), self.end.isoformat()]


@dataclass(frozen=True)
class _Bound:
    """One end of an element: `days` is an ordinal (`factor` 0) or an offset from the reference date (`factor` 1)."""

    days: int
    factor: int

    def ordinal(self, reference_ordinal: int) -> int:
        return self.days + self.factor * reference_ordinal


@dataclass(frozen=True)
class DateStencil:
    """A pattern of dates around a reference date; all of them have to be available for a workflow to run.

    `elements` is a sequence with one item or more: a date, an offset in days from the reference date, or a pair
    of these which are the first and the last day of an interval. A date can be given as an ISO string as well; the
    stencil keeps `dt.date` values, and pairs as tuples.

    Raises
    ------
    ValueError
        If an element is something else, or a pair that would be backwards for each reference date.

    """

    elements: Sequence[object]
    _bounds: tuple[tuple[_Bound, _Bound], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Bring the elements into one form, so that equal stencils hash alike."""
        if isinstance(self.elements, str) or not isinstance(self.elements, Sequence):
            raise ValueError(f"a date stencil is a list of dates, offsets and pairs, not {self.elements!r}")  # noqa: TRY004 - callers catch one class
        if not self.elements:
            raise ValueError("a date stencil needs one element or more")
        elements = tuple(_element(element) for element in self.elements)
        object.__setattr__(self, "elements", elements)
        object.__setattr__(self, "_bounds", tuple(_bounds(element) for element in elements))

    def __str__(self) -> str:
        """Write the stencil as it would stand in YAML."""
        return _text(self.elements)

    def resolve(self, reference_date: dt.date) -> tuple[DateInterval, ...]:
        """Return the intervals that the elements stand for at `reference_date`, in the stencil's order.

        Raises
        ------
        UnresolvableStencilError
            If a pair of a date and an offset is backwards for `reference_date`, or a date is out of the calendar.

        """
        intervals = []
        for element, (start, end) in zip(self.elements, self._ordinals(reference_date), strict=True):
            try:
                intervals.append(DateInterval(dt.date.fromordinal(start), dt.date.fromordinal(end)))
            except (ValueError, OverflowError) as error:
                raise UnresolvableStencilError(
                    f"date stencil element {_text(element)} cannot be used for {reference_date}: {error}",
                ) from error
        return tuple(intervals)

    def is_available(self, reference_date: dt.date, available_dates: AbstractSet[dt.date]) -> bool:
        """Tell whether all dates of the stencil are available; False as well where it cannot be resolved.

        Give a frozenset if many reference dates are looked at: then long intervals are looked up in an index that
        is made once, and not walked through day by day.
        """
        return all(
            start <= end and _has_all_days(start, end, available_dates=available_dates)
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
        reference = reference_date.toordinal()
        return ((start.ordinal(reference), end.ordinal(reference)) for start, end in self._bounds)


def _has_all_days(start: int, end: int, *, available_dates: AbstractSet[dt.date]) -> bool:
    if end - start >= len(available_dates):
        return False
    if end - start < _FEW_DAYS:
        return _walk_finds_all(start, end, available_dates=available_dates)
    return _first_days(frozenset(available_dates)).get(end, end + 1) <= start


def _walk_finds_all(start: int, end: int, *, available_dates: AbstractSet[dt.date]) -> bool:
    if start < 1 or end > dt.date.max.toordinal():
        return False
    return all(dt.date.fromordinal(day) in available_dates for day in range(start, end + 1))


@lru_cache(maxsize=4)
def _first_days(available_dates: frozenset[dt.date]) -> dict[int, int]:
    """Map each available day to the first day of the unbroken row of days that it ends (all as ordinals)."""
    first_days: dict[int, int] = {}
    for day in sorted(date.toordinal() for date in available_dates):
        first_days[day] = first_days.get(day - 1, day)
    return first_days


def _bounds(element: StencilElement) -> tuple[_Bound, _Bound]:
    start, end = element if isinstance(element, tuple) else (element, element)
    return _bound(start), _bound(end)


def _bound(value: DateOrOffset) -> _Bound:
    return _Bound(value, factor=1) if isinstance(value, int) else _Bound(value.toordinal(), factor=0)


def _element(value: object) -> StencilElement:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return _pair(value)
    return _date_or_offset(value)


def _pair(value: Sequence[object]) -> tuple[DateOrOffset, DateOrOffset]:
    if len(value) != 2:
        raise ValueError(f"{_text(value)} is not a pair: a start and an end are expected")
    start, end = (_date_or_offset(item) for item in value)
    if isinstance(start, int) == isinstance(end, int) and start > end:  # type: ignore[operator] # both of one kind
        raise ValueError(f"{_text(value)} starts after its end")
    return start, end


def _date_or_offset(value: object) -> DateOrOffset:
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > MAX_OFFSET_DAYS:
            raise ValueError(f"an offset is at most {MAX_OFFSET_DAYS} days, not {value}")
        return value
    if isinstance(value, str | dt.date) and not isinstance(value, dt.datetime):
        return as_date(value)
    raise ValueError(f"{_text(value)} is neither a date (YYYY-MM-DD), an offset in days nor a pair of these")


def _is_plain_date(value: object) -> bool:
    return isinstance(value, dt.date) and not isinstance(value, dt.datetime)


def _text(value: object) -> str:
    """Write an element as it would stand in YAML."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, dt.date) else repr(value)

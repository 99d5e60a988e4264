"""Date stencils: the dates that must be available before a workflow runs for a reference date."""

import datetime as dt
import itertools
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias

from autoflow.dates.intervals import DateInterval, IntervalEnds, last_day
from autoflow.dates.periods import MOST_PERIODS_AWAY, Every, last_days, period_of
from autoflow.utils import as_yaml


@dataclass(frozen=True, order=True, repr=False)
class PeriodOffset:
    """A whole period, a number of `periods` after the one of the reference date (negative: before it)."""

    periods: int

    def __repr__(self) -> str:
        """Write it as in YAML."""
        return f"{{period: {self.periods}}}"


DateOrOffset: TypeAlias = dt.date | int | PeriodOffset
"""An absolute date, a number of days from the reference date (negative: before it), or a period."""

StencilElement: TypeAlias = DateOrOffset | tuple[DateOrOffset, DateOrOffset]
"""One date or period, or the first and the last date of an interval."""

MAX_OFFSET_DAYS = 36_525
"""A hundred years; larger offsets are probably typing mistakes."""

_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_FEW_DAYS = 7


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
class _Day:
    """An end of an element: a day as an ordinal, or a number of days from the reference date."""

    days: int
    is_offset: bool

    def ordinal(self, reference_date: dt.date) -> int:
        return self.days + reference_date.toordinal() if self.is_offset else self.days


@dataclass(frozen=True)
class _EndOfPeriod:
    """An end of an element: the first or the last day of a period."""

    periods: int
    every: Every
    is_first: bool

    def ordinal(self, reference_date: dt.date) -> int:
        period = period_of(reference_date, self.every, shift=self.periods)
        return (period.start if self.is_first else period.end).toordinal()


_Bound: TypeAlias = _Day | _EndOfPeriod


@dataclass(frozen=True)
class DateStencil:
    """A pattern of dates around a reference date, which must all be available for a workflow to run.

    `elements` is a sequence of at least one element: a date, an offset in days from the reference date, or a pair
    of these, an interval. A date can also be an ISO string; the stencil keeps `dt.date` values, and pairs as tuples.
    ``{"period": N}`` stands for a whole period; in a pair, for its first day at the start and its last day at the end.

    `interval_ends` says whether the second of a pair, if it is not a period, is the last day of the interval, or the
    day after it. `every` is the kind of period.

    Raises
    ------
    InvalidStencilError
        If an element is something else, or a pair that is backwards or empty for every reference date.

    """

    elements: Sequence[object]
    interval_ends: IntervalEnds = IntervalEnds.INCLUDED
    every: Every = Every.DAY
    _bounds: tuple[tuple[_Bound, _Bound], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Normalize the elements, so that equal stencils have equal hashes."""
        if isinstance(self.elements, str) or not isinstance(self.elements, Sequence):
            raise InvalidStencilError(f"expected a list of dates, offsets and pairs, not {as_yaml(self.elements)}")
        if not self.elements:
            raise InvalidStencilError("a date stencil needs at least one element")
        elements = tuple(_element(element, self.interval_ends) for element in self.elements)
        object.__setattr__(self, "elements", elements)
        object.__setattr__(self, "_bounds", tuple(self._bounds_of(element) for element in elements))
        for element, ends in zip(elements, self._bounds, strict=True):
            if _is_always_empty(ends, self.every):
                raise InvalidStencilError(f"{as_yaml(element)} has no days, whatever the reference date")

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
        for element, ends in zip(self.elements, self._bounds, strict=True):
            try:
                start, end = (dt.date.fromordinal(bound.ordinal(reference_date)) for bound in ends)
                intervals.append(DateInterval(start, end, self.interval_ends))
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
        spans = self.spans(reference_date)
        return bool(spans) and all(_has_all_days(start, end, available_dates=available_dates) for start, end in spans)

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

    def spans(self, reference_date: dt.date) -> Sequence[tuple[int, int]]:
        """Return the first and the last day of each element as ordinals; none if the stencil cannot be resolved."""
        latest = last_day(self.interval_ends)
        try:
            spans = [(start.ordinal(reference_date), end.ordinal(reference_date)) for start, end in self._bounds]
        except ValueError:  # a period beyond the calendar
            return ()
        return spans if all(1 <= start <= end <= latest for start, end in spans) else ()

    def _bounds_of(self, element: StencilElement) -> tuple[_Bound, _Bound]:
        """Return the first and the last day of `element`."""
        if not isinstance(element, tuple):
            return _bound(element, self.every, is_first=True), _bound(element, self.every, is_first=False)
        start, end = element
        last = _bound(end, self.every, is_first=False)
        if isinstance(last, _Day) and self.interval_ends is IntervalEnds.EXCLUDED:
            last = replace(last, days=last.days - 1)
        return _bound(start, self.every, is_first=True), last


def _is_always_empty(ends: tuple[_Bound, _Bound], every: Every) -> bool:
    """Return whether a pair of an offset and a period is backwards or empty for every reference date."""
    if type(ends[0]) is type(ends[1]) or any(isinstance(end, _Day) and not end.is_offset for end in ends):
        return False
    start, end = ends
    # Four years have months and years of every length.
    reference_dates = itertools.islice(last_days(dt.date(2016, 1, 1), dt.date(2019, 12, 31), every), 48)
    try:
        return all(start.ordinal(date) > end.ordinal(date) for date in reference_dates)
    except ValueError:  # a period beyond the calendar
        return False


def _has_all_days(start: int, end: int, *, available_dates: AbstractSet[dt.date]) -> bool:
    if end - start >= len(available_dates):
        return False
    if end - start < _FEW_DAYS:
        return _walk_finds_all(start, end, available_dates=available_dates)
    return _first_days(frozenset(available_dates)).get(end, end + 1) <= start


def _walk_finds_all(start: int, end: int, *, available_dates: AbstractSet[dt.date]) -> bool:
    return all(dt.date.fromordinal(day) in available_dates for day in range(start, end + 1))


@lru_cache(maxsize=4)
def _first_days(available_dates: frozenset[dt.date]) -> dict[int, int]:
    """Map each available day to the first day of the unbroken sequence that it ends (all as ordinals)."""
    first_days: dict[int, int] = {}
    for day in sorted(date.toordinal() for date in available_dates):
        first_days[day] = first_days.get(day - 1, day)
    return first_days


def _bound(value: DateOrOffset, every: Every, *, is_first: bool) -> _Bound:
    if isinstance(value, PeriodOffset):
        return _EndOfPeriod(value.periods, every, is_first)
    return _Day(value, is_offset=True) if isinstance(value, int) else _Day(value.toordinal(), is_offset=False)


def _element(value: object, ends: IntervalEnds) -> StencilElement:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return _pair(value, ends)
    return _date_or_offset(value)


def _pair(value: Sequence[object], ends: IntervalEnds) -> tuple[DateOrOffset, DateOrOffset]:
    if len(value) != 2:
        raise InvalidStencilError(f"{as_yaml(value)} is not a pair; expected a start and an end")
    start, end = (_date_or_offset(item) for item in value)
    if type(start) is type(end) and start > end:  # type: ignore[operator] # both of one kind
        raise InvalidStencilError(f"{as_yaml([start, end])} starts after its end")
    if start == end and ends is IntervalEnds.EXCLUDED and not isinstance(end, PeriodOffset):
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
    if isinstance(value, PeriodOffset):
        return _period(value.periods)
    if isinstance(value, Mapping) and value.keys() == {"period"}:
        return _period(value["period"])
    raise InvalidStencilError(
        f"expected a date (YYYY-MM-DD), an offset in days, {{period: N}} or a pair of these, not {as_yaml(value)}"
    )


def _period(value: object) -> PeriodOffset:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidStencilError(f"expected a whole number of periods, such as {{period: -1}}, not {as_yaml(value)}")
    if abs(value) > MOST_PERIODS_AWAY:
        raise InvalidStencilError(f"a period can be at most {MOST_PERIODS_AWAY} periods away, not {value}")
    return PeriodOffset(value)

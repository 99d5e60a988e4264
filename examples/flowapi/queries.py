"""The queries that the example FlowAPI can run: their specifications and results."""

import datetime
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np
from typing_extensions import override

from examples.flowapi.calls import CDR_TYPES, CallRecords, Integers
from examples.flowapi.country import UNITS, Country

Row: TypeAlias = dict[str, Any]

SMALLEST_UNDISCLOSED: Final = 15
"""Counts up to and including this one are omitted from every result, as in FlowMachine."""

NOWHERE: Final = -1
"""The location of a subscriber without one."""


class InvalidSpecError(Exception):
    """A query specification is not valid; `messages` has the nesting of the specification."""

    def __init__(self, messages: Mapping[str, Any]) -> None:
        super().__init__(str(messages))
        self.messages = messages


class UnparsableSpecError(Exception):
    """FlowMachine does not understand a query specification."""


class NoDataError(Exception):
    """A query asks for a date on which none of its CDR types has data."""

    def __init__(self, date: datetime.date) -> None:
        super().__init__(f"No data for date: {date} 00:00:00 - {date + datetime.timedelta(days=1)} 00:00:00")


class Dataset:
    """The country, its call records, and the dates ingested."""

    def __init__(self, country: Country, records: CallRecords) -> None:
        self.country = country
        self.records = records
        self._ingested: dict[str, set[datetime.date]] = {cdr_type: set() for cdr_type in CDR_TYPES}

    def ingest(self, date: datetime.date, cdr_types: tuple[str, ...]) -> None:
        """Make a date available for some CDR types."""
        for cdr_type in cdr_types:
            self._ingested[cdr_type] = self._ingested[cdr_type] | {
                date
            }  # a new set, because another thread may be reading the old one

    def withdraw(self, date: datetime.date, cdr_types: tuple[str, ...]) -> None:
        """Remove a date from some CDR types, if it is available."""
        for cdr_type in cdr_types:
            self._ingested[cdr_type] = self._ingested[cdr_type] - {date}

    def available_dates(self) -> dict[str, list[str]]:
        """Return the ingested dates of each type, ascending; omit types without any."""
        return {name: [str(date) for date in sorted(dates)] for name, dates in self._ingested.items() if dates}

    def available_types(self, date: datetime.date, cdr_types: tuple[str, ...]) -> tuple[str, ...]:
        """Return the types, of those given, that have data for a date."""
        return tuple(cdr_type for cdr_type in cdr_types if date in self._ingested[cdr_type])


@dataclass(frozen=True)
class Locations(ABC):
    """A query that maps each subscriber to one region of `unit`, or to none."""

    unit: str

    @abstractmethod
    def days(self) -> Iterator["DailyLocation"]:
        """Yield the daily locations that this consists of, itself included if it is one."""

    @abstractmethod
    def kinds(self) -> set[str]:
        """Return the query kinds of this and of its parts."""

    @abstractmethod
    def locate(self, dataset: Dataset) -> Integers:
        """Return the index of each subscriber's region, or `NOWHERE`."""


@dataclass(frozen=True)
class DailyLocation(Locations):
    """Where subscribers were at their last event of a day ('last'), or at most of them ('most-common').

    `hours` limits the events to those from its first hour until before its second.
    """

    date: datetime.date
    method: str
    cdr_types: tuple[str, ...] = CDR_TYPES
    hours: tuple[int, int] | None = None

    @override
    def days(self) -> Iterator["DailyLocation"]:
        yield self

    @override
    def kinds(self) -> set[str]:
        return {"daily_location"}

    @override
    def locate(self, dataset: Dataset) -> Integers:
        subscriber, region = self._events_in_order(dataset)
        located = np.full(len(dataset.records.subscribers.home), NOWHERE)
        if self.method == "most-common":
            subscriber, region = _most_common(subscriber, region)
        located[subscriber] = region  # the last one of a subscriber stays
        return located

    def _events_in_order(self, dataset: Dataset) -> tuple[Integers, Integers]:
        """Return the subscribers and regions of the relevant events, ascending in time."""
        cdr_types = dataset.available_types(self.date, self.cdr_types)
        events = [dataset.records.events(self.date, cdr_type) for cdr_type in cdr_types]
        second = np.concatenate([part.second for part in events])
        order = np.argsort(second, kind="stable")
        if self.hours is not None:
            first, end = self.hours
            order = order[(second[order] >= first * 3600) & (second[order] < end * 3600)]
        ward = np.concatenate([part.ward for part in events])[order]
        return np.concatenate([part.subscriber for part in events])[order], dataset.country.ward_regions[self.unit][
            ward
        ]


@dataclass(frozen=True)
class ModalLocation(Locations):
    """Where subscribers were on most of several days; if places tie, that of the latest day."""

    locations: tuple[DailyLocation, ...]

    @override
    def days(self) -> Iterator[DailyLocation]:
        yield from self.locations

    @override
    def kinds(self) -> set[str]:
        return {"modal_location", "daily_location"}

    @override
    def locate(self, dataset: Dataset) -> Integers:
        days = sorted(self.locations, key=lambda day: day.date, reverse=True)
        located = np.stack([day.locate(dataset) for day in days])
        times_there = np.stack([np.where(row == NOWHERE, 0, (located == row).sum(axis=0)) for row in located])
        most: Integers = np.take_along_axis(located, times_there.argmax(axis=0)[None], axis=0)[0]
        return most


@dataclass(frozen=True)
class Query(ABC):
    """A query that can be run by itself, with rows of counts as its result, none of them disclosive."""

    kind: ClassVar[str]

    @property
    def query_id(self) -> str:
        """32 hexadecimal digits that depend only on the query."""
        return hashlib.md5(repr(self).encode(), usedforsecurity=False).hexdigest()

    @property
    def unit(self) -> str:
        """The spatial unit of all locations of this query."""
        return self.parts()[0].unit

    def parts(self) -> list[Locations]:
        """Return the locations in the query's own fields."""
        return [getattr(self, field.name) for field in fields(self)]

    def scopes(self) -> set[str]:
        """Return the scopes that a token needs for this query, besides actions."""
        kinds = {self.kind}.union(*(part.kinds() for part in self.parts()))
        return {f"{self.unit}:{self.kind}:{kind}" for kind in kinds}

    def size(self) -> int:
        """Return the number of different queries that this one consists of, itself included."""
        parts = self.parts()
        return 1 + len({*parts, *(day for part in parts for day in part.days())})

    def check_available(self, dataset: Dataset) -> None:
        """Raise NoDataError if a day that the query needs is not available."""
        for part in self.parts():
            for day in part.days():
                if not dataset.available_types(day.date, day.cdr_types):
                    raise NoDataError(day.date)

    @abstractmethod
    def rows(self, dataset: Dataset) -> list[Row]:
        """Return the result, in no particular order."""

    @abstractmethod
    def properties(self, rows: list[Row], pcod: str) -> Row:
        """Return the properties of one region in the GeoJSON form of the result."""


@dataclass(frozen=True)
class Flows(Query):
    """The number of subscribers in one region first and in another (or the same) one afterwards."""

    kind = "flows"
    from_location: Locations
    to_location: Locations

    @override
    def rows(self, dataset: Dataset) -> list[Row]:
        origin, destination = self.from_location.locate(dataset), self.to_location.locate(dataset)
        located = (origin != NOWHERE) & (destination != NOWHERE)
        pairs, counts = np.unique(np.stack([origin, destination])[:, located], axis=1, return_counts=True)
        regions = dataset.country.regions[self.unit]
        rows = [
            {"pcod_from": regions[start].pcod, "pcod_to": regions[end].pcod, "value": int(count)}
            for start, end, count in zip(*pairs, counts, strict=True)
            if count > SMALLEST_UNDISCLOSED
        ]
        return _unordered(rows)

    @override
    def properties(self, rows: list[Row], pcod: str) -> Row:
        return {
            "outflows": {row["pcod_to"]: row["value"] for row in rows if row["pcod_from"] == pcod},
            "inflows": {row["pcod_from"]: row["value"] for row in rows if row["pcod_to"] == pcod},
        }


@dataclass(frozen=True)
class SpatialAggregate(Query):
    """The number of subscribers in each region."""

    kind = "spatial_aggregate"
    locations: Locations

    @override
    def rows(self, dataset: Dataset) -> list[Row]:
        located = self.locations.locate(dataset)
        regions = dataset.country.regions[self.unit]
        counts = np.bincount(located[located != NOWHERE], minlength=len(regions))
        rows = [
            {"pcod": region.pcod, "value": int(count)}
            for region, count in zip(regions, counts, strict=True)
            if count > SMALLEST_UNDISCLOSED
        ]
        return _unordered(rows)

    @override
    def properties(self, rows: list[Row], pcod: str) -> Row:
        return {"value": next((row["value"] for row in rows if row["pcod"] == pcod), None)}


def parse_query(spec: Mapping[str, Any]) -> Query:
    """Return the query of a specification that flowclient sends.

    Raises
    ------
    InvalidSpecError, UnparsableSpecError
        If the example cannot run the specification.

    """
    match spec.get("query_kind"):
        case "flows":
            _check_keys(spec, {"query_kind", "from_location", "to_location", "join_type"})
            _check(spec.get("join_type", "inner") == "inner", "join_type", "Must be one of: inner.")
            query: Query = Flows(_locations(spec, "from_location"), _locations(spec, "to_location"))
        case "spatial_aggregate":
            _check_keys(spec, {"query_kind", "locations"})
            query = SpatialAggregate(_locations(spec, "locations"))
        case kind:
            raise InvalidSpecError({"query_kind": [f"Unsupported value: {kind}"]})
    _check_one_unit(query.parts())
    return query


def _locations(spec: Mapping[str, Any], key: str) -> Locations:
    """Parse the daily or modal location under `key`."""
    _check(isinstance(spec.get(key), dict), key, "Missing data for required field.")
    try:
        return _daily_or_modal_location(spec[key])
    except InvalidSpecError as error:
        raise InvalidSpecError({key: error.messages}) from error


def _daily_or_modal_location(spec: Mapping[str, Any]) -> Locations:
    match spec.get("query_kind"):
        case "daily_location":
            return _daily_location(spec)
        case "modal_location":
            return _modal_location(spec)
        case kind:
            raise InvalidSpecError({"query_kind": [f"Unsupported value: {kind}"]})


def _modal_location(spec: Mapping[str, Any]) -> ModalLocation:
    _check_keys(spec, {"query_kind", "locations"})
    nested = spec.get("locations")
    if nested == []:
        # This is how FlowAPI answers an empty range of dates.
        raise UnparsableSpecError
    if not isinstance(nested, list):
        raise InvalidSpecError({"locations": ["Missing data for required field."]})
    days = []
    for number, day in enumerate(nested):
        try:
            _check(
                isinstance(day, dict) and day.get("query_kind") == "daily_location", "query_kind", "Unsupported value."
            )
            days.append(_daily_location(day))
        except InvalidSpecError as error:
            raise InvalidSpecError({"locations": {str(number): error.messages}}) from error
    _check_one_unit(days)
    return ModalLocation(days[0].unit, tuple(days))


_NOT_IN_THE_EXAMPLE: Final = ("subscriber_subset", "mapping_table", "geom_table", "geom_table_join_column")


def _daily_location(spec: Mapping[str, Any]) -> DailyLocation:
    known = {"query_kind", "date", "aggregation_unit", "method", "event_types", "hours", *_NOT_IN_THE_EXAMPLE}
    _check_keys(spec, known)
    for key in _NOT_IN_THE_EXAMPLE:
        _check(spec.get(key) is None, key, "The example FlowAPI takes only null.")
    _check(spec.get("aggregation_unit") in UNITS, "aggregation_unit", f"Must be one of: {', '.join(UNITS)}.")
    _check(spec.get("method") in {"last", "most-common"}, "method", "Must be one of: last, most-common.")
    return DailyLocation(
        unit=spec["aggregation_unit"],
        date=_date(spec.get("date")),
        method=spec["method"],
        cdr_types=_cdr_types(spec.get("event_types")),
        hours=_hours(spec.get("hours")),
    )


def _date(text: object) -> datetime.date:
    try:
        return datetime.date.fromisoformat(str(text))
    except ValueError as error:
        raise InvalidSpecError({"date": ["Not a valid date."]}) from error


def _cdr_types(names: object) -> tuple[str, ...]:
    if names is None:
        return CDR_TYPES
    valid = isinstance(names, list) and bool(names) and set(names) <= set(CDR_TYPES)
    _check(valid, "event_types", f"Must be one or more of: {', '.join(CDR_TYPES)}.")
    return tuple(cdr_type for cdr_type in CDR_TYPES if cdr_type in names)  # type: ignore[operator]


def _hours(hours: object) -> tuple[int, int] | None:
    match hours:
        case None:
            return None
        case {"start_hour": int(first), "end_hour": int(end)} if 0 <= first < end <= 24:
            return first, end
    raise InvalidSpecError({"hours": ["Must have 0 <= start_hour < end_hour <= 24."]})


def _check_one_unit(parts: list[Any]) -> None:
    units = {part.unit for part in parts}
    _check(len(units) == 1, "aggregation_unit", f"Must be the same everywhere, not {', '.join(sorted(units))}.")


def _check_keys(spec: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(spec) - known):
        raise InvalidSpecError({key: ["Unknown field."] for key in unknown})


def _check(valid: bool, key: str, message: str) -> None:
    if not valid:
        raise InvalidSpecError({key: [message]})


def _most_common(subscriber: Integers, region: Integers) -> tuple[Integers, Integers]:
    """Reduce to one region per subscriber: the most frequent one; if several tie, the first."""
    pairs, counts = np.unique(np.stack([subscriber, region]), axis=1, return_counts=True)
    order = np.lexsort((-pairs[1], counts, pairs[0]))
    return pairs[0][order], pairs[1][order]


def _unordered(rows: list[Row]) -> list[Row]:
    """Put rows in an arbitrary order, like a database, that is the same each time."""
    step = next((step for step in range(7, 7 + len(rows)) if math.gcd(step, len(rows)) == 1), 1)
    return [rows[place * step % len(rows)] for place in range(len(rows))]

"""A second implementation of the rules in workflows.yml, as plain as possible and slow; tests compare the two.

It shares no code with the first. It keeps all that has happened in memory, and looks at every day anew.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias
from zoneinfo import ZoneInfo

ONE_DAY = dt.timedelta(days=1)
LONG_AGO = dt.datetime(1, 1, 1)

Dates: TypeAlias = Mapping[str, frozenset[dt.date]]
Span: TypeAlias = tuple[dt.date, dt.date]


def first_of_month(day: dt.date, months_later: int = 0) -> dt.date:
    for _ in range(months_later):
        day = day.replace(day=28) + 4 * ONE_DAY
    return day.replace(day=1)


@cache
def span_of(day: dt.date, every: str) -> Span:
    """Return the first and the last day of the period in which `day` lies."""
    if every == "day":
        return day, day
    if every in {"month", "quarter", "year"}:
        months = {"month": 1, "quarter": 3, "year": 12}[every]
        first = first_of_month(day)
        while (first.month - 1) % months:
            first = first_of_month(first - ONE_DAY)
        return first, first_of_month(first, months) - ONE_DAY
    name = "Sunday" if every == "week" else every.title()
    last = next(end for end in (day + number * ONE_DAY for number in range(7)) if f"{end:%A}" == name)
    return last - 6 * ONE_DAY, last


def span_away(date: dt.date, every: str, number: int) -> Span:
    """Return the period that is `number` periods from that of `date`."""
    first, last = span_of(date, every)
    for _ in range(abs(number)):
        first, last = span_of(last + ONE_DAY if number > 0 else first - ONE_DAY, every)
    return first, last


@dataclass(kw_only=True)
class Entry:
    """The keys of an entry, with `stencil` as a function of the reference date, and what has happened to it."""

    every: str = "day"
    stencil: Callable[[dt.date], Sequence[Span]]
    types: Sequence[str]
    needs_all: bool = False
    earliest: dt.date = dt.date.min
    latest: dt.date = dt.date.max
    newest_first: bool = False
    after_previous: bool = False
    share: float = 1
    longest_gap: int = 1000
    wait: int | None = None
    zone: str = "UTC"
    reruns: bool = False
    retry_delay: dt.timedelta = dt.timedelta(hours=1)
    max_attempts: int = 5

    available: set[dt.date] = field(default_factory=set)
    present: set[dt.date] = field(default_factory=set)
    arrived: dict[dt.date, dt.datetime] = field(default_factory=dict)
    done: dict[dt.date, dt.datetime] = field(default_factory=dict)
    failures: dict[dt.date, list[dt.datetime]] = field(default_factory=lambda: defaultdict(list))
    looks: int = 0
    used: dict[dt.date, frozenset[dt.date]] = field(default_factory=dict)

    def look(self, answer: Dates, present: Dates, now: dt.datetime) -> None:
        """Note what FlowAPI answers, and what it has, apart from its faults."""
        self.available = self._seen(answer)
        seen = self._seen(present)
        for day in seen - self.present:
            self.arrived[day] = now if self.looks else LONG_AGO
        self.present = seen
        self.looks += 1

    def _seen(self, dates: Dates) -> set[dt.date]:
        sets = [set(dates.get(name, ())) for name in self.types]
        return set.intersection(*sets) if self.needs_all else set.union(*sets)

    def record(self, date: dt.date, now: dt.datetime, *, is_success: bool) -> None:
        if is_success:
            self.done[date] = now
        else:
            self.failures[date].append(now)

    def due(self, now: dt.datetime) -> list[dt.date]:
        """Return the dates to run now, in order."""
        first, last = min(self.available, default=dt.date.max), max(self.available, default=dt.date.min)
        found, is_blocked = [], False
        day = first
        while day <= last:
            date = span_of(day, self.every)[1]
            day = date + ONE_DAY
            status = self._status(date, now)
            if date in self.done:
                found += [date] if status == "due" else []
            elif status in {"due", "waits"}:
                found += [date] if status == "due" and not is_blocked else []
                is_blocked = self.after_previous
        return found[::-1] if self.newest_first else found

    def missing(self, date: dt.date) -> list[dt.date]:
        return sorted(self._days(date) - self.available)

    def _status(self, date: dt.date, now: dt.datetime) -> str:
        """Return "due", "waits" or "no"."""
        if date in self.done and not self.reruns:
            return "no"
        changed = self._last_arrival(date) if date in self.done else LONG_AGO
        if date in self.done and changed <= self.done[date]:
            return "no"
        if span_of(date, self.every)[0] < self.earliest or date > self.latest:
            return "no"
        ready = self._ready(date)
        if ready is None:
            return "no"
        failures = [time for time in self.failures[date] if time >= changed]
        if len(failures) >= self.max_attempts:
            return "no"
        times = [ready]
        if failures:
            times.append(failures[-1] + self.retry_delay * 2 ** (len(failures) - 1))
        return "due" if all(time <= now for time in times) else "waits"

    def _ready(self, date: dt.date) -> dt.datetime | None:
        if self.every == "day" and date not in self.available:
            return None
        is_over = max(self.available) >= date
        missing = self.missing(date)
        if is_over and not missing:
            return LONG_AGO
        if self.wait is None or not all(self._is_enough(first, last) for first, last in self.stencil(date)):
            return None
        last_day = max([*missing, *([] if is_over else [date])])
        midnight = dt.datetime.combine(last_day + (1 + self.wait) * ONE_DAY, dt.time(), ZoneInfo(self.zone))
        ended = midnight.astimezone(dt.UTC).replace(tzinfo=None)
        return max(ended, self._last_arrival(date) + self.wait * ONE_DAY)

    def _is_enough(self, first: dt.date, last: dt.date) -> bool:
        text = "".join("x" if day in self.available else "-" for day in days_of(first, last))
        return text.count("x") >= self.share * len(text) and "-" * (self.longest_gap + 1) not in text

    def _last_arrival(self, date: dt.date) -> dt.datetime:
        return max((self.arrived[day] for day in self._days(date) & self.available), default=LONG_AGO)

    def _days(self, date: dt.date) -> frozenset[dt.date]:
        if date not in self.used:
            self.used[date] = frozenset(day for first, last in self.stencil(date) for day in days_of(first, last))
        return self.used[date]


def days_of(first: dt.date, last: dt.date) -> list[dt.date]:
    return [first + number * ONE_DAY for number in range((last - first).days + 1)]

"""The dates of an entry in one calendar year that are not done, for calendars."""

import datetime
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from autoflow.dates.availability import Availability
from autoflow.dates.completeness import end_of
from autoflow.dates.periods import Every, last_days, period_of
from autoflow.runs.plan import planners
from autoflow.runs.planner import Planner
from autoflow.runs.records import Histories
from autoflow.runs.statuses import DateStatus, PlannedDate
from autoflow.specs import TriggerSpec

_OUTSIDE = (DateStatus.TOO_EARLY, DateStatus.TOO_LATE)


@dataclass(frozen=True, kw_only=True)
class YearPlan:
    """The dates of a year that could run and are not done, with their status, oldest first.

    `blocked_by` is the date for which those of later years wait, if any. `changes_at` (UTC) is when a status may be
    another one although nothing has run or arrived; None if never.
    """

    dates: Sequence[PlannedDate] = ()
    blocked_by: datetime.date | None = None
    changes_at: datetime.datetime | None = None


def years_with_data(trigger: TriggerSpec, availability: Availability) -> frozenset[int]:
    """Return the calendar years with an available date, and that of the period of the newest one.

    Years that lie wholly outside the bounds of `trigger` are left out.
    """
    available = availability.to(trigger.requires_all_of)
    if available.newest is None:
        return frozenset()
    first, last = trigger.earliest_date or datetime.date.min, trigger.latest_date or datetime.date.max
    years = available.years | {_end(available.newest, trigger.every).year}
    return frozenset(year for year in years if first.year <= year <= last.year)


def plan_year(
    trigger: TriggerSpec,
    availability: Availability,
    histories: Histories,
    now: datetime.datetime,
    *,
    year: int,
    blocked_by: datetime.date | None = None,
) -> YearPlan:
    """Return the plan of `trigger` for a calendar year at `now` (UTC).

    It has every date between the first and the newest available one, also days without any data. A year that lies
    wholly outside the bounds of the entry has none. `histories` need to have the runs of this year alone. `blocked_by`
    is the date of an earlier year for which those of this year wait.
    """
    (planner,) = planners([trigger], availability, histories, now)
    dates = []
    changes = []
    for date in sorted({*_dates(planner, year), *planner.history.running} - planner.history.done):
        each = planner.planned(date)
        if blocked_by and each.status is DateStatus.DUE:
            each = replace(each, status=DateStatus.BLOCKED, blocked_by=blocked_by)
        if trigger.after_previous and not blocked_by and planner.blocks(date, each.status):
            blocked_by = date
        changes.append(_changes_at(each, planner))
        dates.append(each)
    if all(each.status in _OUTSIDE for each in dates) and not planner.history.done:
        dates = []
    next_change = min((time for time in changes if time and time > now), default=None)
    return YearPlan(dates=dates, blocked_by=blocked_by, changes_at=next_change)


def basis_of_plan(trigger: TriggerSpec, availability: Availability, year: int) -> str:
    """Return a text that is another one if the plan of a year may be, whatever has run in it."""
    available = availability.to(trigger.requires_all_of)
    first, last = _days_that_matter(trigger, year)
    bounds = (trigger.every, trigger.earliest_date, trigger.latest_date, trigger.after_previous)
    needs = (trigger.date_stencil, trigger.requires_all_of, trigger.needs, trigger.on_change)
    rules = repr((*bounds, *needs, trigger.retry_delay, trigger.max_attempts))
    return f"{hashlib.sha256(rules.encode()).hexdigest()}/{available.digest(first, last)}"


def _dates(planner: Planner, year: int) -> Iterator[datetime.date]:
    """Yield the dates of a year from the period of the first available date to that of the newest."""
    every, dates = planner.trigger.every, planner.available.dates
    if planner.available.newest is None:
        return
    first, last = _end(min(dates), every), _end(planner.available.newest, every)
    for date in last_days(datetime.date(year, 1, 1), datetime.date(year, 12, 31), every):
        if date.year == year and first <= date <= last:
            yield date


def _end(day: datetime.date, every: Every) -> datetime.date:
    """Return the last day of the period of a day; the day itself where the period is beyond the calendar."""
    try:
        return period_of(day, every).end
    except ValueError:
        return day


def _days_that_matter(trigger: TriggerSpec, year: int) -> tuple[datetime.date, datetime.date]:
    """Return the first and the last day that may matter to the dates of a year: themselves, and their stencils."""
    first, last = datetime.date(year, 1, 1), datetime.date(year, 12, 31)
    stencil = trigger.date_stencil
    # The ends of an element do not move back from one date to the next.
    starts, ends = stencil.spans(_end(first, trigger.every)), stencil.spans(last)
    if not (starts and ends):
        return datetime.date.min, datetime.date.max
    low = min(first.toordinal(), *(start for start, _ in starts))
    high = max(_end(last, trigger.every).toordinal(), *(end for _, end in ends))
    return datetime.date.fromordinal(low), datetime.date.fromordinal(high)


def _changes_at(planned: PlannedDate, planner: Planner) -> datetime.datetime | None:
    """Return when a date gets another status if nothing runs or arrives until then; None if it keeps it."""
    if planned.status is DateStatus.NOT_OVER and planner.trigger.needs.wait is not None and planned.period:
        return end_of(planned.period.end, planner.trigger.needs.zone)
    return planned.next_attempt

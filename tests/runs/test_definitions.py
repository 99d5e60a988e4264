"""The meaning of the keys of workflows.yml, date by date: each case lists every date of the plan with its status."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from autoflow.dates.availability import Arrival, Arrivals, Availability
from autoflow.dates.completeness import Completeness, Enough
from autoflow.dates.intervals import IntervalEnds
from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil, PeriodOffset
from autoflow.runs.plan import due_work, make_plan
from autoflow.runs.records import Attempt, Failures, History, RunState, WorkflowKey
from autoflow.runs.statuses import DateStatus, PlannedDate
from autoflow.specs import DEFAULT_STENCIL, NotebookSpec, OnChange, Order, TriggerSpec, WorkflowSpec

WORKFLOW = WorkflowSpec(name="w", notebooks=(NotebookSpec(label="n", path=Path("/n.ipynb")),))
LATER = "2016-12-31"
"""A time at which every wait is over."""

THIS, PREVIOUS = PeriodOffset(0), PeriodOffset(-1)

DONE, RUNNING, DUE, RETRY = DateStatus.DONE, DateStatus.RUNNING, DateStatus.DUE, DateStatus.WAITING
GIVEN_UP, CANCELLED = DateStatus.GIVEN_UP, DateStatus.CANCELLED
EARLY, LATE, MISSING = DateStatus.TOO_EARLY, DateStatus.TOO_LATE, DateStatus.INCOMPLETE
NOT_OVER, WAITS, BLOCKED = DateStatus.NOT_OVER, DateStatus.WAITING_FOR_DATA, DateStatus.BLOCKED


def day(text: str) -> dt.date:
    """Return a date; without a year, in 2016, a leap year that begins on a Friday."""
    return dt.date.fromisoformat(text if len(text) == 10 else f"2016-{text}")


def days(text: str) -> list[dt.date]:
    """Return the dates in a list such as ``01-01, 01-04..01-10``."""
    found: list[dt.date] = []
    for item in filter(None, text.split(", ")):
        first, _, last = item.partition("..")
        length = (day(last or first) - day(first)).days + 1
        found += (day(first) + dt.timedelta(days=number) for number in range(length))
    return found


def time(text: str) -> dt.datetime:
    """Return a time in UTC; without a year, in 2016; without a time of day, at midnight."""
    return dt.datetime.fromisoformat(text if text[4] == "-" else f"2016-{text}")


def entry(
    every: str = "day",
    stencil: list[object] | None = None,
    *,
    enough: int | str | None = None,
    wait: int | None = None,
    longest_gap: int | None = None,
    zone: str = "UTC",
    ends: IntervalEnds = IntervalEnds.INCLUDED,
    **options: Any,
) -> TriggerSpec:
    kind = Every.named(every)
    elements = stencil or ([0] if kind is Every.DAY else list(DEFAULT_STENCIL))
    options |= {name: day(options[name]) for name in ("earliest_date", "latest_date") if name in options}
    return TriggerSpec(
        workflow=WORKFLOW,
        every=kind,
        date_stencil=DateStencil(elements, ends, kind),
        needs=Completeness(
            enough=None if enough is None else Enough.of(enough),
            wait=wait,
            longest_gap=longest_gap,
            zone=ZoneInfo(zone),
        ),
        **options,
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """What an entry does with the dates that FlowAPI `has`, by type or of the type `calls`, at the time `now`.

    `arrived` are the times at which dates arrived, after the first look, likewise.
    """

    entry: TriggerSpec
    has: str | Mapping[str, str]
    plan: Mapping[str, DateStatus]
    now: str = LATER
    arrived: Mapping[str, str] | Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    history: History = field(default_factory=History)

    @property
    def availability(self) -> Availability:
        has = {"calls": self.has} if isinstance(self.has, str) else self.has
        arrivals: Arrivals = {
            name: {date: Arrival(time(at)) for text, at in of_type.items() for date in days(text)}
            for name, of_type in self._arrived.items()
        }
        return Availability(types={name: frozenset(days(text)) for name, text in has.items()}, arrivals=arrivals)

    @property
    def _arrived(self) -> Mapping[str, Mapping[str, str]]:
        if all(isinstance(each, Mapping) for each in self.arrived.values()):
            return self.arrived  # type: ignore[return-value]
        return {"calls": self.arrived}  # type: ignore[dict-item]


def planned(case: Case) -> list[PlannedDate]:
    histories = {WorkflowKey.of_trigger(case.entry): case.history}
    (plan,) = make_plan([case.entry], case.availability, histories, time(case.now))
    return list(plan.dates)


def due(case: Case) -> list[dt.date]:
    histories = {WorkflowKey.of_trigger(case.entry): case.history}
    work = due_work([case.entry], case.availability, histories, time(case.now), most=1000)
    return [run.reference_date for run in work.runs[WorkflowKey.of_trigger(case.entry)]]


def failed(count: int, last: str = "01-02") -> Failures:
    return Failures(count, time(last))


SIX_OF_WEEK: dict[str, Any] = {"every": "week", "enough": 6, "wait": 3}

PERIODS = {
    "each available day": Case(entry=entry(), has="01-01..01-03, 01-05", plan={"01-01..01-03, 01-05": DUE}),
    "a week once all its days are there, named by its Sunday": Case(
        entry=entry("week"), has="01-04..01-17", plan={"01-10": DUE, "01-17": DUE}
    ),
    "weeks from that of the first date to that of the newest": Case(
        entry=entry("week"), has="01-02..01-20", plan={"01-03": MISSING, "01-10": DUE, "01-17": DUE, "01-24": NOT_OVER}
    ),
    "a week without a single day between others": Case(
        entry=entry("week"), has="01-04..01-10, 01-18..01-24", plan={"01-10": DUE, "01-17": MISSING, "01-24": DUE}
    ),
    "ISO week 53, across the turn of the year": Case(
        entry=entry("week"), has="2015-12-28..2016-01-03", plan={"01-03": DUE}
    ),
    "weeks that end on a Thursday": Case(
        entry=entry("thursday"), has="01-01..01-14", plan={"01-07": DUE, "01-14": DUE}
    ),
    "sunday is another name of week": Case(entry=entry("sunday"), has="01-04..01-10", plan={"01-10": DUE}),
    "months of 31 and 29 days": Case(entry=entry("month"), has="01-01..02-29", plan={"01-31": DUE, "02-29": DUE}),
    "February without a leap day": Case(entry=entry("month"), has="2015-02-01..2015-02-28", plan={"2015-02-28": DUE}),
    "a leap day that is missing": Case(
        entry=entry("month"), has="02-01..02-28, 03-01", plan={"02-29": MISSING, "03-31": NOT_OVER}
    ),
    "quarters": Case(entry=entry("quarter"), has="01-01..06-29", plan={"03-31": DUE, "06-30": NOT_OVER}),
    "a leap year": Case(
        entry=entry("year"), has="2015-01-01..2016-12-31", now="2017-01-01", plan={"2015-12-31": DUE, "12-31": DUE}
    ),
    "nothing without dates": Case(entry=entry("month"), has="", plan={}),
}

STENCILS = {
    "only the week before": Case(
        entry=entry("week", [PREVIOUS]), has="01-04..01-10, 01-17", plan={"01-10": MISSING, "01-17": DUE}
    ),
    "only the week before, in a week that is not over": Case(
        entry=entry("week", [PREVIOUS]), has="01-04..01-16", plan={"01-10": MISSING, "01-17": NOT_OVER}
    ),
    "over is a week also without its last day, if a later day is there": Case(
        entry=entry("week", [PREVIOUS]), has="01-04..01-10, 01-18",
        plan={"01-10": MISSING, "01-17": DUE, "01-24": NOT_OVER},
    ),
    "a month with the one before": Case(
        entry=entry("month", [PREVIOUS, THIS]), has="01-01..02-29", plan={"01-31": MISSING, "02-29": DUE}
    ),
    "the month of the year before": Case(
        entry=entry("month", [PeriodOffset(-12)]), has="2015-02-01..2015-02-28, 02-29", plan={
            **dict.fromkeys(("2015-02-28", "2015-03-31", "2015-04-30", "2015-05-31", "2015-06-30"), MISSING),
            **dict.fromkeys(("2015-07-31", "2015-08-31", "2015-09-30", "2015-10-31", "2015-11-30"), MISSING),
            **dict.fromkeys(("2015-12-31", "01-31"), MISSING),
            "02-29": DUE,
        }
    ),
    "a pair of a period and an offset": Case(
        entry=entry("week", [[PREVIOUS, -3]]), has="01-04..01-14, 01-18", plan={
            "01-10": MISSING, "01-17": DUE, "01-24": NOT_OVER
        }
    ),
    "a pair of a date and a period": Case(
        entry=entry("week", [["2016-01-06", PREVIOUS]]), has="01-06..01-10, 01-17, 01-24", plan={
            "01-10": MISSING, "01-17": DUE, "01-24": MISSING
        }
    ),
    "a period of a day is the day": Case(
        entry=entry("day", [[PREVIOUS, THIS]]), has="01-01..01-03, 01-05", plan={
            "01-01": MISSING, "01-02..01-03": DUE, "01-05": MISSING
        }
    ),
    "days after the reference date": Case(
        entry=entry("day", [[0, 2]]), has="01-01..01-04", plan={"01-01..01-02": DUE, "01-03..01-04": MISSING}
    ),
    "excluded ends shorten pairs of offsets, not periods": Case(
        entry=entry("week", [[-2, 0], PREVIOUS], ends=IntervalEnds.EXCLUDED), has="01-04..01-10, 01-15..01-16, 01-18",
        plan={"01-10": MISSING, "01-17": DUE, "01-24": NOT_OVER},
    ),
    "excluded ends keep the last day of a period in a pair": Case(
        entry=entry("week", [[PREVIOUS, THIS]], ends=IntervalEnds.EXCLUDED), has="01-04..01-16, 01-18",
        plan={"01-10": MISSING, "01-17": MISSING, "01-24": NOT_OVER},
    ),
}  # fmt: skip

BOUNDS = {
    "a week cut by latest_date": Case(
        entry=entry("week", latest_date="01-16"), has="01-04..01-17", plan={"01-10": DUE, "01-17": LATE}
    ),
    "latest_date is included": Case(
        entry=entry("week", latest_date="01-17"), has="01-04..01-24", plan={"01-10": DUE, "01-17": DUE, "01-24": LATE}
    ),
    "a week cut by earliest_date": Case(
        entry=entry("week", earliest_date="01-05"), has="01-04..01-17", plan={"01-10": EARLY, "01-17": DUE}
    ),
    "earliest_date is included": Case(
        entry=entry("week", earliest_date="01-04"), has="2015-12-28..2016-01-10", plan={"01-03": EARLY, "01-10": DUE}
    ),
    "a month cut on both sides": Case(
        entry=entry("month", earliest_date="01-02", latest_date="03-30"), has="01-01..03-31",
        plan={"01-31": EARLY, "02-29": DUE, "03-31": LATE},
    ),
    "a stencil may reach beyond the bounds": Case(
        entry=entry("week", [[PREVIOUS, 1]], earliest_date="01-11", latest_date="01-17"), has="01-04..01-18",
        plan={"01-10": EARLY, "01-17": DUE, "01-24": LATE},
    ),
    "days between the bounds": Case(
        entry=entry(earliest_date="01-02", latest_date="01-03"), has="01-01..01-04",
        plan={"01-01": EARLY, "01-02..01-03": DUE, "01-04": LATE},
    ),
}  # fmt: skip

TYPES = {
    "any type has the day": Case(
        entry=entry("week"), has={"calls": "01-04..01-07", "sms": "01-07..01-10"}, plan={"01-10": DUE}
    ),
    "each required type has the reference date": Case(
        entry=entry(requires_all_of=("calls", "sms")), has={"calls": "01-01..01-03", "sms": "01-02..01-04"},
        plan={"01-02..01-03": DUE},
    ),
    "each required type has the days of the stencil": Case(
        entry=entry("day", [[-1, 0]], requires_all_of=("calls", "sms")),
        has={"calls": "01-01..01-04", "sms": "01-01, 01-03..01-04"},
        plan={"01-01": MISSING, "01-03": MISSING, "01-04": DUE},
    ),
    "a week is over when each required type has its last day": Case(
        entry=entry("week", [PREVIOUS], requires_all_of=("calls", "sms")),
        has={"calls": "01-04..01-18", "sms": "01-04..01-16"}, plan={"01-10": MISSING, "01-17": NOT_OVER},
    ),
    "other types do not matter": Case(
        entry=entry(requires_all_of=("calls",)), has={"calls": "01-01", "sms": "01-02"}, plan={"01-01": DUE}
    ),
    "a type that has vanished whole": Case(
        entry=entry(requires_all_of=("calls", "sms")), has={"calls": "01-01..01-03"},
        history=History(done=frozenset(days("01-01"))), plan={"01-01": DONE},
    ),
    "enough of the days that each required type has": Case(
        entry=entry(**SIX_OF_WEEK, requires_all_of=("calls", "sms")),
        has={"calls": "01-04..01-10", "sms": "01-04, 01-06..01-10"}, now="01-09", plan={"01-10": DUE},
    ),
}  # fmt: skip

ENOUGH = {
    "complete: at once, although a day has just arrived": Case(
        entry=entry(**SIX_OF_WEEK), has="01-04..01-10", arrived={"01-10": "01-11 06:00"}, now="01-11 06:00",
        plan={"01-10": DUE},
    ),
    "enough: not before the wait after the last missing day": Case(
        entry=entry(**SIX_OF_WEEK), has="01-04..01-09", now="01-13 23:59", plan={"01-10": WAITS}
    ),
    "enough: from the end of the wait on": Case(
        entry=entry(**SIX_OF_WEEK), has="01-04..01-09", now="01-14 00:00", plan={"01-10": DUE}
    ),
    "the wait begins with the last missing day, not with the last day": Case(
        entry=entry(**SIX_OF_WEEK), has="01-04..01-05, 01-07..01-11", now="01-10",
        plan={"01-10": DUE, "01-17": NOT_OVER},
    ),
    "the wait begins again when a day of the stencil arrives": Case(
        entry=entry(**SIX_OF_WEEK), has="01-04..01-09", arrived={"01-04": "01-20 09:00"}, now="01-23 08:59",
        plan={"01-10": WAITS},
    ),
    "the wait after the last arrival is over": Case(
        entry=entry(**SIX_OF_WEEK), has="01-04..01-09", arrived={"01-04": "01-20 09:00"}, now="01-23 09:00",
        plan={"01-10": DUE},
    ),
    "an arrival outside of the stencil does not matter": Case(
        entry=entry(**SIX_OF_WEEK), has="01-04..01-09, 01-11", arrived={"01-11": "01-20"}, now="01-20",
        plan={"01-10": DUE, "01-17": MISSING},
    ),
    "what the first look found has waited": Case(
        entry=entry(**SIX_OF_WEEK), has="01-04..01-09", now="01-14", plan={"01-10": DUE}
    ),
    "too few days": Case(
        entry=entry(**SIX_OF_WEEK), has="01-04..01-08, 01-11", plan={"01-10": MISSING, "01-17": MISSING}
    ),
    "a percentage is rounded up: four of seven are not 60 %": Case(
        entry=entry("week", enough="60%", wait=0), has="01-04..01-07, 01-11", plan={"01-10": MISSING, "01-17": MISSING}
    ),
    "a percentage is rounded up: five of seven are 60 %": Case(
        entry=entry("week", enough="60%", wait=0), has="01-04..01-08, 01-11", plan={"01-10": DUE, "01-17": MISSING}
    ),
    "enough above the length of an element means all of it": Case(
        entry=entry("day", [[-6, 0], -7], enough=5, wait=0), has="01-01, 01-03, 01-05..01-10",
        plan={"01-01, 01-03, 01-05..01-07, 01-09": MISSING, "01-08, 01-10": DUE},
    ),
    "enough above the length of every element": Case(
        entry=entry("week", enough=30, wait=0), has="01-04..01-16, 01-18",
        plan={"01-10": DUE, "01-17": MISSING, "01-24": MISSING},
    ),
    "each element needs its share": Case(
        entry=entry("week", [PREVIOUS, THIS], enough="50%", wait=0), has="01-08..01-24",
        plan={"01-10": MISSING, "01-17": MISSING, "01-24": DUE},
    ),
    "the reference date itself has to be available": Case(
        entry=entry("day", [[-6, 0]], enough=4, wait=0), has="01-01..01-04, 01-07", plan={
            "01-01..01-03": MISSING, "01-04": DUE, "01-07": DUE
        },
    ),
    "the last day of a week need not be": Case(
        entry=entry("week", enough=4, wait=0), has="01-04..01-07", now="01-11", plan={"01-10": DUE}
    ),
    "longest_gap at the start": Case(
        entry=entry("week", enough=4, longest_gap=2, wait=0), has="01-07..01-10", plan={"01-10": MISSING}
    ),
    "longest_gap at the end": Case(
        entry=entry("week", enough=4, longest_gap=2, wait=0), has="01-04..01-07, 01-11",
        plan={"01-10": MISSING, "01-17": MISSING},
    ),
    "gaps that are short enough": Case(
        entry=entry("week", enough=3, longest_gap=2, wait=0), has="01-06, 01-07, 01-10", plan={"01-10": DUE}
    ),
    "a gap ends at the edge of an element": Case(
        entry=entry("week", [PREVIOUS, THIS], enough=5, longest_gap=2, wait=0), has="01-04..01-08, 01-13..01-17",
        plan={"01-10": MISSING, "01-17": DUE},
    ),
    "longest_gap: 0 allows no gap, however many days are enough": Case(
        entry=entry("week", enough=4, longest_gap=0, wait=0), has="01-04..01-09, 01-11",
        plan={"01-10": MISSING, "01-17": MISSING},
    ),
    "a feed that stops: a week is over once the wait is": Case(
        entry=entry("week", [PREVIOUS], enough=7, wait=2), has="01-04..01-12", now="01-20 00:00",
        plan={"01-10": MISSING, "01-17": DUE},
    ),
    "a feed that stops: the wait is not over": Case(
        entry=entry("week", [PREVIOUS], enough=7, wait=2), has="01-04..01-12", now="01-19 23:59",
        plan={"01-10": MISSING, "01-17": WAITS},
    ),
    "a feed that stops: without wait, a week is not over": Case(
        entry=entry("week", [PREVIOUS]), has="01-04..01-12", plan={"01-10": MISSING, "01-17": NOT_OVER}
    ),
    "days end in the time zone, in winter": Case(
        entry=entry("week", enough=6, wait=1, zone="Europe/Berlin"), has="03-14..03-19", now="03-21 22:59",
        plan={"03-20": WAITS},
    ),
    "days end in the time zone, an hour earlier once the clocks have changed": Case(
        entry=entry("week", enough=6, wait=1, zone="Europe/Berlin"), has="03-21..03-26", now="03-28 22:00",
        plan={"03-27": DUE},
    ),
    "days end later in the west": Case(
        entry=entry("week", enough=6, wait=0, zone="America/New_York"), has="01-04..01-09", now="01-11 04:59",
        plan={"01-10": WAITS},
    ),
    "days end earlier in the east": Case(
        entry=entry("week", enough=6, wait=0, zone="Asia/Kathmandu"), has="01-04..01-09", now="01-10 18:15",
        plan={"01-10": DUE},
    ),
}  # fmt: skip

AFTER_PREVIOUS = {
    "the first due date blocks the others": Case(
        entry=entry(after_previous=True), has="01-01..01-03", plan={"01-01": DUE, "01-02..01-03": BLOCKED}
    ),
    "done dates do not block": Case(
        entry=entry(after_previous=True), has="01-01..01-03", history=History(done=frozenset(days("01-01..01-02"))),
        plan={"01-01..01-02": DONE, "01-03": DUE},
    ),
    "a running date blocks": Case(
        entry=entry(after_previous=True), has="01-01..01-03", history=History(running=frozenset(days("01-01"))),
        plan={"01-01": RUNNING, "01-02..01-03": BLOCKED},
    ),
    "a date that waits for its retry blocks": Case(
        entry=entry(after_previous=True, retry_delay=3600), has="01-01..01-02", now="01-02 00:30",
        history=History(failures={day("01-01"): failed(1)}), plan={"01-01": RETRY, "01-02": BLOCKED},
    ),
    "a date that waits for data blocks": Case(
        entry=entry(**SIX_OF_WEEK, after_previous=True), has="01-04..01-09, 01-11..01-17", now="01-13",
        plan={"01-10": WAITS, "01-17": BLOCKED},
    ),
    "a missing date does not block": Case(
        entry=entry("week", after_previous=True), has="01-04..01-09, 01-11..01-17",
        plan={"01-10": MISSING, "01-17": DUE},
    ),
    "a date that is given up does not block": Case(
        entry=entry(after_previous=True, max_attempts=2), has="01-01..01-02",
        history=History(failures={day("01-01"): failed(2)}), plan={"01-01": GIVEN_UP, "01-02": DUE},
    ),
    "a cancelled date does not block": Case(
        entry=entry(after_previous=True), has="01-01..01-02",
        history=History(failures={day("01-01"): Failures(cancelled=True)}), plan={"01-01": CANCELLED, "01-02": DUE},
    ),
    "dates outside of the bounds do not block": Case(
        entry=entry(after_previous=True, earliest_date="01-02"), has="01-01..01-03",
        plan={"01-01": EARLY, "01-02": DUE, "01-03": BLOCKED},
    ),
    "a date that is run again does not block": Case(
        entry=entry(after_previous=True), has="01-01..01-02",
        history=History(done=frozenset(days("01-01")), running=frozenset(days("01-01"))),
        plan={"01-01": RUNNING, "01-02": DUE},
    ),
    "an older date that arrives later runs when it is there": Case(
        entry=entry(after_previous=True), has="01-01..01-03", history=History(done=frozenset(days("01-02..01-03"))),
        arrived={"01-01": "01-05"}, plan={"01-01": DUE, "01-02..01-03": DONE},
    ),
}  # fmt: skip


def ran(text: str, started: str, *attempts: tuple[RunState, str]) -> History:
    """Return a history in which these dates were done by runs that `started` then, with later attempts."""
    return History(
        done=frozenset(days(text)),
        started=dict.fromkeys(days(text), time(started)),
        attempts={date: [Attempt(state, time(at), time(at)) for state, at in attempts] for date in days(text)},
    )


AGAIN = entry("day", [[-2, 0]], enough=2, wait=0, on_change=OnChange.RERUN, max_attempts=2, retry_delay=3600)
LATE_DAY: dict[str, Any] = {"entry": AGAIN, "has": "01-03..01-05", "arrived": {"01-03": "01-10"}}
FAILED = RunState.FAILED

ON_CHANGE = {
    "a late day: every date that uses it": Case(
        entry=AGAIN, has="01-03..01-07", arrived={"01-03": "01-10"}, history=ran("01-04..01-07", "01-08"),
        plan={"01-03": MISSING, "01-04..01-05": DUE, "01-06..01-07": DONE},
    ),
    "a day that arrived before the run started": Case(
        **LATE_DAY, history=ran("01-04..01-05", "01-10"), plan={"01-03": MISSING, "01-04..01-05": DONE}
    ),
    "ignored by default": Case(
        entry=entry("day", [[-2, 0]], enough=2, wait=0), has="01-03..01-05", arrived={"01-03": "01-10"},
        history=ran("01-04..01-05", "01-08"), plan={"01-03": MISSING, "01-04..01-05": DONE},
    ),
    "only reported with notify": Case(
        entry=entry("day", [[-2, 0]], enough=2, wait=0, on_change=OnChange.NOTIFY), has="01-03..01-05",
        arrived={"01-03": "01-10"}, history=ran("01-04..01-05", "01-08"),
        plan={"01-03": MISSING, "01-04..01-05": DONE},
    ),
    "a failed new run is retried after its delay": Case(
        **LATE_DAY, history=ran("01-05", "01-08", (FAILED, "01-10 09:00")), now="01-10 09:59",
        plan={"01-03": MISSING, "01-04": DUE, "01-05": RETRY},
    ),
    "a new run that is given up leaves the date done": Case(
        **LATE_DAY, history=ran("01-05", "01-08", (FAILED, "01-10 09:00"), (FAILED, "01-10 11:00")),
        plan={"01-03": MISSING, "01-04": DUE, "01-05": DONE},
    ),
    "a new run that was cancelled leaves the date done": Case(
        **LATE_DAY, history=ran("01-05", "01-08", (RunState.CANCELLED, "01-10 09:00")),
        plan={"01-03": MISSING, "01-04": DUE, "01-05": DONE},
    ),
    "attempts are counted anew after each change": Case(
        **LATE_DAY, history=ran("01-05", "01-08", (FAILED, "01-09 09:00"), (FAILED, "01-09 11:00")), now="01-10 00:01",
        plan={"01-03": MISSING, "01-04": DUE, "01-05": DUE},
    ),
    "a new run is in progress": Case(
        **LATE_DAY, history=History(done=frozenset(days("01-05")), running=frozenset(days("01-05")),
                                    started={day("01-05"): time("01-08")}),
        plan={"01-03": MISSING, "01-04": DUE, "01-05": RUNNING},
    ),
    "a new run respects the wait": Case(
        entry=entry(**SIX_OF_WEEK, on_change=OnChange.RERUN), has="01-04..01-09", arrived={"01-07": "01-20"},
        history=ran("01-10", "01-15"), now="01-22 23:59", plan={"01-10": WAITS},
    ),
    "a new run after the wait": Case(
        entry=entry(**SIX_OF_WEEK, on_change=OnChange.RERUN), has="01-04..01-09", arrived={"01-07": "01-20"},
        history=ran("01-10", "01-15"), now="01-23", plan={"01-10": DUE},
    ),
    "a date that is after latest_date by now": Case(
        entry=entry("week", latest_date="01-09", on_change=OnChange.RERUN), has="01-04..01-10",
        arrived={"01-07": "01-20"}, history=ran("01-10", "01-15"), plan={"01-10": DONE},
    ),
    "another type of a day that was there": Case(
        entry=entry(on_change=OnChange.RERUN), has={"calls": "01-01", "sms": "01-01"},
        arrived={"sms": {"01-01": "01-20"}}, history=ran("01-01", "01-15"), plan={"01-01": DONE},
    ),
    "the last of the required types": Case(
        entry=entry(on_change=OnChange.RERUN, requires_all_of=("calls", "sms")), has={"calls": "01-01", "sms": "01-01"},
        arrived={"sms": {"01-01": "01-20"}}, history=ran("01-01", "01-15"), plan={"01-01": DUE},
    ),
    "new runs wait for nothing but their data with after_previous": Case(
        entry=entry(on_change=OnChange.RERUN, after_previous=True), has="01-01..01-03", arrived={"01-02": "01-20"},
        history=ran("01-02", "01-15"), plan={"01-01": DUE, "01-02": DUE, "01-03": BLOCKED},
    ),
}  # fmt: skip

CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "periods": PERIODS,
        "stencils": STENCILS,
        "bounds": BOUNDS,
        "types": TYPES,
        "enough": ENOUGH,
        "after_previous": AFTER_PREVIOUS,
        "on_change": ON_CHANGE,
    }.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_date_has_the_status_that_its_keys_give_it(case: Case) -> None:
    expected = {date: status for text, status in case.plan.items() for date in days(text)}
    assert {each.date: each.status for each in planned(case)} == expected
    assert due(case) == sorted(date for date, status in expected.items() if status is DUE)


def test_due_dates_run_oldest_first_or_newest_first() -> None:
    has, plan = "01-02, 01-01, 01-03", {"01-01..01-03": DUE}
    assert due(Case(entry=entry(), has=has, plan=plan)) == days("01-01..01-03")
    newest_first = entry(order=Order.NEWEST_FIRST)
    assert due(Case(entry=newest_first, has=has, plan=plan)) == days("01-03, 01-02, 01-01")


@pytest.mark.parametrize("options", [{}, {"after_previous": True}, {"order": Order.NEWEST_FIRST}])
def test_archive_that_is_loaded_newest_first_runs_each_date_when_its_days_are_there(options: dict[str, Any]) -> None:
    history, ran_dates = History(), []
    each = entry("day", [[-1, 0]], **options)
    for number in range(5, 0, -1):
        case = Case(entry=each, has=f"01-0{number}..01-05", history=history, plan={})
        ran_dates.append(due(case))
        history = History(done=history.done.union(ran_dates[-1]))
    assert ran_dates == [[], days("01-05"), days("01-04"), days("01-03"), days("01-02")]


def test_a_week_a_month_and_a_day_that_end_on_the_same_day_are_separate_runs() -> None:
    entries = [entry(), entry("week"), entry("month")]
    availability = Availability.of(days("01-01..01-31"))
    the_day = WorkflowKey.of_trigger(entries[0])
    histories = {the_day: History(done=frozenset(days("01-01..01-31")))}
    work = due_work(entries, availability, histories, time(LATER))
    assert {key.every: [run.reference_date for run in runs] for key, runs in work.runs.items()} == {
        "day": [],
        "week": days("01-10, 01-17, 01-24, 01-31"),
        "month": days("01-31"),
    }
    histories[WorkflowKey.of_trigger(entries[2])] = History(done=frozenset(days("01-31")))
    work = due_work(entries, availability, histories, time(LATER))
    assert {key.every: len(runs) for key, runs in work.runs.items()} == {"day": 0, "week": 4, "month": 0}


@pytest.mark.parametrize(
    ("every", "stencil", "reference_date", "included", "excluded"),
    [
        ("week", None, "01-10", [("01-04", "01-10")], [("01-04", "01-11")]),
        ("month", None, "02-29", [("02-01", "02-29")], [("02-01", "03-01")]),
        ("month", [PREVIOUS], "03-31", [("02-01", "02-29")], [("02-01", "03-01")]),
        ("month", [PeriodOffset(-12)], "02-29", [("2015-02-01", "2015-02-28")], [("2015-02-01", "2015-03-01")]),
        ("quarter", [PREVIOUS], "03-31", [("2015-10-01", "2015-12-31")], [("2015-10-01", "01-01")]),
        ("thursday", [PREVIOUS, 0], "01-07", [("2015-12-25", "2015-12-31"), ("01-07", "01-07")],
         [("2015-12-25", "01-01"), ("01-07", "01-08")]),
        ("week", [[PREVIOUS, 0]], "01-10", [("2015-12-28", "01-10")], [("2015-12-28", "01-10")]),
        ("week", [[-2, THIS]], "01-10", [("01-08", "01-10")], [("01-08", "01-11")]),
    ],
)  # fmt: skip
def test_notebooks_get_the_first_and_last_day_of_periods(
    every: str,
    stencil: list[object] | None,
    reference_date: str,
    included: list[tuple[str, str]],
    excluded: list[tuple[str, str]],
) -> None:
    for ends, expected in ((IntervalEnds.INCLUDED, included), (IntervalEnds.EXCLUDED, excluded)):
        ranges = entry(every, stencil, ends=ends).date_stencil.resolve(day(reference_date))
        assert [tuple(each.as_strings()) for each in ranges] == [
            (day(first).isoformat(), day(last).isoformat()) for first, last in expected
        ]


def test_run_and_plan_know_the_missing_days_of_overlapping_elements_once() -> None:
    each = entry("week", [THIS, [-2, 0]], enough="50%", wait=0)
    case = Case(entry=each, has="01-04..01-06, 01-08, 01-10..01-11", plan={})
    work = due_work([each], case.availability, {}, time(LATER))
    ((run,),) = work.runs.values()
    assert run.missing_dates == tuple(days("01-07, 01-09"))
    assert {planned.date: planned.missing for planned in planned(case)}[day("01-10")] == run.missing_dates


def test_plan_says_when_a_date_arrived_and_how_long_it_waits() -> None:
    case = Case(
        entry=entry(**SIX_OF_WEEK), has="01-04..01-09", arrived={"01-08": "01-20 09:00", "01-05": "01-11"},
        now="01-20 09:00", plan={},
    )  # fmt: skip
    (week,) = planned(case)
    assert (week.arrived, week.next_attempt) == (time("01-20 09:00"), time("01-23 09:00"))
    work = due_work([case.entry], case.availability, {}, time(case.now))
    assert (work.total, work.waiting, work.next_wait) == (0, 1, week.next_attempt)

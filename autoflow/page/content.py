"""The content of the page, from the run store: the status of each date of an entry, and what users have tried."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoflow.dates.availability import Availability
from autoflow.model.revisions import EntryYear, RunsByYear
from autoflow.runs.changes import given_up_reruns
from autoflow.runs.plan import keys_with_reruns, past_status, why_never_due
from autoflow.runs.records import Histories, RunKey, RunRecord, WorkflowKey
from autoflow.runs.statuses import DateStatus, PlannedDate
from autoflow.runs.year_plan import YearPlan, plan_year
from autoflow.specs import TriggerSpec


@dataclass(frozen=True)
class Day:
    """A date: its status, the run that explains it, if any, and in words why it has not run.

    `is_outdated`: days that the run used have changed since, and a new run with them was given up.
    """

    date: datetime.date
    status: DateStatus
    record: RunRecord | None
    why: str = ""
    is_outdated: bool = False


@dataclass(frozen=True, kw_only=True)
class Year:
    """The dates of an entry in a calendar year, newest first.

    `blocked_by` is the date for which those of later years wait, if any. `changes_at` (UTC) is when a status may be
    another one although nothing runs or arrives; None if never.
    """

    days: Sequence[Day] = ()
    blocked_by: datetime.date | None = None
    changes_at: datetime.datetime | None = None


class Reader:
    """Reads the content of the page, as it is at `now` (UTC).

    `triggers` are the entries of the sensor, and `availability` the dates that FlowAPI had at the last tick.
    """

    def __init__(
        self, runs: RunsByYear, triggers: Sequence[TriggerSpec], availability: Availability, now: datetime.datetime
    ) -> None:
        self._runs = runs
        self._availability = availability
        self._now = now
        self._with_reruns = keys_with_reruns(triggers)
        self.entries: Mapping[WorkflowKey, TriggerSpec] = {WorkflowKey.of_trigger(each): each for each in triggers}

    def year(self, entry_year: EntryYear, *, blocked_by: datetime.date | None = None) -> Year:
        """Return the dates of an entry in a year.

        `blocked_by` is the date of an earlier year for which those of this year wait. Runs that a user started with
        parameters that no entry had or has are left out.
        """
        trigger = self.entries.get(entry_year.key)
        records, histories = self._read(entry_year)
        outdated = given_up_reruns([trigger], histories) if trigger else frozenset()
        plan = YearPlan(blocked_by=blocked_by)
        if trigger:
            year = entry_year.year
            plan = plan_year(trigger, self._availability, histories, self._now, year=year, blocked_by=blocked_by)
        planned = {each.date: each for each in plan.dates}
        days = [_not_run(each, trigger) for date, each in planned.items() if date not in records]
        for date, record in records.items():
            if trigger or not record.is_try_out:
                status = _status(histories, record, trigger)
                why = planned[date].why if date in planned and status is DateStatus.WAITING else ""
                days.append(Day(date, status, record, why, is_outdated=record.key in outdated))
        days.sort(key=lambda day: day.date, reverse=True)
        return Year(days=days, blocked_by=plan.blocked_by, changes_at=plan.changes_at)

    def try_out(self, key: RunKey) -> Day | None:
        """Return the date of a try-out; None if another run than a try-out decides its status."""
        records, histories = self._read(EntryYear(key.workflow_key, key.reference_date.year))
        record = records.get(key.reference_date)
        if record is None or not record.is_try_out:
            return None
        return Day(key.reference_date, _status(histories, record, None), record)

    def _read(self, entry_year: EntryYear) -> tuple[Mapping[datetime.date, RunRecord], Histories]:
        histories = self._runs.histories(entry_year, with_starts=entry_year.key in self._with_reruns)
        return _decisive(self._runs.runs(entry_year)), histories


def _status(histories: Histories, record: RunRecord, trigger: TriggerSpec | None) -> DateStatus:
    # A date stays done while it is run again: readers can open the older report.
    if record.state.is_success:
        return DateStatus.SKIPPED if record.state.is_skip else DateStatus.DONE
    return past_status(histories, record.key, trigger)


def _not_run(planned: PlannedDate, trigger: TriggerSpec | None) -> Day:
    """Return a date without any run."""
    return Day(planned.date, planned.status, None, planned.why or why_never_due(trigger, planned.date) or "")


def _decisive(records: Iterable[RunRecord]) -> dict[datetime.date, RunRecord]:
    """Return the run of each date that succeeded or, if there is none, the newest one; `records` are newest first."""
    found: dict[datetime.date, RunRecord] = {}
    for record in records:
        if record.key.reference_date not in found or record.state.is_success:
            found[record.key.reference_date] = record
    return found


def given_up_dates(days: Iterable[Day]) -> list[tuple[RunKey, datetime.datetime]]:
    """Return the dates that are given up, each with the time (UTC) of its last failure."""
    return [
        (day.record.key, day.record.finished_at or day.record.started_at)
        for day in days
        if day.record and day.status is DateStatus.GIVEN_UP
    ]

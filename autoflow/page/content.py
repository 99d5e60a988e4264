"""The content of the page, from the run store: the status of each date of each entry, and what users have tried."""

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from autoflow.model.store import RunStore
from autoflow.runs.changes import given_up_reruns
from autoflow.runs.naming import entry_names, entry_titles, name_among
from autoflow.runs.plan import keys_with_reruns, past_status
from autoflow.runs.records import RunKey, RunRecord, WorkflowKey
from autoflow.runs.run import named_entry
from autoflow.runs.statuses import DateStatus
from autoflow.specs import TriggerSpec


@dataclass(frozen=True)
class Day:
    """A date that was run: its status, and the run that explains it.

    `is_outdated`: days that the run used have changed since, and a new run with them was given up.
    """

    date: datetime.date
    status: DateStatus
    record: RunRecord
    is_outdated: bool = False


@dataclass
class Series:
    """An entry of the sensor, present or removed, and its dates, newest first.

    `title` and `description` are for readers, `name` is that in the log and on the command line.
    """

    key: WorkflowKey
    title: str
    name: str
    label: str | None = None
    description: str = ""
    is_removed: bool = False
    days: list[Day] = field(default_factory=list)

    @property
    def latest(self) -> Day | None:
        """The newest date that is done, if any."""
        return next((day for day in self.days if day.status is DateStatus.DONE), None)


@dataclass(frozen=True)
class Contents:
    """The series of the page, and the try-outs: runs that a user started with parameters that no entry had or has."""

    series: Sequence[Series]
    try_outs: Sequence[Day]


def read_contents(store: RunStore, triggers: Iterable[TriggerSpec]) -> Contents:
    """Return the series in the order of `triggers`, those of removed entries last; and the try-outs, newest first."""
    triggers = tuple(triggers)
    entries = {WorkflowKey.of_trigger(trigger): trigger for trigger in triggers}
    histories = store.histories(keys_with_reruns(triggers))
    outdated = given_up_reruns(triggers, histories)
    days: dict[WorkflowKey, list[Day]] = defaultdict(list)
    try_outs = []
    for key, record in sorted(_decisive_runs(store).items(), key=lambda item: item[0].reference_date, reverse=True):
        # A date stays done while it is run again: readers can open the older report.
        is_done = record.state.is_success
        status = DateStatus.DONE if is_done else past_status(histories, key, entries.get(key.workflow_key))
        day = Day(key.reference_date, status, record, is_outdated=key in outdated)
        if record.is_try_out and key.workflow_key not in entries:
            try_outs.append(day)
        else:
            days[key.workflow_key].append(day)
    order = {key: number for number, key in enumerate(entries)}
    keys = sorted({*days, *entries}, key=lambda key: (order.get(key, len(order)), key))
    try_outs.sort(key=lambda day: day.record.id, reverse=True)
    return Contents(_named_series({key: days[key] for key in keys}, triggers), try_outs)


def _named_series(days: Mapping[WorkflowKey, list[Day]], triggers: Sequence[TriggerSpec]) -> list[Series]:
    """Return a series for each key; removed entries keep their last label."""
    entries = {WorkflowKey.of_trigger(trigger): trigger for trigger in triggers}
    removed = {key: of_key[0].record.label for key, of_key in days.items() if key not in entries}
    titles, names = entry_titles(triggers, removed), entry_names(triggers)
    found = []
    for key, of_key in days.items():
        trigger = entries.get(key)
        description = (trigger.description or trigger.workflow.description or "") if trigger else ""
        label = trigger.label if trigger else removed[key]
        name = named_entry(key.workflow, label) if label and not trigger else name_among(key, names)
        found.append(Series(key, titles[key], name, label, description, trigger is None, of_key))
    return found


def by_year(days: Iterable[Day]) -> Mapping[int, list[Day]]:
    """Return `days` by calendar year, in their order."""
    found: dict[int, list[Day]] = defaultdict(list)
    for day in days:
        found[day.date.year].append(day)
    return found


def given_up_dates(series: Iterable[Series]) -> list[tuple[RunKey, datetime.datetime]]:
    """Return the dates that are given up, each with the time (UTC) of its last failure."""
    return [
        (day.record.key, day.record.finished_at or day.record.started_at)
        for each in series
        for day in each.days
        if day.status is DateStatus.GIVEN_UP
    ]


def _decisive_runs(store: RunStore) -> dict[RunKey, RunRecord]:
    """Return, for each date, the run that succeeded or, if there is none, the newest one."""
    found: dict[RunKey, RunRecord] = {}
    for record in store.runs():  # newest first
        if record.key not in found or record.state.is_success:
            found[record.key] = record
    return found

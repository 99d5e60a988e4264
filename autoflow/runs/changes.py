"""Dates that are done although days that they used have changed, and dates that an edit of workflows.yml makes due."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoflow.dates.availability import Availability
from autoflow.runs.naming import entry_names
from autoflow.runs.plan import planners
from autoflow.runs.records import Histories, RunKey, WorkflowKey
from autoflow.runs.retries import RetryPolicy
from autoflow.specs import OnChange, TriggerSpec

MOST_ANEW = 30
"""The highest number of dates that an edit may make due without a warning."""


@dataclass(frozen=True)
class Change:
    """The days that a run has used, and that arrived or changed after it had started, the last of them at `time`."""

    key: RunKey
    days: Sequence[datetime.date]
    time: datetime.datetime


def changes(
    triggers: Iterable[TriggerSpec], availability: Availability, histories: Histories, now: datetime.datetime
) -> list[Change]:
    """Return the changes of which people are to be notified, oldest date first for each of `triggers`."""
    found: list[Change] = []
    noticed = (trigger for trigger in triggers if trigger.on_change is OnChange.NOTIFY)
    for planner in planners(noticed, availability, histories, now):
        key = WorkflowKey.of_trigger(planner.trigger)
        times = ((date, planner.changed_at(date)) for date in sorted(planner.history.done))
        found += [Change(key.on(date), planner.changed_days(date), time) for date, time in times if time]
    return found


def given_up_reruns(triggers: Iterable[TriggerSpec], histories: Histories) -> frozenset[RunKey]:
    """Return the dates that are done, and whose run with changed days was given up."""
    return frozenset(
        key.on(date)
        for trigger in triggers
        if trigger.on_change is OnChange.RERUN and (history := histories.get(key := WorkflowKey.of_trigger(trigger)))
        for date in history.attempts.keys() - history.running
        if (started := history.started.get(date))
        and not RetryPolicy.of(trigger).has_attempts_left(history.failures_since(date, started).count)
    )


@dataclass(frozen=True)
class DueAnew:
    """How many dates an edit of workflows.yml has made due, by the name of the entry."""

    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_large(self) -> bool:
        """Whether there are so many that a person should know before they run."""
        return sum(self.counts.values()) > MOST_ANEW

    def __str__(self) -> str:
        """Return the numbers, and why."""
        names = ", ".join(f"{name} ({number})" for name, number in self.counts.items())
        return (
            f"{sum(self.counts.values())} dates are due that no run has done with these names and parameters: {names}; "
            "if you have changed a parameter or a name by mistake, change it back"
        )


def due_anew(
    triggers: Sequence[TriggerSpec], availability: Availability, histories: Histories, now: datetime.datetime
) -> DueAnew:
    """Return the dates that are due because an entry was edited: it has no history, but what it replaces has one.

    It replaces an entry of its own workflow, or one of a workflow that has no entry any more.
    """
    names = entry_names(triggers)
    present = {key.workflow for key in names}
    with_history = {key.workflow for key in histories}
    has_removed = bool(with_history - present)
    edited = [
        trigger
        for trigger in triggers
        if WorkflowKey.of_trigger(trigger) not in histories and (has_removed or trigger.workflow.name in with_history)
    ]
    counts = {}
    for planner in planners(edited, availability, histories, now):
        # Those that only wait for dates before them will run, too.
        every_date = replace(planner, trigger=replace(planner.trigger, after_previous=False))
        if number := len(every_date.due_dates().dates):
            counts[names[WorkflowKey.of_trigger(planner.trigger)]] = number
    return DueAnew(counts)

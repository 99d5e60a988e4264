"""Notifies people of dates that are not done by their deadline, whether anything has arrived or started or not."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import apprise

from autoflow.dates.availability import LONG_AGO, Availability
from autoflow.dates.deadlines import Deadline
from autoflow.messages.failures import Failures
from autoflow.messages.fields import RunFields, fields_of
from autoflow.messages.message import Message
from autoflow.messages.postbox import Postbox
from autoflow.messages.texts import listed, notice_key
from autoflow.model.messages import KnownEntry, MessageRecord, MessageStore, Topic, entry_id
from autoflow.runs.naming import run_name
from autoflow.runs.plan import planners
from autoflow.runs.planner import Planner
from autoflow.runs.records import Histories, RunKey, WorkflowKey
from autoflow.runs.statuses import DateStatus, PlannedDate, in_ranges
from autoflow.settings import UNNAMED
from autoflow.specs import TriggerSpec

_REASONS = {
    DateStatus.DUE: "It is due, but has not run",
    DateStatus.RUNNING: "It is still running",
    DateStatus.WAITING: "It waits for a retry",
    DateStatus.GIVEN_UP: "It was given up",
    DateStatus.CANCELLED: "A user cancelled it",
    DateStatus.NOT_OVER: "FlowAPI has no date on or after the last day of its period",
    DateStatus.WAITING_FOR_DATA: "It waits for the rest of the data",
    DateStatus.BLOCKED: "It waits until the dates before it are done",
}

_LOOKED_AHEAD = dt.timedelta(days=800)
"""In less, there is a deadline of every kind of period, or there is none."""


@dataclass(frozen=True, kw_only=True)
class Overdue:
    """A date that is not done, although its deadline (`at`, in UTC) has passed."""

    trigger: TriggerSpec
    key: RunKey
    at: dt.datetime
    planner: Planner


class Deadlines:
    """Watches the deadlines of the entries `triggers`; other daemons on the same database may do the same."""

    def __init__(self, messages: MessageStore, postbox: Postbox, failures: Failures) -> None:
        self._messages = messages
        self._postbox = postbox
        self._failures = failures
        self._next: dt.datetime | None = None
        self.triggers: Sequence[TriggerSpec] = ()

    def follow(self, triggers: Iterable[TriggerSpec]) -> None:
        """Watch the deadlines of these entries from now on."""
        self.triggers = tuple(triggers)
        self._next = LONG_AGO

    def look(self, now: dt.datetime, availability: Availability) -> bool:
        """Have people notified of the dates whose deadline has passed by `now` (UTC); return whether there are some.

        Raises
        ------
        RunStoreError
            If the database fails; then nothing was posted.

        """
        with self._messages.reading() as record:
            entries, known = record.entries(), record.known(Topic.DEADLINE)
        found = [each for each in self._overdue(entries, availability, now) if notice_key(each.key) not in known]
        if found:
            reasons = {each.key: self._reason(each) for each in found}
            with self._messages.writing() as record:
                self._post(record, found, reasons)
        self._next = min(filter(None, (self._following(trigger, now) for trigger in self.triggers)), default=None)
        return bool(found)

    def is_due(self, now: dt.datetime) -> bool:
        """Return whether a deadline may have passed since the last look; without the database."""
        return self._next is not None and self._next <= now

    def _following(self, trigger: TriggerSpec, now: dt.datetime) -> dt.datetime | None:
        if trigger.deadline is None:
            return None
        dates = trigger.deadline.dates_between(now, now + _LOOKED_AHEAD, trigger.every)
        return next((trigger.deadline.of(date) for date in dates), None)

    def _overdue(
        self, entries: Mapping[tuple[str, str, str], KnownEntry], availability: Availability, now: dt.datetime
    ) -> list[Overdue]:
        found = []
        histories: dict[str, Histories] = {}
        for trigger in self.triggers:
            key = WorkflowKey.of_trigger(trigger)
            entry = entries.get(entry_id(key))
            if trigger.deadline is None or entry is None:
                continue
            if key.workflow not in histories:
                histories[key.workflow] = self._messages.histories(key.workflow)
            (planner,) = planners([trigger], availability, histories[key.workflow], now)
            found += [
                Overdue(trigger=trigger, key=key.on(date), at=trigger.deadline.of(date), planner=planner)
                for date in trigger.deadline.dates_between(entry.first_seen, now, trigger.every)
                if date not in planner.history.done
                if not (trigger.is_too_early(date) or trigger.is_too_late(date))
            ]
        return found

    def _reason(self, overdue: Overdue) -> list[str]:
        """Return why a date is not done."""
        planner, date = overdue.planner, overdue.key.reference_date
        planned = planner.planned(date)
        status = planned.status
        if status is DateStatus.DUE and overdue.trigger.after_previous and date not in planner.due_dates().dates:
            status = DateStatus.BLOCKED
        lines = [_explained(replace(planned, status=status))]
        if planned.failures:
            lines += self._failures.why_failed(overdue.key)
        return lines

    def _post(self, record: MessageRecord, found: Iterable[Overdue], reasons: Mapping[RunKey, Sequence[str]]) -> None:
        known = record.known(Topic.DEADLINE)
        new = [each for each in found if notice_key(each.key) not in known]
        record.note(Topic.DEADLINE, {notice_key(each.key): each.at.isoformat() for each in new})
        by_recipient = defaultdict(list)
        for each in new:
            for name in each.trigger.notify.failure or (UNNAMED,):
                by_recipient[name].append(each)
        for name, overdue in by_recipient.items():
            self._postbox.post(record, self._message(overdue, reasons), [name])

    def _message(self, overdue: Sequence[Overdue], reasons: Mapping[RunKey, Sequence[str]]) -> Message:
        names = {each.key: run_name(each.key, self.triggers) for each in overdue}
        texts = []
        for each in overdue:
            by = f"It was to be done by {_shown(each.trigger.deadline, each.key.reference_date)}."
            texts.append("\n".join([*([names[each.key]] if len(overdue) > 1 else []), by, *reasons[each.key]]))
        title, more = next(iter(names.values())), len(names) - 1
        title = (
            f"{title} and {more} more are not done by their deadlines"
            if more
            else f"{title} is not done by its deadline"
        )
        runs = [RunFields.of(each.key, self.triggers, reason=" ".join(reasons[each.key])) for each in overdue]
        return Message(
            title=f"AutoFlow: {title}",
            body=listed(texts),
            kind=apprise.NotifyType.FAILURE,
            fields=fields_of("not done by its deadline", runs),
        )


def _explained(planned: PlannedDate) -> str:
    """Return why a date is not done, as a sentence."""
    if planned.status is DateStatus.INCOMPLETE and planned.missing:
        return f"These days are not available: {in_ranges(planned.missing)}."
    reason = _REASONS.get(planned.status, f"Its status: {planned.status}")
    return f"{reason}{f': {planned.why}' if planned.why else ''}."


def _shown(deadline: Deadline | None, date: dt.date) -> str:
    return deadline.text(date) if deadline else ""

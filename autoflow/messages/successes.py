"""Sends the newest report of each entry that asks for it, and names the other dates that were done since."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apprise

from autoflow.dates.availability import Availability
from autoflow.dates.periods import describe_period
from autoflow.messages.fields import RunFields, fields_of
from autoflow.messages.message import Attachment, Message
from autoflow.messages.postbox import Postbox
from autoflow.messages.summary import first_paragraph
from autoflow.messages.texts import warnings_in_words
from autoflow.model.messages import KnownEntry, MessageRecord, MessageStore, Success, entry_id
from autoflow.model.store import RunStore
from autoflow.runs.naming import entry_titles
from autoflow.runs.plan import keys_with_reruns, planners
from autoflow.runs.records import RunRecord, WorkflowKey
from autoflow.runs.run import executed_notebooks
from autoflow.runs.statuses import in_ranges
from autoflow.settings import Settings
from autoflow.specs import TriggerSpec

LONGEST_LIST = 500
"""The longest list of other dates in a message, in characters."""


@dataclass(frozen=True, kw_only=True)
class _Unreported:
    """The successes of an entry that no message has named, and the newest of them."""

    all: Sequence[Success]
    newest: Success
    entry: KnownEntry

    @property
    def replaces(self) -> bool:
        """Whether the newest date was in a message before, by an older run."""
        return self.entry.reported_date == self.newest.date

    @property
    def others(self) -> Sequence[Success]:
        """The newest runs of the other dates, sorted by date."""
        newest = {each.date: each for each in sorted(self.all, key=lambda each: (each.date, each.run_id))}
        return [each for date, each in newest.items() if date != self.newest.date]


class Successes:
    """Posts messages about successes, each once for all daemons with the same `store`."""

    def __init__(self, settings: Settings, store: RunStore, postbox: Postbox) -> None:
        self._settings = settings
        self._store = store
        self._messages = MessageStore(store)
        self._postbox = postbox

    def look(
        self, trigger: TriggerSpec, triggers: Sequence[TriggerSpec], availability: Availability, now: dt.datetime
    ) -> bool:
        """Post a message if the newest date of the entry `trigger` is done, and nothing newer is due or running.

        Return whether to look again: a message is held back until then.

        Raises
        ------
        RunStoreError
            If the database fails; then nothing was posted.

        """
        key = WorkflowKey.of_trigger(trigger)
        with self._messages.reading() as record:
            found = _unreported(record, key)
        if found is None:
            return False
        (planner,) = planners(
            [trigger], availability, self._messages.histories(key.workflow, keys_with_reruns([trigger])), now
        )
        if any(date > found.newest.date for date in (*planner.history.running, *planner.due_dates().dates)):
            return True
        run = self._store.run(found.newest.run_id)
        if run is None:
            return False
        message = self._message(run, found, trigger, triggers)
        with self._messages.writing() as record:
            if _unreported(record, key) != found:
                return True  # another daemon was quicker, or more dates are done
            record.mark_reported(found.all)
            record.change_entry(key, reported_date=found.newest.date)
            self._postbox.post(record, message, trigger.notify.success)
        return False

    def _message(
        self, run: RunRecord, found: _Unreported, trigger: TriggerSpec, triggers: Sequence[TriggerSpec]
    ) -> Message:
        title = entry_titles(triggers)[run.key.workflow_key]
        reports, notebooks = _reports(run.outputs), executed_notebooks(run.outputs.values())
        attached = [path for path in reports if trigger.notify.attach and path.suffix == f".{trigger.notify.attach}"]
        address_of = self._settings.address_of
        # A path on the server is of use only where there is nothing better.
        has_links = self._settings.report_url_base is not None or not attached
        linked = (
            [path for path in reports or notebooks if path not in attached and not run.skipped] if has_links else []
        )
        notes = [
            f"It was skipped: {run.skipped}" if run.skipped else first_paragraph(_with_reports_first(run.outputs)),
            "\n".join([*warnings_in_words(run.warnings), *self._notes(run, found, trigger)]),
            "\n".join(f"Report: {address_of(path)}" for path in linked),
        ]
        dates = [each.date.isoformat() for each in (*found.others, found.newest)]
        fields = RunFields.of(
            run.key,
            triggers,
            dates=sorted(dates),
            outputs=run.outputs,
            links=list(map(address_of, reports or notebooks)),
            reason=run.skipped,
            warnings=run.warnings,
        )
        return Message(
            title=f"{title}, {describe_period(run.key.reference_date, run.key.every)}{_addition(run)}",
            body="\n\n".join(filter(None, notes)) or "It is done.",
            kind=apprise.NotifyType.WARNING if run.warnings else apprise.NotifyType.SUCCESS,
            fields={**fields_of(run.state.value, [fields]), "reference_date": run.key.reference_date.isoformat()},
            attachments=[Attachment(path, address_of(path)) for path in attached],
        )

    def _notes(self, run: RunRecord, found: _Unreported, trigger: TriggerSpec) -> Iterable[str]:
        if run.missing_days:
            ranges = trigger.date_stencil.resolve(run.key.reference_date)
            days = len({day for interval in ranges for day in interval.dates()})
            yield f"Incomplete: {run.missing_days} of {days} days {'was' if run.missing_days == 1 else 'were'} missing."
        if found.replaces:
            yield "This replaces the report in an earlier message, because days have changed since."
        since = " since the last message" if found.entry.reported_date else ""
        groups = {
            f"Also done{since}": [each.date for each in found.others if not each.is_skipped],
            f"Skipped{since}": [each.date for each in found.others if each.is_skipped],
            "Checks warn for": [each.date for each in found.others if each.warns],
        }
        for what, dates in groups.items():
            if dates:
                yield f"{what}: {_shortened(in_ranges(dates, trigger.every))}."


def _addition(run: RunRecord) -> str:
    """Return what the title has to say besides the date."""
    return ": skipped" if run.skipped else ", with warnings" if run.warnings else ""


def _unreported(record: MessageRecord, key: WorkflowKey) -> _Unreported | None:
    """Return what a message about an entry would name; None if there is nothing, or nothing new."""
    entry = record.entries().get(entry_id(key))
    if entry is None or entry.reports_since is None:
        return None
    found = record.successes(key, entry.reports_since)
    newest = max(found, key=lambda each: (each.date, each.run_id), default=None)
    if newest is None or (entry.reported_date and newest.date < entry.reported_date):
        return None
    return _Unreported(all=found, newest=newest, entry=entry)


def _reports(outputs: Mapping[str, Any]) -> list[Path]:
    return [Path(path) for each in outputs.values() for path in each.get("reports", ())]


def _with_reports_first(outputs: Mapping[str, Any]) -> list[Path]:
    """Return the executed notebooks, those with reports first."""
    found = sorted(outputs.values(), key=lambda each: not each.get("reports"))
    return executed_notebooks(found)


def _shortened(dates: str) -> str:
    if len(dates) <= LONGEST_LIST:
        return dates
    shown = dates[:LONGEST_LIST].rpartition(", ")[0]
    return f"{shown} and {dates[len(shown) :].count(', ')} more"

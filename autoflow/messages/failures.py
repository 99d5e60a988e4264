"""Notifies people of dates that were given up or have succeeded after that, and of days that changed after a run."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import apprise

from autoflow.messages.conditions import Known
from autoflow.messages.fields import RunFields, fields_of
from autoflow.messages.message import Message
from autoflow.messages.postbox import Postbox
from autoflow.messages.texts import (
    MOST_LISTED,
    NOT_RERUN,
    NOT_RETRIED,
    excerpt,
    failure,
    links,
    listed,
    notice_key,
    warnings_in_words,
)
from autoflow.model.messages import MessageStore, Topic
from autoflow.model.store import RunStore
from autoflow.runs.changes import Change
from autoflow.runs.naming import run_name
from autoflow.runs.records import RunKey, RunRecord, WorkflowKey
from autoflow.runs.run import EndedRun, executed_notebooks
from autoflow.runs.statuses import DateStatus, in_ranges
from autoflow.settings import UNNAMED, Settings

if TYPE_CHECKING:
    from autoflow.specs import TriggerSpec


class Failures:
    """Posts messages about failures, each once for all daemons with the same `store`.

    `triggers` are the entries of the sensor, which say who is notified. Every method raises RunStoreError if the
    database fails; then nothing was posted.
    """

    def __init__(self, settings: Settings, store: RunStore, postbox: Postbox) -> None:
        self._settings = settings
        self._store = store
        self._messages = MessageStore(store)
        self._postbox = postbox
        self.triggers: Sequence[TriggerSpec] = ()

    def given_up(self, runs: Mapping[RunKey, EndedRun | None]) -> None:
        """Notify people of those `runs` that are new among all given-up ones, each with how it ended, if known here."""
        with self._messages.reading() as record:
            known = record.known(Topic.GIVEN_UP)
        if not (new := self._new(runs, known)):
            return
        with self._messages.writing() as record:
            known = record.known(Topic.GIVEN_UP)
            new = self._new(new, known)
            record.note(Topic.GIVEN_UP, {notice_key(key): "" for key in new})
            for name, keys in self._by_recipient(new).items():
                self._postbox.post(record, self._about_given_up({key: new[key] for key in keys}), [name])

    def succeeded(self, runs: Mapping[RunKey, EndedRun]) -> None:
        """Notify people of those `runs` that had been given up before."""
        with self._messages.reading() as record:
            if not any(notice_key(key) in record.known(Topic.GIVEN_UP) for key in runs):
                return
        with self._messages.writing() as record:
            known = record.known(Topic.GIVEN_UP)
            for key, ended in runs.items():
                if (notice := notice_key(key)) in known:
                    record.forget(Topic.GIVEN_UP, [notice])
                    self._postbox.post(record, self._about_success(key, ended), self._names(key.workflow_key))

    def changed(self, changes: Iterable[Change]) -> None:
        """Notify people of those `changes` that are new, in one message."""
        changes = list(changes)
        with self._messages.reading() as record:
            if not _new_changes(changes, record.known(Topic.CHANGE)):
                return
        with self._messages.writing() as record:
            new = {each.key: each for each in _new_changes(changes, record.known(Topic.CHANGE))}
            record.note(Topic.CHANGE, {notice_key(key): each.time.isoformat() for key, each in new.items()})
            for name, keys in self._by_recipient(new).items():
                self._postbox.post(record, self._about_changes([new[key] for key in keys]), [name])

    def _names(self, key: WorkflowKey) -> Sequence[str]:
        """Return the recipients of failures of an entry; those without a name if it names none, or was removed."""
        entries = (trigger for trigger in self.triggers if WorkflowKey.of_trigger(trigger) == key)
        return next((trigger.notify.failure for trigger in entries), ()) or (UNNAMED,)

    def _by_recipient(self, keys: Iterable[RunKey]) -> Mapping[str, Sequence[RunKey]]:
        found = defaultdict(list)
        for key in keys:
            for name in self._names(key.workflow_key):
                found[name].append(key)
        return found

    def _new(self, runs: Mapping[RunKey, EndedRun | None], known: Known) -> dict[RunKey, EndedRun | None]:
        return {key: ended for key, ended in runs.items() if self._is_new(key, ended, known)}

    def _is_new(self, key: RunKey, ended: EndedRun | None, known: Known) -> bool:
        notices = known.get(notice_key(key))
        if notices is None or ended is None:
            return notices is None
        # It was given up before: someone has asked for a retry since, or another daemon was quicker to notify people.
        record = self._last_run(key)
        return record is None or record.finished_at is None or record.finished_at > notices[0].noted_at

    def _about_given_up(self, runs: Mapping[RunKey, EndedRun | None]) -> Message:
        names = {key: run_name(key, self.triggers) for key in runs}
        why = {key: self._why(key, runs[key]) for key in list(names)[:MOST_LISTED]}
        title, more = next(iter(names.values())), len(names) - 1
        if more:
            title += f" and {more} more"
            body = listed("\n".join([names[key], *why.get(key, ())]) for key in names)
        else:
            body = "\n".join(*why.values())
        reruns = {ended is not None and ended.run.is_rerun for ended in runs.values()}
        hints = [NOT_RERUN if is_rerun else NOT_RETRIED for is_rerun in sorted(reruns)]
        return Message(
            title=f"AutoFlow: {title} {'were' if more else 'was'} given up",
            body="\n".join([body, *hints]),
            kind=apprise.NotifyType.FAILURE,
            fields=fields_of(DateStatus.GIVEN_UP, [self._fields(key, why.get(key, ())) for key in runs]),
        )

    def _why(self, key: RunKey, ended: EndedRun | None) -> list[str]:
        """Return why a run failed, and where its notebooks are."""
        return failure(ended, self._settings) if ended else self.why_failed(key)

    def why_failed(self, key: RunKey) -> list[str]:
        """Return why the last run of a date failed, and where its notebooks are."""
        record = self._last_run(key)
        error = record.failure if record else None
        if record is None or error is None:
            return ["See the log or Prefect's UI for the reason."]
        found = [each for label, each in record.outputs.items() if error.notebook in {None, label}]
        paths = executed_notebooks(found)
        cells = [(path, error.cell) for path in paths if error.cell and error.notebook]
        return [excerpt(str(error), self._settings), *links(paths, cells, self._settings)]

    def _about_success(self, key: RunKey, ended: EndedRun) -> Message:
        addresses = list(map(self._settings.address_of, ended.paths))
        warnings = ended.outcome.warnings
        how = f"was skipped: {ended.outcome.skip}" if ended.outcome.skip else "succeeded"
        more = {"links": addresses, "warnings": warnings, "reason": str(ended.outcome.skip or "")}
        return Message(
            title=f"AutoFlow: {run_name(key, self.triggers)} {how}",
            body="\n".join(["It had been given up before.", *warnings_in_words(warnings), *addresses]),
            kind=apprise.NotifyType.WARNING if warnings else apprise.NotifyType.SUCCESS,
            fields=fields_of(ended.state.value, [RunFields.of(key, self.triggers, **more)]),
        )

    def _about_changes(self, changes: Sequence[Change]) -> Message:
        names = [run_name(each.key, self.triggers) for each in changes]
        lines = [f"{name}: {in_ranges(each.days)}" for name, each in zip(names, changes, strict=True)]
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        first = "Days that have arrived or changed since the run started:"
        days = [f"{in_ranges(each.days)} arrived or changed" for each in changes]
        runs = [self._fields(each.key, [why]) for each, why in zip(changes, days, strict=True)]
        return Message(
            title=f"AutoFlow: the data of {names[0]}{more} has changed",
            body=f"{first}\n\n{listed(lines)}\n\n{NOT_RERUN}",
            kind=apprise.NotifyType.WARNING,
            fields=fields_of("changed", runs),
        )

    def _fields(self, key: RunKey, why: Sequence[str]) -> RunFields:
        return RunFields.of(key, self.triggers, reason=" ".join(why))

    def _last_run(self, key: RunKey) -> RunRecord | None:
        """Return the newest run of a date; None if there is none."""
        found = self._store.runs(workflow=key.workflow_key, first=key.reference_date, last=key.reference_date, limit=1)
        return next(iter(found), None)


def _new_changes(changes: Iterable[Change], known: Known) -> list[Change]:
    """Return the changes of which people have not been notified."""
    before: dict[str, str] = {key: notices[0].text for key, notices in known.items()}
    return [each for each in changes if before.get(notice_key(each.key), "") < each.time.isoformat()]

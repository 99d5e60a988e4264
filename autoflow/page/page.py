"""The page as a whole: it is written anew where something has changed since it was written last."""

import datetime
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from autoflow.model.output_paths import OutputFolders
from autoflow.model.revisions import EntryYear, RunsByYear
from autoflow.model.store import RunStore
from autoflow.notebooks.live_files import progress_of_runs
from autoflow.notebooks.redaction import Redaction
from autoflow.page.banner import banner_html, banner_of
from autoflow.page.catalogue import YearInList, entry, names_of, with_progress
from autoflow.page.content import Reader
from autoflow.page.data_files import FOLDER_NAME as DATA_FOLDER
from autoflow.page.data_files import DataFiles
from autoflow.page.latest_files import FOLDER_NAME as LATEST_FOLDER
from autoflow.page.latest_files import LatestFiles
from autoflow.page.links import Unreadable
from autoflow.page.memory import Memory, Plans
from autoflow.page.shell import shell_html
from autoflow.page.texts import as_json
from autoflow.page.update import Update, YearsOfEntries, listed_try_outs, write_years
from autoflow.page.years import STATUSES
from autoflow.runs.attention import Condition, as_text, given_up
from autoflow.runs.naming import run_name
from autoflow.runs.records import WorkflowKey, utc_now
from autoflow.settings import Settings
from autoflow.specs import TriggerSpec
from autoflow.utils import THUMBNAILS_FOLDER, remove_unfinished

if TYPE_CHECKING:
    from pathlib import Path

MOST_ENTRIES = 60
"""With more entries, the catalogue in the page has only the newest ones; all of them are in parts of their own."""

NEWEST_ENTRIES = 24
"""How many entries the catalogue in the page has then."""

ENTRIES_IN_PART = 25
"""How many entries a part has."""

Entry = Mapping[str, Any]
"""An entry of the catalogue."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What the page shows besides runs.

    `triggers` are the entries of the sensor, in the order of the page, and `cdr_types` the types of data that count,
    None for all. The banner shows the `conditions`, and the dates that were given up after `looked_at`, in UTC; it
    stays as it is if `conditions` is None.
    """

    triggers: Sequence[TriggerSpec] = ()
    cdr_types: Sequence[str] | None = None
    conditions: Sequence[Condition] | None = ()
    looked_at: datetime.datetime | None = None


class Page:
    """The page in the outputs folder.

    `write` reads what has changed since the last call, whichever process has changed it, and writes the files whose
    content is another one. After a start, the page itself says what it was made of. `changed` are entries and years
    whose outputs have changed, such as a notebook that exists as HTML now; they are read again. Notebooks that are
    `unconvertible` need no HTML.
    """

    def __init__(self, settings: Settings, store: RunStore) -> None:
        self._settings = settings
        self._runs = RunsByYear(store.database, OutputFolders.of(settings))
        self._files = DataFiles(settings.outputs_dir)
        self._memory = Memory()
        self._plans = Plans()
        self._latest = LatestFiles(settings)
        self._secrets: tuple[str, ...] | None = None
        self.changed: set[EntryYear] = set()
        self.unconvertible: set[Path] = set()

    def write(self, view: View, *, clock: Callable[[], datetime.datetime] = utc_now) -> None:
        """Write what has changed.

        Raises
        ------
        RunStoreError, OSError
            If the run store cannot be read, or the outputs folder cannot be written.

        """
        secrets = self._settings.secrets
        if self._secrets is None:
            self._remove_unfinished()
        with self._files.locked() as lock:
            if self._files.stamp != self._memory.stamp or secrets != self._secrets:
                self._memory = Memory.of_files(self._files) if lock.has_secrets(secrets) else Memory()
            self._write(view, clock(), Redaction(secrets))
            if secrets != self._secrets:
                lock.keep_secrets(secrets)
                self._secrets = secrets
            self.changed.clear()

    def unreadable(self, most: int) -> list[Unreadable]:
        """Return the newest executed notebooks that had no HTML at the last `write`, at most so many."""
        found = [notebook for year in self._memory.years.values() for notebook in year.unreadable]
        found += [notebook for try_out in self._memory.try_outs.values() for notebook in try_out.unreadable]
        return sorted(found, key=lambda notebook: notebook[0].reference_date, reverse=True)[:most]

    def _remove_unfinished(self) -> None:
        """Remove what killed processes have left."""
        reports = self._settings.reports_dir
        for folder in (self._settings.outputs_dir / DATA_FOLDER, reports / LATEST_FOLDER, reports / THUMBNAILS_FOLDER):
            with suppress(OSError):
                remove_unfinished(folder)

    def _write(self, view: View, now: datetime.datetime, redaction: Redaction) -> None:
        """Write the data files, then the page, then remove the data files that it does not need any more."""
        self._plans.refresh(self._runs, view.triggers, view.cdr_types)
        update = Update(
            settings=self._settings,
            files=self._files,
            memory=self._memory,
            plans=self._plans,
            reader=Reader(self._runs, view.triggers, self._plans.availability, now),
            redaction=redaction,
            now=now,
            changed=self.changed,
            unconvertible=self.unconvertible,
        )
        revisions = self._runs.revisions()
        years, slugs = write_years(update, revisions)
        progress = progress_of_runs(self._settings.outputs_dir)
        found = self._entries(years, slugs, view.triggers, redaction)
        entries = [with_progress(each, progress, redaction) for each in found]
        parts = self._written_parts(entries)
        inline = sorted(entries, key=_finished, reverse=True)[:NEWEST_ENTRIES] if parts else entries
        others = listed_try_outs(update, self._runs.try_outs(), revisions)
        catalogue = {"statuses": STATUSES, "entries": inline, "total": len(entries), "parts": parts, **others}
        self._write_page(catalogue, self._banner(view, years, now, redaction), now)
        self._remove_others(entries, parts)

    def _entries(
        self,
        years: YearsOfEntries,
        slugs: Mapping[WorkflowKey, str],
        triggers: Sequence[TriggerSpec],
        redaction: Redaction,
    ) -> list[Entry]:
        """Return the entries of the catalogue, without removed ones that have no date; copy their newest reports."""
        listed = {
            key: {year: known.listed for year, known in of_key.items() if known.listed} for key, of_key in years.items()
        }
        present = {WorkflowKey.of_trigger(each) for each in triggers}
        last_labels = {key: _label(each) for key, each in listed.items() if key not in present and each}
        shown = {key: slug for key, slug in slugs.items() if key in present or key in last_labels}
        before, changed = self._memory.entries, []
        self._memory.entries = {}
        for key, names in names_of(shown, triggers, last_labels, redaction).items():
            known = before.get(key)
            if not known or known[0] != (names, listed[key]):
                known = ((names, listed[key]), entry(key, names, listed[key], redaction))
                changed.append(known[1])
            self._memory.entries[key] = known
        self._latest.keep(changed)
        return [each for _, each in self._memory.entries.values()]

    def _written_parts(self, entries: Sequence[Entry]) -> list[str]:
        """Write the parts of the list of entries if there are many; return their versions."""
        if len(entries) <= MOST_ENTRIES:
            return []
        before = dict(enumerate(self._memory.parts))
        chunks = [entries[start : start + ENTRIES_IN_PART] for start in range(0, len(entries), ENTRIES_IN_PART)]
        return [self._files.write_part(number, chunk, before=before.get(number)) for number, chunk in enumerate(chunks)]

    def _banner(self, view: View, years: YearsOfEntries, now: datetime.datetime, redaction: Redaction) -> str:
        """Return the banner; its text depends on the time of its making alone if nothing has changed."""
        if view.conditions is None:
            return banner_of(self._files.page()) or banner_html([], now, redaction)
        dates = [date for of_key in years.values() for known in of_key.values() for date in known.given_up]
        warning = given_up(dates, view.looked_at, name=partial(run_name, triggers=view.triggers))
        return banner_html([*view.conditions, *([warning] if warning else [])], now, redaction)

    def _write_page(self, catalogue: Mapping[str, Any], banner: str, now: datetime.datetime) -> None:
        """Write the page, unless nothing but the time is another one."""
        digest = hashlib.sha256(f"{as_json(catalogue)}{banner.replace(as_text(now), '')}".encode()).hexdigest()
        if digest == self._memory.digest and self._memory.stamp == self._files.stamp:
            return
        made = {"made": f"{now:%Y-%m-%dT%H:%M:%SZ}", **catalogue}
        self._files.write_page(shell_html(made, banner=banner, made=as_text(now)))
        self._memory.digest, self._memory.stamp = digest, self._files.stamp

    def _remove_others(self, entries: Sequence[Entry], parts: Sequence[str]) -> None:
        kept = frozenset((each["slug"], int(year)) for each in entries for year in each["years"])
        if kept != self._memory.kept or len(parts) < len(self._memory.parts):
            self._files.remove_others(kept, parts=len(parts))
        self._memory.kept, self._memory.parts = kept, parts


def _label(years: Mapping[int, YearInList]) -> str | None:
    """Return the label of the newest run of an entry."""
    return years[max(years)].label


def _finished(entry: Entry) -> str:
    return entry["latest"]["finished"] if entry["latest"] else ""

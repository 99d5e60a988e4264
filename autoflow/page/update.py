"""An update of the page's data: what has changed is read from the run store, and its files are written."""

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoflow import __version__
from autoflow.model.revisions import EntryYear, Revisions
from autoflow.notebooks.redaction import Redaction
from autoflow.page.catalogue import YearInList, latest, running, slugs, try_out
from autoflow.page.content import Reader, Year, given_up_dates
from autoflow.page.data_files import DataFiles
from autoflow.page.links import Links
from autoflow.page.memory import KnownTryOut, KnownYear, Memory, Plans
from autoflow.page.years import YearEncoder, count_statuses, is_settled
from autoflow.runs.records import RunKey, WorkflowKey
from autoflow.runs.statuses import DateStatus
from autoflow.settings import Settings

MOST_TRY_OUTS = 50
"""The highest number of runs that the page lists besides those of entries."""

MOST_UNREADABLE = 20
"""The highest number of notebooks without HTML that are remembered of an entry and a year."""

_FORMAT = 1
"""The version of the format of the data files."""

YearsOfEntries = Mapping[WorkflowKey, Mapping[int, KnownYear]]
"""The years of each entry, in the order of workflows.yml, those of removed entries last."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What an update works with; `memory` takes what it has written.

    `changed` are entries and years whose outputs have changed. Notebooks that are `unconvertible` need no HTML. `now`
    is in UTC.
    """

    settings: Settings
    files: DataFiles
    memory: Memory
    plans: Plans
    reader: Reader
    redaction: Redaction
    now: datetime.datetime
    changed: AbstractSet[EntryYear] = frozenset()
    unconvertible: AbstractSet[Path] = frozenset()

    def links(self) -> Links:
        """Return new links, which know of no notebook yet."""
        return Links(self.settings.outputs_dir, self.settings.notebooks_dir, self.unconvertible)


def write_years(update: Update, revisions: Revisions) -> tuple[YearsOfEntries, Mapping[WorkflowKey, str]]:
    """Write the data files whose content has changed; return the years of all entries, and the slugs of these."""
    entries = update.reader.entries
    years: dict[WorkflowKey, set[int]] = {key: set(update.plans.years(key)) for key in entries}
    years |= {key: set() for key in sorted({each.key for each in revisions} - entries.keys())}
    for each in revisions:
        years[each.key].add(each.year)
    names = slugs(years, list(entries.values()), update.redaction)
    found = {key: _years_of(update, key, sorted(of_key), revisions, names[key]) for key, of_key in years.items()}
    for gone in update.memory.years.keys() - {EntryYear(key, year) for key, known in found.items() for year in known}:
        del update.memory.years[gone]
    return found, names


def _years_of(
    update: Update, key: WorkflowKey, years: Sequence[int], revisions: Revisions, slug: str
) -> dict[int, KnownYear]:
    found: dict[int, KnownYear] = {}
    blocked_by = None
    for year in years:
        entry_year = EntryYear(key, year)
        inputs = (slug, revisions.get(entry_year), blocked_by, update.plans.basis(entry_year))
        found[year] = update.memory.years[entry_year] = _known(update, entry_year, inputs)
        blocked_by = found[year].blocked_by
    _find_latest(update, key, found)
    return found


def _known(update: Update, entry_year: EntryYear, inputs: tuple[Any, ...]) -> KnownYear:
    """Return what is known of an entry and a year; read it, and write its data file, if anything has changed."""
    slug, year = inputs[0], entry_year.year
    known = update.memory.years.get(entry_year)
    if known is None:
        known = update.memory.saved_year(slug, year, _source(update, entry_year, inputs), inputs)
    if known is None or known.inputs != inputs or entry_year in update.changed:
        return _read(update, entry_year, inputs)
    is_over = known.changes_at is not None and known.changes_at <= update.now
    return _read(update, entry_year, inputs) if is_over else known


def _read(update: Update, entry_year: EntryYear, inputs: tuple[Any, ...]) -> KnownYear:
    """Read an entry and a year from the run store, and write its data file."""
    slug, _, blocked_by, _ = inputs
    year, links = update.reader.year(entry_year, blocked_by=blocked_by), update.links()
    listed = None
    if year.days:
        before = update.memory.years.get(entry_year)
        # Of another slug, the file is another one; without a memory, it may be the one of a process that was killed.
        version = before.listed.version if before and before.listed and before.inputs[0] == slug else None
        data = YearEncoder(links, update.redaction).encode(year.days)
        version = update.files.write_year(slug, entry_year.year, data, before=version)
        listed = _listed(update, year, version)
    if listed and year.changes_at is None and is_settled(year.days) and not links.unreadable:
        listed = replace(listed, source=_source(update, entry_year, inputs))
    return KnownYear(
        inputs=inputs,
        listed=listed,
        given_up=given_up_dates(year.days),
        blocked_by=year.blocked_by,
        changes_at=year.changes_at,
        unreadable=links.unreadable[:MOST_UNREADABLE],
    )


def _listed(update: Update, year: Year, version: str) -> YearInList:
    """Return what the catalogue has of a year."""
    records = [(day.status, day.record, day.is_outdated) for day in year.days if day.record]
    done = ((record, is_outdated) for status, record, is_outdated in records if status is DateStatus.DONE)
    newest, is_outdated = next(done, (None, False))
    return YearInList(
        version=version,
        counts=count_statuses(year.days),
        latest=latest(newest, update.links(), update.redaction, is_outdated=is_outdated) if newest else None,
        running=[running(record) for status, record, _ in records if status is DateStatus.RUNNING],
        label=records[0][1].label if records else None,
    )


def _find_latest(update: Update, key: WorkflowKey, years: dict[int, KnownYear]) -> None:
    """Read the newest year with a date that is done if the page has not said which date that is."""
    for year in sorted(years, reverse=True):
        listed = years[year].listed
        if listed and listed.latest:
            return
        if listed and listed.counts and listed.counts[0]:
            entry_year = EntryYear(key, year)
            years[year] = update.memory.years[entry_year] = _read(update, entry_year, years[year].inputs)
            return


def _source(update: Update, entry_year: EntryYear, inputs: tuple[Any, ...]) -> str:
    """Return a hash of all that a data file is made of."""
    folders = (update.settings.outputs_dir, update.settings.notebooks_dir, update.settings.reports_dir)
    key = (entry_year.key.parameters_hash, entry_year.key.every.value)
    return hashlib.sha256(repr((_FORMAT, __version__, *map(str, folders), *key, *inputs)).encode()).hexdigest()[:10]


def listed_try_outs(update: Update, try_outs: Sequence[RunKey], revisions: Revisions) -> Mapping[str, Any]:
    """Return the newest of `try_outs` that are of no entry, and the number of the others."""
    keys = [key for key in try_outs if key.workflow_key not in update.reader.entries]
    known: dict[RunKey, KnownTryOut] = {}
    listed: list[Mapping[str, Any]] = []
    while len(known) < len(keys) and len(listed) < MOST_TRY_OUTS:
        key = keys[len(known)]
        known[key] = _known_try_out(update, key, revisions)
        listed += [shown] if (shown := known[key].listed) else []
    update.memory.try_outs = known
    return {"try_outs": listed, "more_try_outs": len(keys) - len(known)}


def _known_try_out(update: Update, key: RunKey, revisions: Revisions) -> KnownTryOut:
    entry_year = EntryYear(key.workflow_key, key.reference_date.year)
    known = update.memory.try_outs.get(key)
    revision = revisions.get(entry_year)
    if known and known.revision == revision and entry_year not in update.changed:
        return known
    day, links = update.reader.try_out(key), update.links()
    listed = None
    if day and day.record:
        for label, outputs in day.record.outputs.items():
            if "notebook" in outputs:
                links.is_readable(outputs["notebook"], (key, label))
        listed = try_out(day.record, day.status, links, update.redaction)
    return KnownTryOut(revision=revision, listed=listed, unreadable=links.unreadable)

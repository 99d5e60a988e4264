"""What the writer of the page remembers of it, so that it reads and writes only what has changed."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autoflow.dates.availability import Availability
from autoflow.model.revisions import EntryYear, RunsByYear
from autoflow.page.catalogue import YearInList
from autoflow.page.data_files import DataFiles
from autoflow.page.links import Unreadable
from autoflow.runs.records import RunKey, WorkflowKey
from autoflow.runs.year_plan import basis_of_plan, years_with_data
from autoflow.specs import TriggerSpec


@dataclass(frozen=True, kw_only=True)
class KnownYear:
    """What is known of the dates of an entry in a calendar year.

    `inputs` are all that its data file was made of; if they are the same, so is the file, until `changes_at` (UTC).
    `listed` is what the catalogue has of it; None if there is nothing to show. `given_up` are the dates that are given
    up, each with the time (UTC) of its last failure. `blocked_by` is the date for which those of later years wait.
    `unreadable` are some of its notebooks without HTML, newest first.
    """

    inputs: tuple[object, ...]
    listed: YearInList | None = None
    given_up: Sequence[tuple[RunKey, datetime.datetime]] = ()
    blocked_by: datetime.date | None = None
    changes_at: datetime.datetime | None = None
    unreadable: Sequence[Unreadable] = ()


@dataclass(frozen=True, kw_only=True)
class KnownTryOut:
    """A try-out as the page lists it, as of a revision of its runs; `listed` is None if it is none any more."""

    revision: int | None
    listed: Mapping[str, Any] | None
    unreadable: Sequence[Unreadable] = ()


@dataclass(kw_only=True)
class Memory:
    """What is known of the page as it was written last.

    `saved` are the entries of the catalogue that was found, by slug, and `present` the data files that were there.
    `entries` are those of the catalogue that was written last, with what each was made of. `kept` are the data files
    that belong to the page; None until others have been removed. `stamp` is that of the page, `digest` a hash of it.
    """

    saved: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    present: frozenset[tuple[str, int]] = frozenset()
    years: dict[EntryYear, KnownYear] = field(default_factory=dict)
    try_outs: dict[RunKey, KnownTryOut] = field(default_factory=dict)
    entries: dict[WorkflowKey, tuple[object, Mapping[str, Any]]] = field(default_factory=dict)
    parts: Sequence[str] = ()
    kept: frozenset[tuple[str, int]] | None = None
    stamp: object = None
    digest: str = ""

    @classmethod
    def of_files(cls, files: DataFiles) -> "Memory":
        """Return what the page in the outputs folder says about itself."""
        catalogue = files.catalogue()
        try:
            saved = {entry["slug"]: entry for entry in catalogue.get("entries", ()) if entry["years"]}
        except (TypeError, KeyError):  # the page of another version
            saved = {}
        return cls(saved=saved, present=files.years(), stamp=files.stamp)

    def saved_year(self, slug: str, year: int, source: str, inputs: tuple[object, ...]) -> KnownYear | None:
        """Return a year as the page has it; None if it has to be read, or was made of something else than `source`."""
        found = self.saved.get(slug, {}).get("years", {}).get(str(year))
        if not found or found.get("s") != source or (slug, year) not in self.present:
            return None
        entry = self.saved[slug]
        latest = entry["latest"] if (entry["latest"] or {}).get("date", "").startswith(f"{year:04}-") else None
        listed = YearInList(
            version=found["v"], counts=found["counts"], source=source, latest=latest, label=entry["label"]
        )
        return KnownYear(inputs=inputs, listed=listed)


class Plans:
    """The dates that FlowAPI had at the last tick, and what the plans of the entries depend on."""

    def __init__(self) -> None:
        self._made_of: object = None
        self._entries: Mapping[WorkflowKey, TriggerSpec] = {}
        self._years: Mapping[WorkflowKey, frozenset[int]] = {}
        self._bases: dict[EntryYear, str] = {}
        self.availability = Availability(types={})

    def refresh(self, runs: RunsByYear, triggers: Sequence[TriggerSpec], cdr_types: Sequence[str] | None) -> None:
        """Read the dates again if they, or the entries, have changed."""
        made_of = (runs.arrivals_stamp(), tuple(triggers), cdr_types)
        if made_of == self._made_of:
            return
        self.availability = Availability.of_arrivals(runs.arrivals()).only(cdr_types)
        self._entries = {WorkflowKey.of_trigger(trigger): trigger for trigger in triggers}
        self._years = {key: years_with_data(each, self.availability) for key, each in self._entries.items()}
        self._bases = {}
        self._made_of = made_of

    def years(self, key: WorkflowKey) -> frozenset[int]:
        """Return the years in which an entry could run; none if it was removed."""
        return self._years.get(key, frozenset())

    def basis(self, entry_year: EntryYear) -> str:
        """Return what the plan of an entry for a year depends on, as text; empty if the entry was removed."""
        trigger = self._entries.get(entry_year.key)
        if trigger is None:
            return ""
        if entry_year not in self._bases:
            self._bases[entry_year] = basis_of_plan(trigger, self.availability, entry_year.year)
        return self._bases[entry_year]

"""The content of the page, from the run store: the status of each date of each entry, and what users have tried."""

import datetime
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from autoflow.dates.periods import Every, describe_period
from autoflow.model.store import RunStore
from autoflow.notebooks.redaction import Redaction
from autoflow.runs.changes import given_up_reruns
from autoflow.runs.naming import entry_names, entry_titles, name_among, parameters_text
from autoflow.runs.plan import keys_with_reruns, past_status
from autoflow.runs.records import RunKey, RunRecord, WorkflowKey
from autoflow.runs.run import named_entry
from autoflow.runs.statuses import DateStatus
from autoflow.specs import TriggerSpec
from autoflow.utils import readable_name

STATUSES = (
    DateStatus.DONE,
    DateStatus.RUNNING,
    DateStatus.WAITING,
    DateStatus.GIVEN_UP,
    DateStatus.CANCELLED,
    DateStatus.FAILED,
)
"""The statuses of dates that were run. In the page, a status is its number here."""

LONGEST_REASON = 600
"""Longest error message on the page, in characters. The executed notebook has all of it."""

MOST_TRY_OUTS = 50
"""The highest number of runs that the page lists besides those of entries."""

_NUMBERS = {status: number for number, status in enumerate(STATUSES)}
_EPOCH = datetime.date(1970, 1, 1)
_STAMP = re.compile(r"\d{8}T\d{6}\.\d{3}Z")


@dataclass(frozen=True)
class Day:
    """A date that was run: its status, one of `STATUSES`, and the run that explains it.

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
    description: str = ""
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
    keys = sorted(days, key=lambda key: (order.get(key, len(order)), key))
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
        label = of_key[0].record.label
        name = named_entry(key.workflow, label) if label and not trigger else name_among(key, names)
        found.append(Series(key, titles[key], name, description, of_key))
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


class Links:
    """Turns paths of outputs into links for the page, and knows which notebooks exist as HTML."""

    def __init__(self, outputs_dir: Path, notebooks_dir: Path) -> None:
        self._outputs_dir = outputs_dir
        self._notebooks_dir = str(notebooks_dir)
        self._names_in: dict[str, frozenset[str]] = {}
        self.unreadable: dict[Path, tuple[RunKey, str]] = {}

    def link(self, path: str) -> str:
        """Return a link that works both on a web server and from the disk."""
        return quote(os.path.relpath(path, self._outputs_dir))

    def is_readable(self, path: str, of: tuple[RunKey, str] | None = None) -> bool:
        """Return whether an executed notebook exists as HTML, too; if it does not, remember it in `unreadable`.

        It is remembered with its run and its label, `of`.

        Notebooks outside of the notebooks folder, where they may be if that setting has changed, are not remembered.
        """
        folder, name = os.path.split(path)
        names = self._names(folder)
        is_readable = readable_name(name) in names
        if of and not is_readable and name in names and folder == self._notebooks_dir:
            self.unreadable[Path(path)] = of
        return is_readable

    def _names(self, folder: str) -> frozenset[str]:
        if folder not in self._names_in:
            try:
                self._names_in[folder] = frozenset(os.listdir(folder))
            except OSError:
                self._names_in[folder] = frozenset()
        return self._names_in[folder]


class Compact:
    """Encodes series in a compact form: what ten years of dates have in common is written once.

    The names of the outputs of two dates differ only in the date and in the time of the run. `redaction` removes
    secrets from reasons before they are cut. `places` has the label of the notebook and the number of the cell for
    each of the `reasons`.
    """

    def __init__(self, links: Links, redaction: Redaction) -> None:
        self._links = links
        self._redaction = redaction
        self._general_links: dict[str, str] = {}
        self.reasons: dict[str, int] = {}
        self.places: list[tuple[str | None, int | None]] = []

    def series(self, series: Series) -> dict[str, Any]:
        """Return a series for JSON.

        Each day has its number since 1970-01-01, the number of its status, the number of its set of outputs, the time
        in their names, and the number of the reason why it failed (-1: none). Where one of them is not 0, two more
        numbers follow: how many days were missing, and 1 if the date is outdated.
        """
        sets: dict[str, int] = {}
        templates: list[Any] = []
        days = []
        for day in series.days:
            outputs, stamp = self._template(day)
            text = repr(outputs)
            if text not in sets:
                sets[text] = len(sets)
                templates.append(outputs)
            notes = [day.record.missing_days or 0, int(day.is_outdated)]
            number = (day.date - _EPOCH).days
            more = notes if any(notes) else []
            days.append([number, _NUMBERS[day.status], sets[text], stamp, self._reason(day), *more])
        parameters = parameters_text(series.key)
        every = "" if series.key.every is Every.DAY else f"every {series.key.every}"
        return {
            "title": series.title,
            "description": series.description,
            "name": series.name,
            "about": "; ".join(filter(None, (every, parameters))),
            "every": series.key.every.noun,
            "sets": templates,
            "days": days,
        }

    def _template(self, day: Day) -> tuple[list[list[Any]], str]:
        """Return, for each notebook of a run: its label, its link, whether it exists as HTML, and links to reports.

        Return the time of the run as well. In the links, {d} stands for the date and {t} for that time.
        """
        outputs, date = day.record.outputs, day.date.isoformat()
        found = next((_STAMP.search(os.path.basename(each["notebook"])) for each in outputs.values()), None)
        stamp = found[0] if found else ""

        def general(path: str) -> str:
            # In the name alone: the outputs folder may have a date in its path, too, and be moved.
            folder, name = os.path.split(path)
            name = name.replace(date, "\x01")
            return self._general_link(os.path.join(folder, name.replace(stamp, "\x02") if stamp else name))

        return [
            [
                label,
                general(each["notebook"]),
                self._links.is_readable(each["notebook"], (day.record.key, label)),
                [general(report) for report in each["reports"]],
            ]
            for label, each in outputs.items()
        ], stamp

    def _general_link(self, path: str) -> str:
        link = self._general_links.get(path)
        if link is None:
            # A quoted link has no braces of its own.
            link = self._links.link(path).replace("%01", "{d}").replace("%02", "{t}")
            self._general_links[path] = link
        return link

    def _reason(self, day: Day) -> int:
        error = day.record.error
        if day.status in {DateStatus.DONE, DateStatus.RUNNING} or error is None:
            return -1
        text = self._redaction.of_text(str(error))
        text = text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "…"
        if text not in self.reasons:
            self.reasons[text] = len(self.reasons)
            self.places.append((error.notebook, error.cell))
        return self.reasons[text]


def lists_of(contents: Contents, links: Links) -> Mapping[str, Any]:
    """Return the lists of the page: the newest reports, and the newest try-outs with the number of the others."""
    return {
        "latest": _latest_reports(contents.series, links),
        "try_outs": _listed_try_outs(contents.try_outs, links),
        "more_try_outs": max(0, len(contents.try_outs) - MOST_TRY_OUTS),
    }


def _latest_reports(series: Iterable[Series], links: Links) -> list[Mapping[str, Any]]:
    """Return the newest date of each series that is done, with links to its reports, for the top of the page."""
    found: list[Mapping[str, Any]] = []
    for each in series:
        if day := each.latest:
            period = describe_period(day.date, each.key.every)
            name = {"title": each.title, "description": each.description, "period": period, "note": _note(day)}
            found.append({**name, "links": _to_read(day.record.outputs, links)})
    return found


def _note(day: Day) -> str:
    """Return what a reader of the report of `day` should know; empty if there is nothing."""
    missing = day.record.missing_days
    texts = [f"{missing} day{'' if missing == 1 else 's'} missing" if missing else ""]
    texts.append("data has changed since, and the new run failed" if day.is_outdated else "")
    return "; ".join(filter(None, texts))


def _listed_try_outs(try_outs: Sequence[Day], links: Links) -> list[Mapping[str, Any]]:
    """Return the newest of `try_outs`, with their names and links, for the list of other runs."""
    return [
        {
            "name": day.record.key.workflow,
            "parameters": parameters_text(day.record.key.workflow_key),
            "period": describe_period(day.date, day.record.key.every),
            "status": str(day.status),
            "note": _note(day),
            "links": _to_read(day.record.outputs, links),
        }
        for day in try_outs[:MOST_TRY_OUTS]
    ]


def _to_read(outputs: Mapping[str, Any], links: Links) -> list[tuple[str, str, str]]:
    """Return the kind, label and link of each report or, if there are none, of each notebook."""
    reports = [(label, report) for label, each in outputs.items() for report in each["reports"]]
    if reports:
        return [(Path(report).suffix[1:].upper(), label, links.link(report)) for label, report in reports]
    notebooks = [(label, each["notebook"]) for label, each in outputs.items()]
    return [
        ("HTML", label, links.link(readable_name(path)))
        if links.is_readable(path)
        else ("ipynb", label, links.link(path))
        for label, path in notebooks
    ]

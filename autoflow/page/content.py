"""What the page shows, from the run store: for each workflow and set of parameters, how it stands with each date."""

import datetime
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from autoflow.model.store import RunStore
from autoflow.runs.plan import why_never_due
from autoflow.runs.records import Failures, History, RunKey, RunRecord, RunState
from autoflow.specs import TriggerSpec

STATES = ("done", "running", "waiting for a retry", "given up", "cancelled", "failed")
"""How it can stand with a date that has run; a date's number for it is its place here."""

DONE, RUNNING, WAITING, GIVEN_UP, CANCELLED, FAILED = range(len(STATES))

LONGEST_REASON = 600
"""Of what went wrong, in characters; the executed notebook has all of it."""

_EPOCH = datetime.date(1970, 1, 1)
_STAMP = re.compile(r"\d{8}T\d{6}\.\d{3}Z")


@dataclass(frozen=True)
class Day:
    """How it stands with a date: `state` is one of `STATES`, by number; `record` is the run that tells most of it."""

    date: datetime.date
    state: int
    record: RunRecord


@dataclass
class Series:
    """A workflow with one set of parameters, and its dates, newest first."""

    workflow: str
    parameters: str
    days: list[Day] = field(default_factory=list)

    @property
    def latest(self) -> Day | None:
        """The newest date that is done, if any."""
        return next((day for day in self.days if day.state == DONE), None)


def read_series(store: RunStore, triggers: Iterable[TriggerSpec]) -> list[Series]:
    """Return what the page shows, in the order of `triggers`, what is no longer among these last."""
    entries: dict[tuple[str, str], TriggerSpec] = {}
    for trigger in triggers:
        key = RunKey.of(trigger.workflow.name, trigger.parameters, _EPOCH)
        entries[key.workflow, key.parameters_hash] = trigger
    histories = store.histories()
    newest: dict[RunKey, RunRecord] = {}
    for record in store.runs():  # newest first; a success tells more than a later attempt that came to nothing
        before = newest.get(record.key)
        if before is None or (record.state is RunState.SUCCEEDED and before.state is not RunState.SUCCEEDED):
            newest[record.key] = record
    found: dict[tuple[str, str], Series] = {}
    hashes: dict[str, str] = {}
    for key in sorted(newest, key=lambda key: key.reference_date, reverse=True):
        parameters_hash = hashes.get(key.parameters) or hashes.setdefault(key.parameters, key.parameters_hash)
        name = (key.workflow, parameters_hash)
        series = found.setdefault(name, Series(key.workflow, key.parameters))
        state = _state(key.reference_date, histories.get(name, History()), entries.get(name))
        series.days.append(Day(key.reference_date, state, newest[key]))
    order = {name: number for number, name in enumerate(entries)}
    return [found[name] for name in sorted(found, key=lambda name: (order.get(name, len(order)), name))]


def _state(date: datetime.date, history: History, trigger: TriggerSpec | None) -> int:
    if date in history.done:
        return DONE
    if date in history.running:
        return RUNNING
    failures = history.failures.get(date, Failures())
    if failures.cancelled:
        return CANCELLED
    if trigger is None or why_never_due(trigger, date):
        return FAILED
    return GIVEN_UP if failures.count >= trigger.max_attempts else WAITING


class Links:
    """Turns paths of outputs into links from the page, and knows which notebooks are there to be read as HTML."""

    def __init__(self, outputs_dir: Path, notebooks_dir: Path) -> None:
        self._outputs_dir = outputs_dir
        self._notebooks_dir = str(notebooks_dir)
        try:
            self._names = frozenset(os.listdir(notebooks_dir))
        except OSError:
            self._names = frozenset()
        self.unreadable: list[Path] = []

    def link(self, path: str) -> str:
        """Return a link that works from a file server and from the disk."""
        return quote(os.path.relpath(path, self._outputs_dir))

    def is_readable(self, path: str) -> bool:
        """Tell whether an executed notebook is there as HTML, too; where it could be, remember it as unreadable."""
        folder, name = os.path.split(path)
        is_readable = folder == self._notebooks_dir and readable(name) in self._names
        if not is_readable and name in self._names:
            self.unreadable.append(Path(path))
        return is_readable


class Compact:
    """Makes series small: what ten years of dates have in common is said once.

    The names of a run's outputs differ from those of another date by the date and the time of the run alone.
    """

    def __init__(self, links: Links) -> None:
        self._links = links
        self._general_links: dict[str, str] = {}
        self.reasons: dict[str, int] = {}

    def series(self, series: Series) -> dict[str, Any]:
        """Return a series for JSON.

        Each day has its number since 1970-01-01, its state, the number of its set of outputs, the time in their
        names, and the number of the reason why it failed (-1: none).
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
            days.append([(day.date - _EPOCH).days, day.state, sets[text], stamp, self._reason(day)])
        name = {"workflow": series.workflow, "parameters": series.parameters}
        return {**name, "sets": templates, "days": days}

    def _template(self, day: Day) -> tuple[list[list[Any]], str]:
        """Return, for each notebook of a run: its label, link, whether it is there as HTML, and links to reports.

        In the links, {d} stands for the date and {t} for the time of the run, which is returned as well.
        """
        outputs, date = day.record.outputs, day.date.isoformat()
        found = next((_STAMP.search(each["notebook"]) for each in outputs.values()), None)
        stamp = found[0] if found else ""

        def general(path: str) -> str:
            path = path.replace(date, "\x01")
            return self._general_link(path.replace(stamp, "\x02") if stamp else path)

        return [
            [
                label,
                general(each["notebook"]),
                self._links.is_readable(each["notebook"]),
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
        if day.state in {DONE, RUNNING} or error is None:
            return -1
        place = f"notebook '{error.notebook}', cell {error.cell}: " if error.cell else ""
        text = f"{place}{error.error_class}: {error.message}"
        text = text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "…"
        return self.reasons.setdefault(text, len(self.reasons))


def latest_reports(series: Iterable[Series], links: Links) -> list[Mapping[str, Any]]:
    """Return for the head of the page, of each series, the newest date that is done, with links to what to read."""
    found: list[Mapping[str, Any]] = []
    for each in series:
        if day := each.latest:
            name = {"workflow": each.workflow, "parameters": each.parameters, "date": day.date.isoformat()}
            found.append({**name, "links": _to_read(day.record.outputs, links)})
    return found


def _to_read(outputs: Mapping[str, Any], links: Links) -> list[tuple[str, str, str]]:
    """Return kind, label and link of the reports or, if there are none, of the notebooks."""
    reports = [(label, report) for label, each in outputs.items() for report in each["reports"]]
    if reports:
        return [(Path(report).suffix[1:].upper(), label, links.link(report)) for label, report in reports]
    notebooks = [(label, each["notebook"]) for label, each in outputs.items()]
    return [
        ("HTML", label, links.link(readable(path))) if links.is_readable(path) else ("ipynb", label, links.link(path))
        for label, path in notebooks
    ]


def readable(notebook: str) -> str:
    """Return what a notebook is called as HTML."""
    return notebook.removesuffix(".ipynb") + ".html"

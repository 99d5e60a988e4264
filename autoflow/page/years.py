"""The data files of the page: the dates of one entry in one calendar year, in a compact form."""

import datetime
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from autoflow.notebooks.redaction import Redaction
from autoflow.page.content import Day
from autoflow.page.links import Links
from autoflow.page.texts import without_secrets
from autoflow.runs.records import RunRecord
from autoflow.runs.statuses import DateStatus

STATUSES = (
    DateStatus.DONE,
    DateStatus.RUNNING,
    DateStatus.WAITING,
    DateStatus.GIVEN_UP,
    DateStatus.CANCELLED,
    DateStatus.FAILED,
    DateStatus.DUE,
    DateStatus.WAITING_FOR_DATA,
    DateStatus.BLOCKED,
    DateStatus.INCOMPLETE,
    DateStatus.NOT_OVER,
    DateStatus.TOO_EARLY,
    DateStatus.TOO_LATE,
    DateStatus.SKIPPED,
)
"""The statuses of dates. In the page, a status is its number here."""

LONGEST_REASON = 600
"""Longest reason on the page, in characters. The executed notebook has all of an error."""

_SETTLED = (
    DateStatus.DONE,
    DateStatus.SKIPPED,
    DateStatus.CANCELLED,
    DateStatus.FAILED,
    DateStatus.INCOMPLETE,
    DateStatus.NOT_OVER,
    DateStatus.TOO_EARLY,
    DateStatus.TOO_LATE,
)
_NUMBERS = {status: number for number, status in enumerate(STATUSES)}
_EPOCH = datetime.date(1970, 1, 1)
_STAMP = re.compile(r"\d{8}T\d{6}\.\d{3}Z")


def count_statuses(days: Iterable[Day]) -> list[int]:
    """Return how many of `days` have each of `STATUSES`; zeros at the end are left out."""
    counts = [0] * len(STATUSES)
    for day in days:
        counts[_NUMBERS[day.status]] += 1
    while counts and not counts[-1]:
        counts.pop()
    return counts


def is_settled(days: Iterable[Day]) -> bool:
    """Return whether nothing runs, waits, is due or was given up."""
    return all(day.status in _SETTLED for day in days)


class YearEncoder:
    """Encodes the dates of an entry in a year: what they have in common is written once.

    The names of the outputs of two dates differ only in the date and in the time of the run. `redaction` removes
    secrets from reasons before they are cut.
    """

    def __init__(self, links: Links, redaction: Redaction) -> None:
        self._links = links
        self._redaction = redaction
        self._general_links: dict[str, str] = {}
        self._reasons: dict[str, int] = {}
        self._places: list[tuple[str | None, int | None]] = []
        self._sets: dict[str, int] = {}
        self._templates: list[Any] = []

    def encode(self, days: Iterable[Day]) -> Mapping[str, Any]:
        """Return the content of a data file.

        Each day has its number since 1970-01-01, the number of its status, the number of its set of outputs (-1: none),
        the time in their names, the number of the reason for its status (-1: none), how many days were missing, 1 if
        the date is outdated, and how many checks failed as warnings. `places` has the label of the notebook and the
        number of the cell for each of the `reasons`.
        """
        rows = [self._row(day) for day in days]
        lists = {"reasons": list(self._reasons), "places": self._places, "sets": self._templates}
        return {**without_secrets(lists, self._redaction), "days": rows}

    def _row(self, day: Day) -> list[Any]:
        number, stamp = self._set(day.record) if day.record and day.record.outputs else (-1, "")
        missing = day.record.missing_days or 0 if day.record else 0
        notes = (missing, int(day.is_outdated), day.record.warnings_count if day.record else 0)
        return [(day.date - _EPOCH).days, _NUMBERS[day.status], number, stamp, self._reason(day), *notes]

    def _set(self, record: RunRecord) -> tuple[int, str]:
        """Return the number of the run's set of outputs, and the time in their names."""
        outputs, stamp = self._template(record)
        text = repr(outputs)
        if text not in self._sets:
            self._sets[text] = len(self._sets)
            self._templates.append(outputs)
        return self._sets[text], stamp

    def _template(self, record: RunRecord) -> tuple[list[list[Any]], str]:
        """Return, for each notebook of a run: its label, its link, whether it exists as HTML, and links to reports.

        Return the time of the run as well. In the links, {d} stands for the date and {t} for that time.
        """
        outputs, date = record.outputs, record.key.reference_date.isoformat()
        paths = (path for each in outputs.values() for path in (each.get("notebook", ""), *each["reports"]) if path)
        found = next((_STAMP.search(os.path.basename(path)) for path in paths), None)
        stamp = found[0] if found else ""

        def general(path: str) -> str:
            # In the name alone: the outputs folder may have a date in its path, too, and be moved.
            folder, name = os.path.split(path)
            name = name.replace(date, "\x01")
            return self._general_link(os.path.join(folder, name.replace(stamp, "\x02") if stamp else name))

        return [
            [
                label,
                general(each["notebook"]) if "notebook" in each else "",
                "notebook" in each and self._links.is_readable(each["notebook"], (record.key, label)),
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
        error = day.record.failure if day.record and day.status is not DateStatus.RUNNING else None
        notes = (day.record.skipped, _warnings(day.record), day.record.taken_over_text) if day.record else ()
        texts = (self._redaction.of_text(text) for text in (str(error or ""), *notes, day.why) if text)
        text = "\n".join(text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "…" for text in texts)
        if not text:
            return -1
        if text not in self._reasons:
            self._reasons[text] = len(self._reasons)
            self._places.append((error.notebook, error.cell) if error else (None, None))
        return self._reasons[text]


def _warnings(record: RunRecord) -> str:
    return "".join(f"Warning: {warning}\n" for warning in record.warnings).rstrip()

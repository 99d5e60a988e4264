"""Writes pages with made-up content, in the format of the real ones."""

import datetime
import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoflow.dates.periods import Every, last_days
from autoflow.page.shell import shell_html
from autoflow.runs.statuses import DateStatus

STATUSES = tuple(map(str, DateStatus))
EPOCH = datetime.date(1970, 1, 1)
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "report.png"
MOST_ENTRIES = 60
STAMP = "20261123T040000.000Z"
REASONS = {
    DateStatus.GIVEN_UP: "notebook 'query', cell 3: ValueError: no region has data",
    DateStatus.WAITING: "notebook 'query', cell 3: TimeoutError: FlowAPI did not answer; next attempt at 04:30 UTC",
    DateStatus.INCOMPLETE: "2016-01-08 is missing",
    DateStatus.TOO_EARLY: "it is before 2016-01-05",
    DateStatus.WAITING_FOR_DATA: "waits until 2016-12-28 for 2016-12-25",
    DateStatus.SKIPPED: "nobody moved on this day",
}
WARNING = "Warning: few outliers: 7 % of the flows"


@dataclass(frozen=True)
class Entry:
    """An entry of the page, and its dates: one for each period from `first` to `last`."""

    workflow: str = "mobility"
    label: str | None = None
    title: str = ""
    description: str = ""
    every: Every = Every.DAY
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"region": "north", "unit": "admin2"})
    first: datetime.date = datetime.date(2016, 1, 1)
    last: datetime.date = datetime.date(2016, 12, 27)
    given: Mapping[str, DateStatus] = field(default_factory=dict)
    missing_days: Mapping[str, int] = field(default_factory=dict)
    warnings: Mapping[str, int] = field(default_factory=dict)
    has_picture: bool = True
    removed: bool = False
    seed: int = 0

    @property
    def slug(self) -> str:
        """The name of the folder of the entry."""
        plain = "".join(each if each.isascii() and each.isalnum() else "-" for each in self.workflow)[:40]
        return f"{plain}--{self.label or self.seed}"


def write_sample(folder: Path, entries: Sequence[Entry], *, banner: str = "", **more: Any) -> Path:
    """Write a page for `entries` into a folder, with its data files; return its path."""
    (folder / "thumbnails").mkdir(parents=True, exist_ok=True)
    shutil.copy(PICTURE, folder / "thumbnails" / "page.png")
    listed = [_listed(folder, entry) for entry in entries]
    parts = [listed[start : start + 40] for start in range(0, len(listed), 40)] if len(listed) > MOST_ENTRIES else []
    for number, part in enumerate(parts):
        _write(folder, f"entries-{number}", part)
    newest = sorted(listed, key=lambda each: each["latest"]["finished"], reverse=True) if parts else listed
    catalogue = {
        "made": "2026-11-29T00:45:00Z",
        "statuses": STATUSES,
        "entries": newest[:24] if parts else listed,
        "total": len(listed),
        "parts": ["ab12cd"] * len(parts),
        "try_outs": [],
        "more_try_outs": 0,
        **more,
    }
    page = folder / "index.html"
    page.write_text(shell_html(catalogue, banner=banner, made="2026-11-29 00:45 UTC"), encoding="utf-8")
    return page


def _listed(folder: Path, entry: Entry) -> Mapping[str, Any]:
    """Write the data files of an entry; return it for the catalogue."""
    by_year: dict[int, list[list[Any]]] = {}
    done = None
    given_up = waiting = 0
    running = []
    for date, status in _dates(entry):
        by_year.setdefault(date.year, []).insert(0, _row(entry, date, status))
        done = date if status is DateStatus.DONE else done
        given_up += status is DateStatus.GIVEN_UP
        waiting += status is DateStatus.WAITING
        if status is DateStatus.RUNNING:
            running.append({"date": str(date), "period": "", "progress": "cell 3 of 10 of maps"})
    for year, rows in by_year.items():
        _write_year(folder, entry, year, rows)
    years = {
        str(year): {"v": "ab12cd", "counts": [sum(row[1] == each for row in rows) for each in range(len(STATUSES))]}
        for year, rows in by_year.items()
    }
    return {
        "slug": entry.slug,
        "workflow": entry.workflow,
        "label": entry.label,
        "name": f"{entry.workflow}:{entry.label}" if entry.label else entry.workflow,
        "title": entry.title or (f"{entry.workflow}: {entry.label}" if entry.label else entry.workflow),
        "description": entry.description,
        "every": entry.every.noun,
        "parameters": entry.parameters,
        "removed": entry.removed,
        "years": years,
        "latest": _latest(entry, done) if done else None,
        "running": running,
        "attention": {"given_up": given_up, "waiting": waiting},
    }


def _dates(entry: Entry) -> Iterator[tuple[datetime.date, DateStatus]]:
    chance = random.Random(f"{entry.workflow} {entry.label} {entry.seed}")
    others = [DateStatus.GIVEN_UP, DateStatus.INCOMPLETE, DateStatus.CANCELLED, DateStatus.WAITING]
    for date in last_days(entry.first, entry.last, entry.every):
        usual = chance.choice(others) if chance.random() < 0.03 else DateStatus.DONE
        yield date, entry.given.get(str(date), usual)


def _row(entry: Entry, date: datetime.date, status: DateStatus) -> list[Any]:
    has_run = status in {DateStatus.DONE, DateStatus.GIVEN_UP, DateStatus.WAITING, DateStatus.CANCELLED}
    warnings = entry.warnings.get(str(date), 0)
    reason = list(REASONS).index(status) if status in REASONS else len(REASONS) if warnings else -1
    missing = entry.missing_days.get(str(date), 0)
    return [(date - EPOCH).days, STATUSES.index(status), 0 if has_run else -1, STAMP, reason, missing, 0, warnings]


def _write_year(folder: Path, entry: Entry, year: int, rows: Sequence[Sequence[Any]]) -> None:
    sets = [
        ["query", "notebooks/query__{d}__{t}.ipynb", True, []],
        ["report", "notebooks/report__{d}__{t}.ipynb", True, ["reports/report__{d}__{t}.pdf"]],
    ]
    reasons = [*REASONS.values(), WARNING]
    places = [["query", 3] if "cell" in text else [None, None] for text in reasons]
    data = {"reasons": reasons, "places": places, "sets": [sets], "days": rows}
    _write(folder, f"{entry.slug}/{year}", data)


def _write(folder: Path, name: str, data: Any) -> None:
    path = folder / "page" / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"autoflow({json.dumps(name)}, {json.dumps(data)});\n", encoding="utf-8")


def _latest(entry: Entry, date: datetime.date) -> Mapping[str, Any]:
    missing = entry.missing_days.get(str(date), 0)
    return {
        "date": str(date),
        "period": str(date),
        "finished": f"{date + datetime.timedelta(days=1)}T06:{entry.seed % 60:02}:00Z",
        "missing": missing,
        "warnings": entry.warnings.get(str(date), 0),
        "note": f"{missing} days missing"
        if missing
        else WARNING.partition(" ")[2]
        if str(date) in entry.warnings
        else "",
        "thumbnail": "thumbnails/page.png" if entry.has_picture else None,
        "links": [
            ["PDF", "report", f"reports/report__{date}.pdf"],
            ["HTML", "report", f"reports/report__{date}.html"],
            ["notebook", "report", f"notebooks/report__{date}.html"],
        ],
    }


def typical() -> list[Entry]:
    """Return one entry of each kind of period."""
    day = datetime.date.fromisoformat
    statuses = {
        **{f"2016-01-0{number}": DateStatus.TOO_EARLY for number in range(1, 5)},
        "2016-01-08": DateStatus.INCOMPLETE,
        "2016-12-20": DateStatus.SKIPPED,
        "2016-12-22": DateStatus.FAILED,
        "2016-12-23": DateStatus.RUNNING,
        "2016-12-24": DateStatus.DUE,
        "2016-12-25": DateStatus.WAITING_FOR_DATA,
        "2016-12-26": DateStatus.WAITING,
        "2016-12-27": DateStatus.DUE,
    }
    decade = day("2007-01-01")
    return [
        Entry(
            label="north",
            title="Mobility in the north",
            description="Who moved where.",
            given=statuses,
            warnings={"2016-12-21": 1},
            first=day("2015-01-01"),
        ),
        Entry(
            label="south",
            title="Mobility in the south",
            warnings={"2016-12-27": 2},
            parameters={"region": "south", "types": ["calls", "sms"], "limits": {"low": 5, "high": None}, "map": True},
            seed=1,
            has_picture=False,
        ),
        Entry("week", "east", "A week in the east", every=Every.WEEK, missing_days={"2017-01-01": 2}, seed=2),
        Entry("quota", None, "People present", "How many.", Every.MONTH, first=decade, seed=3),
        Entry("quarters", None, "Each quarter", every=Every.QUARTER, first=decade, seed=4),
        Entry("years", None, "Each year", every=Every.YEAR, first=decade, last=day("2016-12-31"), seed=5),
    ]


HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script> \u202eleft \u2067right \U0001f984 &amp; {d} "


def hostile() -> list[Entry]:
    """Return entries whose names try to break the page."""
    long = HOSTILE + "x" * 500
    parameters = {HOSTILE: HOSTILE, "long": "y" * 500, "__proto__": {"a": [{"b": None}]}, "toString": [[1], [2]]}
    return [
        Entry(HOSTILE, "north", long, long, parameters=parameters),
        Entry("constructor", None, "__proto__", seed=1),
        Entry("تقرير / عبرי:x?y#z", None, "تقرير عن التنقل", "مَن ذهب إلى أين", seed=2),
    ]


def ten_years_of_twenty() -> list[Entry]:
    """Return an entry each of twenty workflows, with a date for each day of ten years."""
    first = datetime.date(2007, 1, 1)
    return [Entry(f"flow-{number}", seed=number, first=first) for number in range(20)]


def many_labels(count: int) -> list[Entry]:
    """Return so many entries of one workflow."""
    return [
        Entry(label=f"place-{number}", first=datetime.date(2016, 11, 1), seed=number % 60) for number in range(count)
    ]

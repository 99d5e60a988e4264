"""The catalogue of the page: its entries, and the runs that users have tried."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autoflow.dates.periods import describe_period
from autoflow.notebooks.redaction import Redaction
from autoflow.page.content import Contents, Day, Series
from autoflow.page.links import Links
from autoflow.page.texts import without_secrets
from autoflow.page.years import STATUSES
from autoflow.runs.naming import parameters_text
from autoflow.runs.records import WorkflowKey
from autoflow.runs.statuses import DateStatus
from autoflow.utils import name_part

MOST_TRY_OUTS = 50
"""The highest number of runs that the page lists besides those of entries."""

LONGEST_VALUE = 200
"""The longest value of a parameter in the catalogue, in characters of its JSON; a longer one becomes a cut text."""

_WAITING = (DateStatus.WAITING, DateStatus.WAITING_FOR_DATA, DateStatus.BLOCKED, DateStatus.DUE)


def slugs(series: Iterable[Series], redaction: Redaction) -> dict[WorkflowKey, str]:
    """Return the name of each entry's folder with data files.

    It is that of its workflow, with its label; a hash of the parameters and the kind of period tells entries apart that
    would have the same name. Entries in workflows.yml come first: they have the hash only if they have no label.
    """
    series = list(series)
    alone = Counter(each.key.workflow for each in series if not each.is_removed)
    found: dict[WorkflowKey, str] = {}
    used: set[str] = set()
    for each in series:
        key = each.key
        workflow, *label = (name_part(redaction.of_text(name)) for name in (key.workflow, each.label) if name)
        slug = "--".join((workflow, *label))
        is_plain = bool(each.label) or alone[key.workflow] == 1
        if each.is_removed or not is_plain or slug.casefold() in used:
            digest = hashlib.sha256(f"{key.every} {key.parameters}".encode()).hexdigest()[:8]
            slug = f"{workflow}--{digest}"
        used.add(slug.casefold())
        found[key] = slug
    return found


def entry(series: Series, slug: str, years: Mapping[int, Mapping[str, Any]], links: Links) -> dict[str, Any]:
    """Return an entry of the catalogue; `years` has the version of each of its data files, and its counts."""
    total = Counter[DateStatus]()
    for year in years.values():
        total.update(dict(zip(STATUSES, year["counts"], strict=False)))
    return {
        "slug": slug,
        "workflow": series.key.workflow,
        "label": series.label,
        "name": series.name,
        "title": series.title,
        "description": series.description,
        "every": series.key.every.noun,
        "parameters": _parameters(series.key),
        "removed": series.is_removed,
        "years": {str(year): years[year] for year in sorted(years)},
        "latest": _latest(series, links),
        "running": [_running(day) for day in series.days if day.status is DateStatus.RUNNING],
        "attention": {
            "given_up": total[DateStatus.GIVEN_UP],
            "waiting": sum(total[status] for status in _WAITING),
        },
    }


def _parameters(key: WorkflowKey) -> dict[str, Any]:
    """Return the parameters of an entry; a value that is too long is cut, as text."""
    values = json.loads(key.parameters)
    return {name: _short(value) for name, value in values.items()}


def _short(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"


def _latest(series: Series, links: Links) -> dict[str, Any] | None:
    """Return the newest date of an entry that is done, with links to its files."""
    day = series.latest
    if day is None:
        return None
    return {
        "date": day.date.isoformat(),
        "period": describe_period(day.date, series.key.every),
        "finished": f"{day.record.finished_at or day.record.started_at:%Y-%m-%dT%H:%M:%SZ}",
        "missing": day.record.missing_days or 0,
        "note": _note(day),
        "thumbnail": None,
        "links": links.to_read(day.record.outputs),
    }


def _running(day: Day) -> dict[str, str]:
    period = describe_period(day.date, day.record.key.every)
    return {"date": day.date.isoformat(), "period": period, "progress": ""}


def try_outs(contents: Contents, links: Links) -> Mapping[str, Any]:
    """Return the newest try-outs, and the number of the others."""
    return {
        "try_outs": _listed_try_outs(contents.try_outs, links),
        "more_try_outs": max(0, len(contents.try_outs) - MOST_TRY_OUTS),
    }


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
            "links": links.to_read(day.record.outputs),
        }
        for day in try_outs[:MOST_TRY_OUTS]
    ]


def redacted(entry: Mapping[str, Any], redaction: Redaction) -> dict[str, Any]:
    """Return an entry of the catalogue without secrets; those in parameters are removed also from numbers."""
    texts = ("workflow", "label", "name", "title", "description", "latest")
    clean = {name: without_secrets(entry[name], redaction) for name in texts}
    return {**entry, **clean, "parameters": redaction.of_parameters(entry["parameters"])}

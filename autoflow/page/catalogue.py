"""The catalogue of the page: its entries, and the runs that users have tried."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autoflow.dates.periods import describe_period
from autoflow.notebooks.live_files import RunProgress
from autoflow.notebooks.redaction import Redaction
from autoflow.page.links import Links
from autoflow.page.texts import without_secrets
from autoflow.page.years import STATUSES
from autoflow.runs.naming import entry_names, entry_titles, name_among, parameters_text
from autoflow.runs.records import RunRecord, WorkflowKey
from autoflow.runs.run import named_entry
from autoflow.runs.statuses import DateStatus
from autoflow.specs import TriggerSpec
from autoflow.utils import name_part

LONGEST_VALUE = 200
"""The longest value of a parameter in the catalogue, in characters of its JSON; longer ones are cut."""

LONGEST_NOTE = 200
"""How much a card says about checks that warn, in characters."""

_WAITING = (DateStatus.WAITING, DateStatus.WAITING_FOR_DATA, DateStatus.BLOCKED, DateStatus.DUE)


@dataclass(frozen=True, kw_only=True)
class Names:
    """What an entry is called, without secrets.

    `slug` is the name of its folder with data files. `title` and `description` are for readers, `name` is that in the
    log and on the command line.
    """

    slug: str
    workflow: str
    label: str | None
    title: str
    name: str
    description: str = ""
    is_removed: bool = False


@dataclass(frozen=True, kw_only=True)
class YearInList:
    """What the catalogue has of a year of an entry.

    `version` is that of the data file, `counts` are those of `count_statuses`. `source` is a hash of what the file was
    made of; empty if the year has to be read again after a restart in any case. `latest` is the newest date that is
    done, `running` are the dates that are running, and `label` is that of the newest run.
    """

    version: str
    counts: Sequence[int]
    source: str = ""
    latest: Mapping[str, Any] | None = None
    running: Sequence[Mapping[str, Any]] = field(default_factory=list)
    label: str | None = None


def slugs(keys: Iterable[WorkflowKey], triggers: Sequence[TriggerSpec], redaction: Redaction) -> dict[WorkflowKey, str]:
    """Return the name of each entry's folder with data files; `keys` are those of `triggers` and of removed entries.

    It is that of its workflow, with its label if it has one. A hash of the parameters and the kind of period
    distinguishes removed entries, several entries of one workflow without labels, and those that would have the same
    name otherwise.
    """
    labels = {WorkflowKey.of_trigger(each): each.label for each in triggers}
    unlabelled = Counter(key.workflow for key, label in labels.items() if not label)
    found: dict[WorkflowKey, str] = {}
    used: set[str] = set()
    for key in keys:
        workflow = name_part(redaction.of_text(key.workflow))
        label = labels.get(key)
        slug = f"{workflow}--{name_part(redaction.of_text(label))}" if label else workflow
        is_plain = key in labels and (label or unlabelled[key.workflow] == 1)
        if not is_plain or slug.casefold() in used:
            slug = f"{workflow}--{hashlib.sha256(f'{key.every} {key.parameters}'.encode()).hexdigest()[:8]}"
        used.add(slug.casefold())
        found[key] = slug
    return found


def names_of(
    found: Mapping[WorkflowKey, str],
    triggers: Sequence[TriggerSpec],
    last_labels: Mapping[WorkflowKey, str | None],
    redaction: Redaction,
) -> dict[WorkflowKey, Names]:
    """Return the names of the entries with the slugs `found`; removed entries keep their last label."""
    entries = {WorkflowKey.of_trigger(trigger): trigger for trigger in triggers}
    titles, names = entry_titles(triggers, last_labels), entry_names(triggers)
    return {
        key: Names(
            slug=slug,
            workflow=redaction.of_text(key.workflow),
            label=redaction.of_text(label) if label else None,
            title=redaction.of_text(titles[key]),
            name=redaction.of_text(names.get(key) or _name_of_removed(key, label, names)),
            description=redaction.of_text(_description(entries.get(key))),
            is_removed=key not in entries,
        )
        for key, slug in found.items()
        for label in [entries[key].label if key in entries else last_labels[key]]
    }


def _description(trigger: TriggerSpec | None) -> str:
    return (trigger.description or trigger.workflow.description or "") if trigger else ""


def _name_of_removed(key: WorkflowKey, label: str | None, names: Mapping[WorkflowKey, str]) -> str:
    return named_entry(key.workflow, label) if label else name_among(key, names)


def entry(key: WorkflowKey, names: Names, years: Mapping[int, YearInList], redaction: Redaction) -> Mapping[str, Any]:
    """Return an entry of the catalogue."""
    total = Counter[DateStatus]()
    for year in years.values():
        total.update(dict(zip(STATUSES, year.counts, strict=False)))
    newest_first = [years[year] for year in sorted(years, reverse=True)]
    return {
        "slug": names.slug,
        "workflow": names.workflow,
        "label": names.label,
        "name": names.name,
        "title": names.title,
        "description": names.description,
        "every": key.every.noun,
        "parameters": _parameters(key, redaction),
        "removed": names.is_removed,
        "years": {str(year): _year(years[year]) for year in sorted(years)},
        "latest": next((year.latest for year in newest_first if year.latest), None),
        "running": [date for year in newest_first for date in year.running],
        "attention": {
            "given_up": total[DateStatus.GIVEN_UP],
            "waiting": sum(total[status] for status in _WAITING),
        },
    }


def _year(year: YearInList) -> Mapping[str, Any]:
    source = {"s": year.source} if year.source else {}
    return {"v": year.version, "counts": year.counts, **source}


def _parameters(key: WorkflowKey, redaction: Redaction) -> dict[str, Any]:
    """Return the parameters of an entry without secrets; a value that is too long is cut, as text."""
    clean = redaction.of_parameters(json.loads(key.parameters))
    return {name: _short(value) for name, value in clean.items()}


def _short(value: Any) -> Any:
    """Return the value of a parameter; of a list or a mapping, only the first items if it is long."""
    if isinstance(value, list):
        return [item for _, item in _first_items(enumerate(value))]
    if isinstance(value, dict):
        return dict(_first_items(value.items()))
    text = str(value)
    return value if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"


def _first_items(items: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """Yield items until their JSON is too long, then one that stands for the others."""
    length = 0
    for key, value in items:
        short = _short(value)
        length += len(json.dumps([key, short], ensure_ascii=False))
        if length > LONGEST_VALUE:
            yield "…", "…"
            return
        yield key, short


def latest(record: RunRecord, links: Links, redaction: Redaction, *, is_outdated: bool) -> Mapping[str, Any]:
    """Return a date that is done, with links to its files."""
    texts = {
        "note": _note(record, is_outdated=is_outdated),
        "thumbnail": links.thumbnail(record.outputs),
        "links": links.to_read(record.outputs),
    }
    return {
        "date": record.key.reference_date.isoformat(),
        "period": _period(record),
        "finished": f"{record.finished_at or record.started_at:%Y-%m-%dT%H:%M:%SZ}",
        "missing": record.missing_days or 0,
        "warnings": record.warnings_count,
        **without_secrets(texts, redaction),
    }


def running(record: RunRecord) -> Mapping[str, Any]:
    """Return a date that is running, with the number of its run; see `with_progress`."""
    return {"run": record.id, "date": record.key.reference_date.isoformat(), "period": _period(record)}


def with_progress(
    entry: Mapping[str, Any], progress: Mapping[int, RunProgress], redaction: Redaction
) -> Mapping[str, Any]:
    """Return an entry of the catalogue with how far its runs in progress are, by their numbers."""
    if not entry["running"]:
        return entry
    texts = {run: redaction.of_text(each.text) for run, each in progress.items()}
    dates = [
        {"date": each["date"], "period": each["period"], "progress": texts.get(each["run"], "")}
        for each in entry["running"]
    ]
    return {**entry, "running": dates}


def try_out(record: RunRecord, status: DateStatus, links: Links, redaction: Redaction) -> Mapping[str, Any]:
    """Return a run that a user has started with parameters that no entry had, with links to its files."""
    found = {
        "name": record.key.workflow,
        "parameters": parameters_text(record.key.workflow_key),
        "period": _period(record),
        "status": str(status),
        "note": _note(record),
        "links": links.to_read(record.outputs),
    }
    return dict(without_secrets(found, redaction))


def _period(record: RunRecord) -> str:
    return describe_period(record.key.reference_date, record.key.every)


def _note(record: RunRecord, *, is_outdated: bool = False) -> str:
    """Return what a reader of the report of a run should know; empty if there is nothing."""
    missing = record.missing_days
    texts = [f"{missing} day{'' if missing == 1 else 's'} missing" if missing else ""]
    texts.append("data has changed since, and the new run failed" if is_outdated else "")
    warnings = "; ".join(record.warnings)
    texts.append(warnings if len(warnings) <= LONGEST_NOTE else f"{warnings[:LONGEST_NOTE]}…")
    return "; ".join(filter(None, texts))

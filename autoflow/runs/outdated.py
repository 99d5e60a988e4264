"""Which done dates were made from other notebooks than those of now."""

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoflow.runs.records import RunKey, WorkflowKey
from autoflow.specs import TriggerSpec

UNKNOWN = "made before sources were recorded"
"""What is known about dates that were run by a version of AutoFlow that did not record the sources."""


@dataclass(frozen=True, kw_only=True)
class OutdatedDates:
    """The done dates of an entry, newest first, whose notebooks have changed in the same way since.

    `changed` are the labels of the notebooks and the modules that have changed; it is empty if that is unknown.
    """

    trigger: TriggerSpec
    changed: tuple[str, ...]
    dates: Sequence[datetime.date]

    @property
    def is_known(self) -> bool:
        """Whether the dates are outdated; if not, what they were made from is unknown."""
        return bool(self.changed)

    @property
    def keys(self) -> Iterable[RunKey]:
        """The keys of the runs."""
        key = WorkflowKey.of_trigger(self.trigger)
        return (key.on(date) for date in self.dates)


def outdated_dates(
    trigger: TriggerSpec, made_from: Mapping[RunKey, Mapping[str, Any] | None], now: Mapping[str, Mapping[str, Any]]
) -> list[OutdatedDates]:
    """Return the done dates of an entry that were not made from the notebooks of `now`, or perhaps not.

    `made_from` is for each done date; `now` has the present source of each notebook of the workflow by its label. A
    date is outdated if the cells of one of its notebooks, or a module that one imports, are not the same; other files
    make no difference. If the run was skipped, only the notebooks that had started count.
    """
    key = WorkflowKey.of_trigger(trigger)
    found: dict[tuple[str, ...] | None, list[datetime.date]] = defaultdict(list)
    for run, content in made_from.items():
        if run.workflow_key == key:
            found[None if content is None else _changed_since(content, now)].append(run.reference_date)
    return [
        OutdatedDates(trigger=trigger, changed=changed or (), dates=sorted(dates, reverse=True))
        for changed, dates in found.items()
        if changed != ()
    ]


def _changed_since(content: Mapping[str, Any], now: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    before = content["notebooks"]
    if content.get("skipped"):
        now = {label: source for label, source in now.items() if label in before}
    return _changed(before, now)


def _changed(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the labels of the notebooks, and the modules, that are not the same; also new and removed ones."""
    labels = [label for label in {**now, **before} if _cells(before, label) != _cells(now, label)]
    old, new = _modules(before), _modules(now)
    modules = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    return (*sorted(labels), *sorted(modules))


def _cells(sources: Mapping[str, Mapping[str, Any]], label: str) -> str | None:
    return sources.get(label, {}).get("cells")


def _modules(sources: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: digest for source in sources.values() for name, digest in source.get("modules", {}).items()}

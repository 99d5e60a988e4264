"""Drafts of the specs, with parts that may be missing or wrong (and have been reported).

`spec` makes a spec of a draft once the file is known to be valid.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from autoflow.dates.intervals import IntervalEnds
from autoflow.parser.places import Place
from autoflow.specs import (
    OVERRIDABLE_NAMES,
    RESERVED_NAMES,
    Json,
    KeepSpec,
    NotebookSpec,
    SensorSpec,
    TriggerSpec,
    WorkflowSpec,
)

_MOST_CYCLES = 20


@dataclass(frozen=True)
class WorkflowDraft:
    """A workflow; its `name` is empty where it is missing or wrong."""

    place: Place
    name: str
    notebooks: tuple[NotebookSpec, ...]
    title: str | None = None
    description: str | None = None
    keep: KeepSpec = field(default_factory=KeepSpec)

    @cached_property
    def labels(self) -> frozenset[str]:
        """Labels of all notebooks, without the reserved names."""
        return frozenset(notebook.label for notebook in self.notebooks) - RESERVED_NAMES

    @cached_property
    def parameter_names(self) -> frozenset[str]:
        """Names of the parameters that an entry of the sensor's list has to give."""
        return frozenset(self._sources - RESERVED_NAMES - OVERRIDABLE_NAMES)

    @property
    def optional_names(self) -> frozenset[str]:
        """Names of the parameters that an entry can give instead of automatic ones."""
        return frozenset(self._sources & OVERRIDABLE_NAMES)

    @cached_property
    def _sources(self) -> frozenset[str]:
        sources = {source for notebook in self.notebooks for source in notebook.parameters.values()}
        return frozenset(sources - self.labels)

    def user_of(self, parameter: str) -> str:
        """Return the label of the first notebook that uses `parameter`."""
        return next(notebook.label for notebook in self.notebooks if parameter in notebook.parameters.values())

    def cycles(self) -> list[list[str]]:
        """Return lists of labels in which each notebook depends on the next, and the last is the first again.

        Return only the first `_MOST_CYCLES`.
        """
        graph = self._dependencies()
        cycles: list[list[str]] = []
        while len(cycles) < _MOST_CYCLES and (cycle := _cycle(graph)):
            cycles.append(cycle)
            # Without this dependency graphlib finds the next cycle.
            del graph[cycle[-2]][cycle[-1]]
        return cycles

    def spec(self, private: AbstractSet[str] = frozenset()) -> WorkflowSpec:
        """Return the spec, with each notebook after those it depends on.

        `private` are the names of all secrets that only the notebooks that list them get.
        """
        labelled = {
            notebook.label: replace(notebook, hidden=tuple(sorted(private - {*notebook.secrets})))
            for notebook in self.notebooks
        }
        order = TopologicalSorter(self._dependencies()).static_order()
        return WorkflowSpec(
            name=self.name,
            notebooks=tuple(labelled[label] for label in order),
            title=self.title,
            description=self.description,
            keep=self.keep,
        )

    def _dependencies(self) -> dict[str, dict[str, None]]:
        """Map each label to those of the notebooks it depends on (in a dictionary, which keeps their order)."""
        return {
            notebook.label: {source: None for source in notebook.parameters.values() if source in self.labels}
            for notebook in self.notebooks
        }


@dataclass(frozen=True)
class Choice:
    """The value of a parameter of `for_each` that an entry has, and the place of the value."""

    name: str
    value: Json
    place: Place


@dataclass(frozen=True)
class TriggerDraft:
    """An entry of the sensor's list; its `workflow_name` is empty where it is missing or wrong.

    `options` are the other fields of the spec that the file gives. `choices` are its values of the parameters of
    `for_each`.
    """

    place: Place
    workflow_name: str
    parameters: dict[str, Json]
    options: dict[str, Any]
    choices: tuple[Choice, ...] = ()

    def place_of(self, parameter: str) -> Place:
        """Return the place of the value of a parameter."""
        chosen = (choice.place for choice in self.choices if choice.name == parameter)
        return next(chosen, (*self.place, "parameters", parameter))

    def spec(self, workflows: Mapping[str, WorkflowSpec]) -> TriggerSpec:
        """Return the spec; `workflows` are those of the file by name."""
        return TriggerSpec(workflow=workflows[self.workflow_name], parameters=self.parameters, **self.options)


@dataclass(frozen=True)
class SensorDraft:
    """When the sensor runs, and the workflows it runs."""

    schedule: str | None = None
    cdr_types: tuple[str, ...] | None = None
    interval_ends: IntervalEnds = IntervalEnds.INCLUDED
    triggers: tuple[TriggerDraft, ...] = ()
    timezone: str = "UTC"

    def spec(self, workflows: Mapping[str, WorkflowSpec]) -> SensorSpec:
        """Return the spec; `workflows` are those of the file by name."""
        triggers = tuple(trigger.spec(workflows) for trigger in self.triggers)
        return SensorSpec(
            schedule=self.schedule,
            cdr_types=self.cdr_types,
            triggers=triggers,
            interval_ends=self.interval_ends,
            timezone=self.timezone,
        )


def _cycle(graph: Mapping[str, Mapping[str, None]]) -> list[str] | None:
    """Return a cycle in `graph`, begun with the notebook that is the first in the file; None if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # graphlib has each before the one that depends on it.
        labels: list[str] = error.args[1][:0:-1]
        members = set(labels)
        start = labels.index(next(label for label in graph if label in members))
        return [*labels[start:], *labels[: start + 1]]
    return None

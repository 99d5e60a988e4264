"""The contents of a workflows.yml as frozen values that are valid from construction, independent of YAML."""

import datetime as dt
import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from autoflow.date_stencil import DateStencil, IntervalEnds
from autoflow.errors import AutoflowError

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""A value of strict JSON: no NaN, no infinity, text keys only."""

CDR_TYPES = ("calls", "sms", "mds", "topups")
"""The types of CDR data that FlowAPI knows."""

SENSOR_PARAMETERS = frozenset({"reference_date", "date_ranges"})
"""Automatic parameters that differ for each date."""

RESERVED_NAMES = SENSOR_PARAMETERS | {"flowapi_url"}
"""Names of automatic parameters, which no label and no parameter of a workflow may have."""

NO_TIMEOUT = math.inf
"""The timeout of a notebook without a limit."""


class ReportFormat(enum.StrEnum):
    """A format of reports; the value is also the suffix of the file."""

    PDF = "pdf"
    HTML = "html"


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """The reports of an executed notebook: at least one format, each once.

    `template` is the absolute path of an asciidoc template to use instead of the default one.
    """

    formats: tuple[ReportFormat, ...]
    template: Path | None = None


@dataclass(frozen=True, kw_only=True)
class NotebookSpec:
    """A notebook of a workflow.

    `label` is its name within the workflow. `path` is the absolute path of the notebook file. `parameters` maps the
    notebook's own parameter names to their sources: a parameter of the workflow, the label of another notebook, or
    one of `RESERVED_NAMES`. `timeout` limits the whole notebook, in seconds: None stands for the timeout in the
    settings, `NO_TIMEOUT` for no limit.
    """

    label: str
    path: Path
    parameters: Mapping[str, str] = field(default_factory=dict)
    output: OutputSpec | None = None
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class WorkflowSpec:
    """A named set of notebooks, each after those it depends on."""

    name: str
    notebooks: tuple[NotebookSpec, ...]

    def __post_init__(self) -> None:
        """Check that no notebook comes before one it depends on."""
        seen: set[str] = set()
        for notebook in self.notebooks:
            if missing := self.dependencies(notebook) - seen:
                raise ValueError(f"notebook '{notebook.label}' must come after {sorted(missing)}, on which it depends")
            seen.add(notebook.label)

    @cached_property
    def labels(self) -> frozenset[str]:
        """Labels of all notebooks."""
        return frozenset(notebook.label for notebook in self.notebooks)

    def dependencies(self, notebook: NotebookSpec) -> frozenset[str]:
        """Return the labels of the notebooks whose executed files `notebook` gets as parameters."""
        return self.labels.intersection(notebook.parameters.values())

    @property
    def parameter_names(self) -> frozenset[str]:
        """Names of the parameters that a run of this workflow needs, besides `RESERVED_NAMES`."""
        sources = {source for notebook in self.notebooks for source in notebook.parameters.values()}
        return frozenset(sources - self.labels - RESERVED_NAMES)


@dataclass(frozen=True, kw_only=True)
class TriggerSpec:
    """A workflow that the sensor runs for each new date, with its parameters.

    It is not run for dates before `earliest_date`, if that is not None. A failed run is retried after `retry_delay`
    seconds, which doubles with each failure, until there have been `max_attempts` attempts.
    """

    workflow: WorkflowSpec
    parameters: Mapping[str, Json] = field(default_factory=dict)
    earliest_date: dt.date | None = None
    date_stencil: DateStencil = field(default_factory=lambda: DateStencil([0]))
    retry_delay: float = 60.0
    max_attempts: int = 5


@dataclass(frozen=True, kw_only=True)
class SensorSpec:
    """When the sensor checks the available dates, and the workflows it runs.

    `schedule` is a cron string, or None to run until nothing is due and then exit. `cdr_types` is None for all types.
    `interval_ends` is that of the stencils of all `triggers`.
    """

    schedule: str | None
    cdr_types: tuple[str, ...] | None
    triggers: tuple[TriggerSpec, ...]
    interval_ends: IntervalEnds = IntervalEnds.INCLUDED


@dataclass(frozen=True, kw_only=True)
class WorkflowsFile:
    """A whole workflows.yml."""

    workflows: tuple[WorkflowSpec, ...]
    sensor: SensorSpec

    def workflow(self, name: str) -> WorkflowSpec:
        """Return the workflow called `name`; raise AutoflowError if there is none."""
        found = {workflow.name: workflow for workflow in self.workflows}
        if name not in found:
            names = ", ".join(sorted(found))
            raise AutoflowError(f"there is no workflow '{name}' in workflows.yml, which defines {names}")
        return found[name]

    def triggers_of(self, workflow: str) -> list[TriggerSpec]:
        """Return the sensor's entries for the workflow of this name, in their order."""
        return [trigger for trigger in self.sensor.triggers if trigger.workflow.name == workflow]

    def default_trigger(self, workflow: WorkflowSpec) -> TriggerSpec:
        """Return the conditions of a workflow for which the sensor has no entry."""
        return TriggerSpec(workflow=workflow, date_stencil=DateStencil([0], self.sensor.interval_ends))

"""What a workflows.yml means: frozen values, valid from construction, without a trace of the YAML they came from."""

import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from autoflow.date_stencil import DateStencil
from autoflow.errors import AutoflowError

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""A value that strict JSON can hold: no NaN, no infinity, text keys only."""

CDR_TYPES = ("calls", "sms", "mds", "topups")
"""The types of CDR data that FlowAPI knows."""

SENSOR_PARAMETERS = frozenset({"reference_date", "date_ranges"})
"""Names that a notebook can use without the workflow's parameters giving them: they differ for each date."""

RESERVED_NAMES = SENSOR_PARAMETERS | {"flowapi_url"}
"""Names that neither a notebook's label nor a workflow's parameter may have."""


class ReportFormat(enum.StrEnum):
    """What an executed notebook can be converted to; the value is the file's suffix as well."""

    PDF = "pdf"
    HTML = "html"


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """Which reports are made of an executed notebook: at least one format, each once.

    `template` is the asciidoc template to use instead of AutoFlow's own; an absolute path.
    """

    formats: tuple[ReportFormat, ...]
    template: Path | None = None


@dataclass(frozen=True, kw_only=True)
class NotebookSpec:
    """A notebook of a workflow.

    `label` is what the other notebooks of the workflow call it. `path` is the absolute path of the notebook file.
    `parameters` maps the notebook's own parameter names to what fills them: a parameter of the workflow, the label
    of another notebook, or one of `RESERVED_NAMES`. `timeout` is for the whole notebook, in seconds.
    """

    label: str
    path: Path
    parameters: Mapping[str, str] = field(default_factory=dict)
    output: OutputSpec | None = None
    timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class WorkflowSpec:
    """A named set of notebooks, in an order in which each comes after those that it depends on."""

    name: str
    notebooks: tuple[NotebookSpec, ...]

    def __post_init__(self) -> None:
        """Refuse an order in which a notebook comes before one that it depends on."""
        seen: set[str] = set()
        for notebook in self.notebooks:
            if missing := self.dependencies(notebook) - seen:
                raise ValueError(f"notebook '{notebook.label}' comes before {sorted(missing)} on which it depends")
            seen.add(notebook.label)

    @cached_property
    def labels(self) -> frozenset[str]:
        """Labels of all notebooks."""
        return frozenset(notebook.label for notebook in self.notebooks)

    def dependencies(self, notebook: NotebookSpec) -> frozenset[str]:
        """Labels of the notebooks whose executed files `notebook` gets as parameters."""
        return self.labels.intersection(notebook.parameters.values())

    @property
    def parameter_names(self) -> frozenset[str]:
        """Names of the parameters that a run of this workflow has to be given, besides `RESERVED_NAMES`."""
        sources = {source for notebook in self.notebooks for source in notebook.parameters.values()}
        return frozenset(sources - self.labels - RESERVED_NAMES)


@dataclass(frozen=True, kw_only=True)
class TriggerSpec:
    """A workflow that the sensor runs for each new date, with the parameters that it runs it with.

    Dates before `earliest_date` (None: there is no bound) are left out. A run that failed is tried again after
    `retry_delay` seconds, which doubles with each failure, `max_attempts` times in all.
    """

    workflow: WorkflowSpec
    parameters: Mapping[str, Json] = field(default_factory=dict)
    earliest_date: dt.date | None = None
    date_stencil: DateStencil = field(default_factory=lambda: DateStencil([0]))
    retry_delay: float = 60.0
    max_attempts: int = 5


@dataclass(frozen=True, kw_only=True)
class SensorSpec:
    """When and for what the sensor looks at the available dates.

    `schedule` is a cron string, or None to run until nothing is due and then end. `cdr_types` is None for all types
    that FlowAPI has.
    """

    schedule: str | None
    cdr_types: tuple[str, ...] | None
    triggers: tuple[TriggerSpec, ...]


@dataclass(frozen=True, kw_only=True)
class WorkflowsFile:
    """All of a workflows.yml."""

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

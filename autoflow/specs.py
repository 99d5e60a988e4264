"""The contents of a workflows.yml as frozen values that are valid from construction, independent of YAML."""

import datetime as dt
import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from autoflow.dates.completeness import ALL_DAYS, Completeness
from autoflow.dates.deadlines import Deadline
from autoflow.dates.intervals import DateInterval, IntervalEnds
from autoflow.dates.periods import Every, period_of
from autoflow.dates.stencil import DateStencil, PeriodOffset
from autoflow.errors import AutoflowError

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
"""A value of strict JSON: no NaN, no infinity, text keys only."""

CDR_TYPES = ("calls", "sms", "mds", "topups")
"""The types of CDR data that FlowAPI knows."""

SENSOR_PARAMETERS = frozenset({"reference_date", "date_ranges"})
"""Automatic parameters that differ for each date."""

RESERVED_NAMES = SENSOR_PARAMETERS | {"flowapi_url"}
"""Names of automatic parameters, which no label and no parameter of a workflow may have."""

FOLDER_NAMES = frozenset({"run_dir", "shared_dir"})
"""Names of automatic parameters that are folders for the files of notebooks."""

RUN_DIRS = "run_dirs"
SHARED_DIRS = "shared_dirs"
"""The folders in the outputs folder that have the folders of runs, and those of entries."""

OVERRIDABLE_NAMES = frozenset({"missing_dates"}) | FOLDER_NAMES
"""Names of automatic parameters that give way to a label, or to a parameter of the workflow, with the same name."""

NO_TIMEOUT = math.inf
"""The timeout of a notebook without a limit."""


FOREVER = math.inf
"""Stands for outputs that are never deleted because of their age."""


class Order(enum.StrEnum):
    """The order in which the due dates of an entry run."""

    OLDEST_FIRST = "oldest_first"
    NEWEST_FIRST = "newest_first"


class OnChange(enum.StrEnum):
    """What happens when a day that a run has used arrives or changes after the run has started."""

    IGNORE = "ignore"
    NOTIFY = "notify"
    RERUN = "rerun"


DEFAULT_STENCIL = (PeriodOffset(0),)
"""The elements of the stencil of an entry that gives none, for periods longer than a day."""


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


@dataclass(frozen=True)
class PoolSpec:
    """A pool of notebooks, over all workflows, of which at most `size` run at a time."""

    name: str
    size: int


@dataclass(frozen=True, kw_only=True)
class NotebookSpec:
    """A notebook of a workflow.

    `label` is its name within the workflow. `path` is the absolute path of the notebook file. `parameters` maps the
    notebook's own parameter names to their sources: a parameter of the workflow, the label of another notebook, or an
    automatic parameter. `timeout` limits the whole notebook, in seconds: None stands for the timeout in the settings,
    `NO_TIMEOUT` for no limit. `memory` limits what it and all that it starts may use together, in bytes. `secrets` are
    the names of secrets that only notebooks that list them get; `hidden` are those that only others get.
    """

    label: str
    path: Path
    parameters: Mapping[str, str] = field(default_factory=dict)
    output: OutputSpec | None = None
    timeout: float | None = None
    memory: int | None = None
    pool: PoolSpec | None = None
    secrets: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class KeepSpec:
    """How many days after the end of a run its executed notebooks and its reports are kept.

    None stands for the number in the settings, `FOREVER` for no limit.
    """

    notebooks: float | None = None
    reports: float | None = None


@dataclass(frozen=True, kw_only=True)
class WorkflowSpec:
    """A named set of notebooks, each after those it depends on.

    `title` is its name for readers, by default `name`; `description` is a sentence for the index page. `keep` is how
    long its outputs are kept.
    """

    name: str
    notebooks: tuple[NotebookSpec, ...]
    title: str | None = None
    description: str | None = None
    keep: KeepSpec = field(default_factory=KeepSpec)

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
        """Names of the parameters that a run of this workflow needs, besides the automatic ones."""
        return frozenset(self._sources - RESERVED_NAMES - OVERRIDABLE_NAMES)

    @property
    def optional_names(self) -> frozenset[str]:
        """Names of the parameters that a run of this workflow can have instead of automatic ones."""
        return frozenset(self._sources & OVERRIDABLE_NAMES)

    @property
    def _sources(self) -> frozenset[str]:
        sources = {source for notebook in self.notebooks for source in notebook.parameters.values()}
        return frozenset(sources - self.labels)


@dataclass(frozen=True, kw_only=True)
class NotifySpec:
    """Who gets messages about an entry: names in AUTOFLOW_NOTIFY_URLS.

    `success` are those who get its reports, with the reports in the format `attach` as files, if it is not None.
    `failure` are those who are notified of failures; empty for the URLs without a name.
    """

    success: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()
    attach: ReportFormat | None = None


@dataclass(frozen=True, kw_only=True)
class TriggerSpec:
    """A workflow that the sensor runs for each new date, with its parameters.

    Which dates: it runs for the last day of each period of the kind `every` that lies wholly within `earliest_date` and
    `latest_date`, both included; None means no limit. With `after_previous`, a date waits until those before it are
    done.

    What they need: the days of `date_stencil`, as `needs` says. A day counts if any type of CDR has it; with
    `requires_all_of`, if each of these types has it.

    What follows: a failed run is retried after `retry_delay` seconds, which doubles with each failure, until there have
    been `max_attempts` attempts; with `resume`, it takes over notebooks that have not changed. `on_change` is what
    happens when a day that a run has used arrives or changes later. `notify` says who gets messages, also if a date is
    not done by its `deadline`.

    `label` distinguishes the entry from others of its workflow; `title` and `description` are for readers.
    """

    workflow: WorkflowSpec
    parameters: Mapping[str, Json] = field(default_factory=dict)
    every: Every = Every.DAY
    earliest_date: dt.date | None = None
    latest_date: dt.date | None = None
    order: Order = Order.OLDEST_FIRST
    after_previous: bool = False
    date_stencil: DateStencil = field(default_factory=lambda: DateStencil([0]))
    requires_all_of: tuple[str, ...] | None = None
    needs: Completeness = ALL_DAYS
    on_change: OnChange = OnChange.IGNORE
    deadline: Deadline | None = None
    notify: NotifySpec = NotifySpec()
    retry_delay: float = 60.0
    max_attempts: int = 5
    resume: bool = False
    label: str | None = None
    title: str | None = None
    description: str | None = None

    def __post_init__(self) -> None:
        """Check that the stencil counts in the same periods."""
        if self.date_stencil.every is not self.every:
            raise ValueError(f"the stencil counts every {self.date_stencil.every}, not every {self.every}")

    @property
    def shown_title(self) -> str:
        """The title for readers: its own, that of the workflow, or the workflow's name."""
        return self.title or self.workflow.title or self.workflow.name

    def period(self, date: dt.date) -> DateInterval:
        """Return the period that ends on `date`; ValueError beyond the calendar."""
        return period_of(date, self.every)

    def is_too_early(self, date: dt.date) -> bool:
        """Return whether the period that ends on `date` starts before `earliest_date`."""
        if self.earliest_date is None or date < self.earliest_date:
            return self.earliest_date is not None
        return self.every is not Every.DAY and self.period(date).start < self.earliest_date

    def is_too_late(self, date: dt.date) -> bool:
        """Return whether `date` is after `latest_date`."""
        return self.latest_date is not None and date > self.latest_date


@dataclass(frozen=True, kw_only=True)
class SensorSpec:
    """When the sensor checks the available dates, and the workflows it runs.

    `schedule` is a cron string, or None to run until nothing is due and then exit. `timezone` is the IANA name of the
    time zone of the schedule, in which days end, too. `cdr_types` is None for all types. `interval_ends` is that of the
    stencils of all `triggers`.
    """

    schedule: str | None
    cdr_types: tuple[str, ...] | None
    triggers: tuple[TriggerSpec, ...]
    interval_ends: IntervalEnds = IntervalEnds.INCLUDED
    timezone: str = "UTC"


@dataclass(frozen=True)
class Finding:
    """Something in a valid workflows.yml, or its notebooks, that a person should look at.

    `text` is one line: ``FILE:LINE: PLACE: what it is; what to do``. With `fails_runs`, a notebook cannot run as it is,
    which does not keep other workflows from running.
    """

    text: str
    fails_runs: bool = False


@dataclass(frozen=True, kw_only=True)
class WorkflowsFile:
    """A whole workflows.yml, and the `findings` in it, in the order of the file."""

    workflows: tuple[WorkflowSpec, ...]
    sensor: SensorSpec
    findings: tuple[Finding, ...] = field(default=(), compare=False)

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

"""What `autoflow try` executes: one notebook as a workflow would, perhaps after those that it depends on."""

import datetime
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from autoflow.cluster.work import Work
from autoflow.dates.periods import Every, describe_period
from autoflow.errors import AutoflowError
from autoflow.notebooks.executed import ExecutedNotebook
from autoflow.notebooks.reading import InvalidNotebookError, declared_parameters
from autoflow.notebooks.sources import source_as_json
from autoflow.runs.records import WorkflowKey
from autoflow.runs.requests import date_ranges
from autoflow.runs.run import named_entry
from autoflow.settings import Settings
from autoflow.specs import (
    FOLDER_NAMES,
    OVERRIDABLE_NAMES,
    SENSOR_PARAMETERS,
    Json,
    NotebookSpec,
    TriggerSpec,
    WorkflowsFile,
)
from autoflow.utils import name_part

DATED = SENSOR_PARAMETERS | OVERRIDABLE_NAMES - FOLDER_NAMES
"""The automatic parameters whose values depend on the date."""


@dataclass(frozen=True)
class Use:
    """A notebook in an entry of the sensor, or in a workflow without one, for which the defaults stand."""

    trigger: TriggerSpec
    notebook: NotebookSpec

    @property
    def entry(self) -> str:
        """The name of the entry: WORKFLOW or WORKFLOW:LABEL."""
        return named_entry(self.trigger.workflow.name, self.trigger.label)

    @cached_property
    def upstream(self) -> Sequence[NotebookSpec]:
        """The notebooks that it depends on, also through others, in the order in which they run."""
        workflow = self.trigger.workflow
        needed = {self.notebook.label}
        for notebook in reversed(workflow.notebooks):
            if notebook.label in needed:
                needed |= workflow.dependencies(notebook)
        return [each for each in workflow.notebooks if each.label in needed and each is not self.notebook]


def uses_of(notebook: Path, file: WorkflowsFile) -> Iterator[Use]:
    """Yield each use of a notebook in a workflows.yml, in its order."""
    for workflow in file.workflows:
        for spec in workflow.notebooks:
            if spec.path.resolve() == notebook.resolve():
                triggers = file.triggers_of(workflow.name) or [file.default_trigger(workflow)]
                yield from (Use(trigger, spec) for trigger in triggers)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A notebook to try, with what is known about its parameters.

    `use` is None if no workflow uses it. `given` are values from the command line, by their names in the notebook or in
    the workflow. Without a `date`, parameters that depend on it keep their defaults. Notebooks do not get the settings
    that are `unset`, and FLOWAPI_URL not as a parameter either.
    """

    notebook: Path
    use: Use | None = None
    given: Mapping[str, Json] = field(default_factory=dict)
    date: datetime.date | None = None
    missing_dates: Sequence[datetime.date] = ()
    unset: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the given values.

        Raises
        ------
        AutoflowError
            If a parameter is unknown.

        """
        takes = self._names
        if takes is None:
            return
        for name in self.given:
            if name not in takes:
                known = ", ".join(sorted(takes)) or "none"
                raise AutoflowError(f"{self.notebook.name} has no parameter '{name}'; it has: {known}")

    @property
    def _names(self) -> Collection[str] | None:
        """The names of parameters that can be given; None if they are not known."""
        if self.use:
            return {*self.use.notebook.parameters, *self.use.trigger.workflow.parameter_names}
        try:
            return declared_parameters(self.notebook).names
        except (InvalidNotebookError, OSError):
            return None  # it is reported when the notebook is executed

    @property
    def label(self) -> str:
        """The name of the notebook: its label in the workflow, or that of the file."""
        return self.use.notebook.label if self.use else self.notebook.stem

    def sources(self, *, with_upstream: bool) -> Iterator[Path]:
        """Yield the notebooks that are executed, and the modules beside them that they import."""
        upstream = self.use.upstream if self.use and with_upstream else ()
        for notebook in (self.notebook, *(each.path for each in upstream)):
            yield notebook
            yield from (notebook.parent / name for name in source_as_json(notebook).get("modules", ()))

    def needs_date(self, *, with_upstream: bool) -> bool:
        """Return whether a notebook that is executed has a parameter that depends on the date."""
        notebooks = [] if self.use is None else [self.use.notebook, *(self.use.upstream if with_upstream else ())]
        given = self.given.keys()
        sources = {
            source
            for notebook in notebooks
            for name, source in notebook.parameters.items()
            if source not in given and not (notebook is notebooks[0] and name in given)
        }
        own = {*self.use.trigger.parameters, *self.use.trigger.workflow.labels} if self.use else set[str]()
        return bool(sources & (DATED - own))

    def works(self, settings: Settings, *, with_upstream: bool, executed: Mapping[str, Path]) -> list[Work]:
        """Return what is to be executed, in order.

        `executed` are executed copies of the notebooks that it depends on, by label, for those that are not executed.
        """
        if self.use is None:
            return [self._alone(settings)]
        notebooks = [*(self.use.upstream if with_upstream else ()), self.use.notebook]
        return [self._work(notebook, self.use, settings, executed) for notebook in notebooks]

    def _alone(self, settings: Settings) -> Work:
        return Work(
            label=self.label,
            notebook=self.notebook,
            sources={name: name for name in self.given},
            values=self.given,
            upstream={},
            stem=name_part(self.label),
            timeout=settings.notebook_timeout,
            report_timeout=settings.report_timeout,
            hidden=tuple(self.unset),
        )

    def _work(self, notebook: NotebookSpec, use: Use, settings: Settings, executed: Mapping[str, Path]) -> Work:
        workflow, output = use.trigger.workflow, notebook.output
        values = self._values(use.trigger)
        upstream = {
            label: str(executed.get(label, f"{name_part(label)}.ipynb")) for label in workflow.dependencies(notebook)
        }
        automatic = FOLDER_NAMES if "FLOWAPI_URL" in self.unset else {"flowapi_url", *FOLDER_NAMES}
        sources = {
            name: source for name, source in notebook.parameters.items() if source in {*values, *upstream, *automatic}
        }
        if notebook is use.notebook:
            # Names of the notebook come before those of the workflow.
            own = {f"-p {name}": value for name, value in self.given.items() if name in notebook.parameters}
            values, sources = values | own, sources | {name.removeprefix("-p "): name for name in own}
        return Work(
            label=notebook.label,
            notebook=notebook.path,
            sources=sources,
            values=values,
            upstream=upstream,
            stem=name_part(notebook.label),
            timeout=settings.notebook_timeout if notebook.timeout is None else notebook.timeout,
            report_timeout=settings.report_timeout,
            formats=output.formats if output else (),
            template=output.template if output else None,
            title=use.trigger.shown_title,
            dates=describe_period(self.date, use.trigger.every) if self.date else "",
            memory=notebook.memory,
            secrets=notebook.secrets,
            hidden=(*notebook.hidden, *self.unset),
            folders={name: name for name in FOLDER_NAMES & {*sources.values()} - {*values, *upstream}},
        )

    def _values(self, trigger: TriggerSpec) -> dict[str, Json]:
        """Return the values by their names in workflows.yml."""
        values: dict[str, Any] = {}
        if self.date:
            values["missing_dates"] = [date.isoformat() for date in self.missing_dates]
        values |= trigger.parameters
        values |= {name: value for name, value in self.given.items() if name in trigger.workflow.parameter_names}
        if self.date:
            ranges = date_ranges(trigger, self.date)
            values |= {
                "reference_date": self.date.isoformat(),
                "date_ranges": [list(interval.as_strings()) for interval in ranges],
            }
        return values


def newest_executed(use: Use, folder: Path | None, date: datetime.date | None) -> dict[str, Path]:
    """Return the newest executed copy in `folder` of each notebook that one depends on directly.

    Copies of the same entry come before those of others of its workflow, and those of `date` before those of other
    dates. Copies of notebooks that failed or skipped the run do not count.

    Raises
    ------
    AutoflowError
        If there is none.

    """
    return {
        label: _newest_executed(use, label, folder, date)
        for label in sorted(use.trigger.workflow.dependencies(use.notebook))
    }


def _newest_executed(use: Use, label: str, folder: Path | None, date: datetime.date | None) -> Path:
    own = WorkflowKey.of_trigger(use.trigger)
    kept = list[tuple[bool, bool, float, Path]]()
    for path in folder.glob(f"*__{name_part(label)}__*.ipynb") if folder else ():
        if name := _name_of_executed(use.trigger.workflow.name, label).fullmatch(path.name):
            every = name["every"] or Every.DAY.value
            is_own = (every, name["parameters"]) == (own.every.value, own.parameters_hash[:8])
            is_of_date = date is not None and name["date"] == date.isoformat()
            kept.append((is_own, is_of_date, path.stat().st_mtime, path))
    for *_, path in sorted(kept, reverse=True):
        if (executed := ExecutedNotebook.read(path)) and executed.is_complete:
            return path
    place = f" in {folder}" if folder else " (AUTOFLOW_OUTPUTS_DIR is not set)"
    raise AutoflowError(
        f"there is no executed copy of '{label}', which '{use.notebook.label}' depends on{place}: add --with-upstream"
    )


def _name_of_executed(workflow: str, label: str) -> re.Pattern[str]:
    """Return the pattern for the names of executed copies of a notebook, of all entries of its workflow."""
    start = rf"{re.escape(name_part(workflow))}(--.+?)?__{re.escape(name_part(label))}"
    return re.compile(
        start + r"__(?P<date>\d{4}-\d\d-\d\d)(__(?P<every>[a-z]+))?__(?P<parameters>[0-9a-f]{8})__[^_]+\.ipynb"
    )

"""A run: a workflow for a date, the outputs of its notebooks, and how it ended."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoflow.dates.intervals import DateInterval
from autoflow.dates.periods import Every, describe_period
from autoflow.errors import AutoflowError, NotebookError, RunSkipped, RunStopped
from autoflow.runs.checks import Checks, warnings_of
from autoflow.runs.records import RunKey, RunState
from autoflow.runs.retries import RetryPolicy
from autoflow.specs import Json, WorkflowSpec


@dataclass(frozen=True, kw_only=True)
class WorkflowRun:
    """A workflow to run for a date, the last day of a period of the kind `every`.

    `date_ranges` are the dates of its stencil; `missing_dates` are those of them that are not available, sorted. The
    date has failed `failures` times before. `retry` is its policy; None if a user requested the run. `is_rerun`: the
    date is done, and is run again because the days `changed`, which it used, have changed. `label` and `title` are
    those of the entry, and `entry` is its name for people where the label is not enough. `is_try_out`: a user has
    started the run with parameters that no entry has. With `resume`, it takes over the notebooks of the attempt before
    it that have not changed.
    """

    workflow: WorkflowSpec
    parameters: Mapping[str, Json]
    reference_date: datetime.date
    date_ranges: Sequence[DateInterval]
    every: Every = Every.DAY
    missing_dates: Sequence[datetime.date] = ()
    failures: int = 0
    retry: RetryPolicy | None = None
    is_rerun: bool = False
    label: str | None = None
    title: str | None = None
    entry: str | None = None
    changed: Sequence[datetime.date] = ()
    is_try_out: bool = False
    resume: bool = False

    @property
    def key(self) -> RunKey:
        """The key of the run in the run store."""
        return RunKey.of(self.workflow.name, self.parameters, self.reference_date, self.every)

    def __str__(self) -> str:
        """Return the name of the run in messages."""
        entry = self.entry or named_entry(self.workflow.name, self.label)
        return f"{entry} {describe_period(self.reference_date, self.every)}"

    @property
    def dates_text(self) -> str:
        """The period of the run for readers, and how many of its days are missing."""
        period = describe_period(self.reference_date, self.every)
        if not self.missing_dates:
            return period
        days = len({day for interval in self.date_ranges for day in interval.dates()})
        return f"{period}, {len(self.missing_dates)} of {days} days missing"


def named_entry(workflow: str, label: str | None) -> str:
    """Return the name of an entry in messages: that of the workflow, with the label if it has one."""
    return f"{workflow}:{label}" if label else workflow


@dataclass(frozen=True)
class NotebookOutputs:
    """The files that a notebook produced: the executed notebook and its reports."""

    executed: Path
    reports: tuple[Path, ...] = ()


def executed_notebooks(outputs: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Return the executed notebooks among recorded outputs; those that are no longer kept are missing."""
    return [Path(each["notebook"]) for each in outputs if "notebook" in each]


@dataclass
class Outcome:
    """Outputs and errors of the notebooks of a run, by label; a notebook without either was not run.

    `sources` has what each of them is made from, see `NotebookSource`; `seconds` is how long each took with its
    reports; `checks` are those that ran in each. `taken_over` has the numbers of the runs from which executed notebooks
    were taken over.
    """

    outputs: dict[str, NotebookOutputs] = field(default_factory=dict)
    errors: dict[str, AutoflowError] = field(default_factory=dict)
    sources: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    checks: dict[str, Checks] = field(default_factory=dict)
    taken_over: dict[str, int] = field(default_factory=dict)

    @property
    def executed_seconds(self) -> Mapping[str, float]:
        """How long each notebook took that was executed and not taken over."""
        return {label: seconds for label, seconds in self.seconds.items() if label not in self.taken_over}

    @property
    def was_stopped(self) -> bool:
        """Whether a notebook was stopped before its end."""
        return any(isinstance(error, RunStopped) for error in self.errors.values())

    @property
    def error(self) -> AutoflowError | None:
        """Why the run ended early: a failure rather than a skip, and a skip rather than a notebook that was stopped."""
        order = (RunStopped, RunSkipped)
        return min(self.errors.values(), key=lambda error: [isinstance(error, kind) for kind in order], default=None)

    @property
    def warnings(self) -> list[str]:
        """The checks that failed as warnings, in a line each."""
        return warnings_of({label: each.as_json() for label, each in self.checks.items()})

    @property
    def skip(self) -> RunSkipped | None:
        """The end of a notebook that has skipped the run; None if none has, or another one has failed."""
        error = self.error
        return error if isinstance(error, RunSkipped) else None

    def drop_reports(self) -> list[Path]:
        """Forget the reports, and return them: a run that was skipped has none."""
        reports = [path for each in self.outputs.values() for path in each.reports]
        self.outputs = {label: NotebookOutputs(each.executed) for label, each in self.outputs.items()}
        return reports


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    """A run that has ended, for those that follow runs; it took `seconds`."""

    run: WorkflowRun
    state: RunState
    outcome: Outcome
    seconds: float = 0.0

    @property
    def is_given_up(self) -> bool:
        """Whether it failed and is not retried. A requested run is never given up: the user sees its error."""
        retry = self.run.retry
        return self.state.is_failure and retry is not None and not retry.has_attempts_left(self.run.failures + 1)

    @property
    def paths(self) -> list[Path]:
        """The files for readers: the reports or, if there are none, the executed notebooks."""
        outputs = self.outcome.outputs.values()
        return [path for each in outputs for path in each.reports] or [each.executed for each in outputs]

    @property
    def failed_notebooks(self) -> list[Path]:
        """The executed notebooks that failed."""
        return [self.outcome.outputs[label].executed for label in self.outcome.errors if label in self.outcome.outputs]

    @property
    def failed_cells(self) -> list[tuple[Path, int]]:
        """The executed notebooks with a cell that failed, each with the number of that cell."""
        errors = self.outcome.errors.items()
        cells = {label: error.cell for label, error in errors if isinstance(error, NotebookError) and error.cell}
        outputs = self.outcome.outputs
        return [(outputs[label].executed, cell) for label, cell in cells.items() if label in outputs]


def check_parameters(workflow: WorkflowSpec, parameters: Mapping[str, Json]) -> None:
    """Raise AutoflowError unless `parameters` has exactly the parameters that `workflow` takes."""
    if wrong := sorted((parameters.keys() - workflow.optional_names) ^ workflow.parameter_names):
        raise AutoflowError(
            f"workflow '{workflow.name}' takes the parameters {sorted(workflow.parameter_names)}; "
            f"missing or too many: {', '.join(wrong)}"
        )

"""What a run is: a workflow for a date, what its notebooks leave, and how it ends."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoflow.date_stencil import DateInterval
from autoflow.errors import AutoflowError, RunStopped
from autoflow.runs.records import RunKey, RunState
from autoflow.runs.retries import RetryPolicy
from autoflow.specs import Json, WorkflowSpec


@dataclass(frozen=True, kw_only=True)
class WorkflowRun:
    """A workflow to run for a date. `date_ranges` is what the stencil stands for on that date, ends included.

    It has failed `failures` times before. `retry` tells what to expect if it fails again.
    """

    workflow: WorkflowSpec
    parameters: Mapping[str, Json]
    reference_date: datetime.date
    date_ranges: Sequence[DateInterval]
    failures: int = 0
    retry: RetryPolicy | None = None

    @property
    def key(self) -> RunKey:
        """What identifies the run in the run store."""
        return RunKey.of(self.workflow.name, self.parameters, self.reference_date)

    def __str__(self) -> str:
        """Name the run for people."""
        return str(self.key)


@dataclass(frozen=True)
class NotebookOutputs:
    """What a notebook left: itself, executed, and its reports."""

    executed: Path
    reports: tuple[Path, ...] = ()


@dataclass
class Outcome:
    """How the notebooks of a run went, by their labels; a notebook that is in none of these was not run."""

    outputs: dict[str, NotebookOutputs] = field(default_factory=dict)
    errors: dict[str, AutoflowError] = field(default_factory=dict)

    @property
    def error(self) -> AutoflowError | None:
        """What to blame a failed run on: a real failure rather than what was stopped."""
        return min(self.errors.values(), key=lambda error: isinstance(error, RunStopped), default=None)


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    """How a run ended, for those who follow runs."""

    run: WorkflowRun
    state: RunState
    outcome: Outcome

    @property
    def is_given_up(self) -> bool:
        """Whether it failed, and is not tried again; what a person asked for, who looks, is never given up."""
        retry = self.run.retry
        return self.state is RunState.FAILED and retry is not None and retry.delay(self.run.failures + 1) is None

    @property
    def paths(self) -> list[Path]:
        """The files for people to look at: the reports or, if there are none, the executed notebooks."""
        outputs = self.outcome.outputs.values()
        return [path for each in outputs for path in each.reports] or [each.executed for each in outputs]

    @property
    def failed_notebooks(self) -> list[Path]:
        """The executed files of the notebooks that failed."""
        return [self.outcome.outputs[label].executed for label in self.outcome.errors if label in self.outcome.outputs]


def check_parameters(workflow: WorkflowSpec, parameters: Mapping[str, Json]) -> None:
    """Raise AutoflowError unless `parameters` are those that `workflow` takes."""
    if wrong := sorted(parameters.keys() ^ workflow.parameter_names):
        raise AutoflowError(
            f"workflow '{workflow.name}' takes the parameters {sorted(workflow.parameter_names)}; "
            f"missing or too many: {', '.join(wrong)}"
        )

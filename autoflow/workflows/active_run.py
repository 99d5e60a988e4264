"""A run in progress: from its claim to its recorded end."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.client.schemas.objects import FlowRun

from autoflow.dates.periods import Every
from autoflow.errors import (
    AutoflowError,
    NoRoomError,
    NotebookError,
    RunSkipped,
    RunStopped,
    RunStoreError,
    RunStoreGoneError,
    WorkerLostError,
)
from autoflow.model.checks import record_run_checks
from autoflow.model.provenance import Provenance
from autoflow.model.store import RunStore
from autoflow.notebooks.sources import installed_packages, made_from
from autoflow.orchestration.cancellation import Watched
from autoflow.orchestration.flow_runs import FlowRuns
from autoflow.runs.records import Claim, RunError, RunState
from autoflow.runs.run import Outcome, WorkflowRun
from autoflow.specs import Json
from autoflow.system.log import Outage, logger
from autoflow.system.stop_signal import Shutdown, StopSignal
from autoflow.utils import first_line, thumbnail_path
from autoflow.workflows.resume import Continuation

if TYPE_CHECKING:
    import prefect

RECORD_RETRY_SECONDS = 2.0
"""The pause before another attempt to record the end of a run in a database that does not respond."""


class PrefectGoneError(AutoflowError):
    """Prefect did not let a run continue to its end."""


@dataclass(frozen=True)
class End:
    """The state in which a run ended, with the error if it did not succeed; it also says why a run was skipped."""

    state: RunState
    error: RunError | None = None


@dataclass(kw_only=True)
class ActiveRun:
    """A claimed run whose notebooks are about to run, and whose end is recorded once they have.

    Three nested signals stop it, for different reasons: `cancel` when someone cancels what the run is part of,
    `watched.stop` when someone cancels the run itself, in Prefect or with 'autoflow cancel', `stop` when its claim is
    lost. `shutdown` stops them all. `was_cancelled` is whether the run had been cancelled when its notebooks ended.
    `end` is None until the end has been recorded. `is_lost`: it cannot be, because the database is gone.
    """

    run: WorkflowRun
    claim: Claim
    store: RunStore
    shutdown: Shutdown
    cancel: StopSignal
    watched: Watched
    inputs_dir: Path
    continuation: Continuation
    stop: StopSignal = field(init=False)
    outcome: Outcome = field(default_factory=Outcome)
    was_cancelled: bool = False
    end: End | None = None
    is_lost: bool = False

    def __post_init__(self) -> None:
        """Make the signal for the loss of the claim."""
        self.stop = StopSignal(self.watched.stop)

    def execute(
        self, workflow: "prefect.Flow[[str, list[list[str]], dict[str, Any]], Any]", flow_runs: FlowRuns
    ) -> None:
        """Run the notebooks as the flow `workflow`, which calls `record_if_complete`, and record the end."""
        workflow.on_running(self._flow_run_started)
        label = (self.run.label,) if self.run.label else ()
        every = () if self.run.every is Every.DAY else (self.run.every.value,)
        tags = (self.run.workflow.name, *label, *every, self.run.reference_date.isoformat())
        problem: Exception | None = None
        try:
            flow_runs.run(workflow, self._flow_parameters(), name=str(self.run), tags=tags)
        except Exception as error:  # noqa: BLE001 - whatever Prefect raises, the run has ended and has to be recorded
            problem = error
        if self.end is None and not self.is_lost and not self.has_lost_worker:
            self._record(self._or_cancelled(self._judged(problem)))

    def record_if_complete(self) -> None:
        """Record the end of the notebooks before Prefect learns of it, unless someone may have cancelled them.

        That is decided at the end of the flow: it may take a query to Prefect, which may not respond.
        """
        # Later, the flow is shown as cancelled in Prefect for other reasons, too.
        self.was_cancelled = self.cancel.is_set_directly or self.watched.stop.is_set_directly
        if self.has_lost_worker:
            self._have_cancelled_at_expiry()
            return
        end = self._judged()
        if self._is_stopped_by_us or not self._was_perhaps_cancelled(end):
            self._record(self._or_cancelled(end))

    @property
    def has_lost_worker(self) -> bool:
        """Whether a kernel may still be alive on a worker that is lost: the claim has to expire, unrecorded."""
        return any(isinstance(error, WorkerLostError) for error in self.outcome.errors.values())

    def _have_cancelled_at_expiry(self) -> None:
        """Have the run marked as cancelled when its claim expires, if someone has cancelled it."""
        if self.was_cancelled:
            try:
                self.store.ask_to_cancel(self.claim.id)
            except RunStoreError as error:
                logger.debug("%s", error)

    def _flow_parameters(self) -> Mapping[str, Any]:
        return {
            "reference_date": self.run.reference_date.isoformat(),
            "date_ranges": [list(interval.as_strings()) for interval in self.run.date_ranges],
            "parameters": dict(self.run.parameters),
        }

    def _flow_run_started(self, flow: object, flow_run: FlowRun, state: object) -> None:  # noqa: ARG002 - Prefect's hook
        self.watched.is_run_by(flow_run.id)
        # In the background: it only helps users to find the run in Prefect, and must not delay or fail the run.
        threading.Thread(target=self._record_flow_run, args=[str(flow_run.id)], daemon=True).start()

    def _record_flow_run(self, flow_run_id: str) -> None:
        try:
            self.store.name_flow_run(self.claim, flow_run_id)
        except RunStoreError as error:
            logger.debug("%s", error)

    def _judged(self, problem: Exception | None = None) -> End:
        """Return how the notebooks ended; as interrupted if a process died while AutoFlow is shutting down.

        A service manager may send SIGTERM to kernels and converters as well.
        """
        end, error = judge(self.run, self.outcome, problem), self.outcome.error
        if end.state.is_failure and error and error.is_death and self.shutdown.is_closing:
            return End(RunState.INTERRUPTED, RunError("Interrupted", f"AutoFlow was stopped: {error}"))
        return end

    def _was_perhaps_cancelled(self, end: End) -> bool:
        """Return whether the run ended early, and not only because a notebook failed."""
        is_stopped = end.state.is_stopped or self.outcome.was_stopped
        return not end.state.is_success and (is_stopped or self.was_cancelled)

    @property
    def _is_stopped_by_us(self) -> bool:
        """Whether AutoFlow has stopped the run, because it shuts down or has lost the claim."""
        return self.shutdown.stop.is_set or self.stop.is_set_directly

    def _or_cancelled(self, end: End) -> End:
        """Return `end`, or the end of a cancelled run if someone cancelled it."""
        if not self._was_perhaps_cancelled(end):
            return end
        # A run that AutoFlow stops itself is shown as cancelled in Prefect, too.
        if self.was_cancelled or (
            not self._is_stopped_by_us and (self.cancel.is_set_directly or self.watched.is_cancelled)
        ):
            return End(RunState.CANCELLED, RunError("Cancelled", self.watched.stop.reason))
        return end

    def _record_sources(self) -> None:
        """Record what the notebooks were made from if possible; the end of the run is recorded even if it is not."""
        sources = self.outcome.sources
        if not sources:
            return
        content = {**made_from(self.inputs_dir, {}), "notebooks": sources}
        try:
            Provenance(self.store.database).record(self.claim.id, content, installed_packages())
        except RunStoreError as error:
            logger.debug("%s", error)

    def _record(self, end: End) -> None:
        """Record the end as soon as the run store responds, so that no work is lost; give up if AutoFlow stops."""
        self._record_sources()
        self.outcome.taken_over.update(self.continuation.taken_over)
        if end.state.is_skip:
            for report in self.outcome.drop_reports():
                _delete(report)
        outputs, outage = _outputs_as_json(self.outcome), Outage()
        while self.end is None:
            try:
                record_run_checks(self.store.database, self.claim.id, self.outcome.checks)
                if not self.store.finish(self.claim, end.state, outputs=outputs, error=end.error):
                    logger.warning("%s ended as %s after its claim was marked as crashed", self.run, end.state)
            except RunStoreGoneError as problem:
                outage.begin("%s ended as %s: %s", self.run, end.state, problem)
                self.is_lost = True
                return
            except RunStoreError as problem:
                outage.begin("%s ended as %s, could not record it yet: %s", self.run, end.state, problem)
                if self.shutdown.stop.wait(RECORD_RETRY_SECONDS):
                    return
            else:
                self.end = end
                outage.end("recorded that %s ended as %s", self.run, end.state)


def _delete(report: Path) -> None:
    """Delete a report with its thumbnail; one that cannot be deleted is of no harm."""
    for path in (report, thumbnail_path(report)):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("could not delete %s: %s", path, error.strerror)


def judge(run: WorkflowRun, outcome: Outcome, problem: Exception | None = None) -> End:
    """Return how a run ended: according to its notebooks if all of them ran, otherwise as interrupted by `problem`."""
    error = outcome.error
    if isinstance(error, RunSkipped):
        return End(RunState.SKIPPED, RunError("Skipped", error.why, error.notebook, error.cell))
    if isinstance(error, RunStopped | NoRoomError):
        return End(RunState.INTERRUPTED, RunError("Interrupted", str(error)))
    if isinstance(error, NotebookError):
        reason = RunError(error.error_class, error.error_message, error.notebook, error.cell, error.code)
        return End(RunState.FAILED, reason)
    if error:
        return End(RunState.FAILED, RunError(type(error).__name__, str(error)))
    if len(outcome.outputs) < len(run.workflow.notebooks):
        problem = problem or PrefectGoneError("it did not run all notebooks")
        message = f"the Prefect API failed: {first_line(problem)}"
        return End(RunState.INTERRUPTED, RunError(type(problem).__name__, message))
    return End(RunState.SUCCEEDED)


def _outputs_as_json(outcome: Outcome) -> dict[str, Json]:
    return {
        label: {"notebook": str(outputs.executed), "reports": [str(path) for path in outputs.reports]}
        for label, outputs in sorted(outcome.outputs.items())
    }

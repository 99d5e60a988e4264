"""Executes runs, each once: claim, heartbeat, notebooks, record."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefect.client.schemas.objects import FlowRun

from autoflow.errors import AutoflowError, NotebookError, RunStopped, RunStoreError
from autoflow.kernels.fork_server import ForkServer
from autoflow.log import logger
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.orchestration.cancellation import Cancellations, Watched
from autoflow.orchestration.flow_runs import FlowRuns
from autoflow.runs.records import Claim, RunError, RunState
from autoflow.runs.run import EndedRun, Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import Json
from autoflow.stop_signal import Shutdown, StopSignal
from autoflow.utils import first_line
from autoflow.workflows.flow import Progress, make_notebooks_workflow

if TYPE_CHECKING:
    import prefect

RECORD_RETRY_SECONDS = 2.0
"""How long to wait before the end of a run is recorded again in a database that is gone."""


SLOT_POLL_SECONDS = 0.5
"""How often a run that waits for room looks whether it is still wanted."""


@dataclass(frozen=True, kw_only=True)
class WorkflowRunner:
    """Runs workflows, each once: with a claim in the run store, a heartbeat, and a record of the end.

    As many go side by side as there are `slots`, one by default, whoever asks for them; more wait. `cancellations` stop
    a run that somebody cancels in Prefect. Each of `followers` is told of every end, in the
    thread of the run: it has to be quick. Kernels start sooner if there is a `fork_server`.
    """

    settings: Settings
    store: RunStore
    heartbeat: Heartbeat
    cancellations: Cancellations = field(default_factory=Cancellations)
    slots: threading.Semaphore = field(default_factory=threading.Semaphore)
    followers: Sequence[Callable[[EndedRun], None]] = ()
    fork_server: ForkServer | None = None
    flow_runs: FlowRuns = field(default_factory=FlowRuns)

    def run(
        self,
        run: WorkflowRun,
        *,
        shutdown: Shutdown,
        again: bool = False,
        progress: Progress | None = None,
        cancel: StopSignal | None = None,
    ) -> RunState | None:
        """Run `run` unless it is done or running elsewhere; return its state at the end, or None if it was not run.

        With `again`, it is run also if it is done. `progress` is told of each cell. `cancel`, a child of the
        shutdown's signal, is set when somebody cancels what the run is a part of.

        Raises
        ------
        RunStoreError
            If no claim could be made because the run store cannot be reached.

        """
        cancel = cancel or StopSignal(shutdown.stop)
        with self._slot(shutdown, cancel) as is_free:
            if not is_free or (claim := self.store.claim(run.key, again=again)) is None:
                return None
            return self._run(run, claim, shutdown, cancel, progress)

    @contextmanager
    def _slot(self, shutdown: Shutdown, cancel: StopSignal) -> Iterator[bool]:
        """Wait until there is room for one more run, and keep it for the block; yield False if there is to be none."""
        is_free = False
        while not (shutdown.is_closing or cancel.is_set or is_free):
            is_free = self.slots.acquire(timeout=SLOT_POLL_SECONDS)
        try:
            yield is_free and not shutdown.is_closing
        finally:
            if is_free:
                self.slots.release()

    def _run(
        self, run: WorkflowRun, claim: Claim, shutdown: Shutdown, cancel: StopSignal, progress: Progress | None
    ) -> RunState:
        logger.info("started %s%s", run, f" (attempt {claim.attempt})" if claim.attempt > 1 else "")
        started = time.monotonic()
        if self.fork_server:
            self.fork_server.warm_up(self.settings.kernel_environ)
        outcome = Outcome()
        with self.cancellations.of(StopSignal(cancel)) as watched:
            stop = StopSignal(watched.stop)
            ended: list[tuple[RunState, RunError | None]] = []

            def record_unless_stopped() -> None:
                state, error = _judge(run, outcome, None)
                if not state.is_stopped and self._record(claim, state, outcome, error, shutdown.stop):
                    ended.append((state, error))

            with self.heartbeat.of(claim, stop):
                workflow = make_notebooks_workflow(
                    run,
                    self.settings,
                    outcome=outcome,
                    stop=stop,
                    progress=progress,
                    fork_server=self.fork_server,
                    # Not only at the end of the flow, for which Prefect has to answer.
                    done=record_unless_stopped,
                )
                problem = self._run_flow(workflow, run, claim, watched)
                if not ended:
                    state, error = _judge(run, outcome, problem)
                    # A run that we stop ourselves is shown as cancelled in Prefect, too.
                    stopped_by_us = shutdown.stop.is_set or stop.wait(0)
                    if state.is_stopped and not stopped_by_us and (cancel.wait(0) or watched.is_cancelled):
                        state, error = RunState.CANCELLED, RunError("Cancelled", watched.stop.reason)
                    if self._record(claim, state, outcome, error, shutdown.stop):
                        ended.append((state, error))
        if not ended:
            logger.error("the end of %s could not be recorded: it will be taken for crashed, and run again", run)
            return RunState.INTERRUPTED
        [(state, error)] = ended
        _log_end(run, state, outcome, error, seconds=time.monotonic() - started)
        self._tell_followers(EndedRun(run=run, state=state, outcome=outcome))
        return state

    def _tell_followers(self, ended: EndedRun) -> None:
        for follower in self.followers:
            follower(ended)

    def _run_flow(
        self,
        workflow: "prefect.Flow[[str, list[list[str]], dict[str, Any]], Any]",
        run: WorkflowRun,
        claim: Claim,
        watched: Watched,
    ) -> Exception | None:
        """Run the flow; return what Prefect raised, if its API was gone for instance."""
        ranges = [list(interval.as_strings()) for interval in run.date_ranges]

        @workflow.on_running
        def remember(flow: object, flow_run: FlowRun, state: object) -> None:  # noqa: ARG001 - Prefect's signature
            watched.is_run_by(flow_run.id)
            # Not in the way of the run, if it cannot be written: it is only for people to find it in Prefect.
            threading.Thread(target=self._name_flow_run, args=(claim, str(flow_run.id)), daemon=True).start()

        parameters = {
            "reference_date": run.reference_date.isoformat(),
            "date_ranges": ranges,
            "parameters": dict(run.parameters),
        }
        tags = (run.workflow.name, run.reference_date.isoformat())
        try:
            self.flow_runs.run(workflow, parameters, name=str(run), tags=tags)
        except Exception as error:  # noqa: BLE001 - whatever Prefect raises, the run has ended and has to be recorded
            return error
        return None

    def _name_flow_run(self, claim: Claim, flow_run_id: str) -> None:
        try:
            self.store.name_flow_run(claim, flow_run_id)
        except RunStoreError as error:
            logger.debug("%s", error)

    def _record(
        self, claim: Claim, state: RunState, outcome: Outcome, error: RunError | None, stop: StopSignal
    ) -> bool:
        """Record the end of a run, as soon as the run store can be reached: its work is not thrown away.

        Return False if `stop` was set before that.
        """
        outputs = _outputs_as_json(outcome)
        while True:
            try:
                if not self.store.finish(claim, state, outputs=outputs, error=error):
                    logger.warning("%s ended as %s after its claim had been given up as crashed", claim.key, state)
            except RunStoreError as problem:
                logger.warning("%s ended as %s, which cannot be recorded yet: %s", claim.key, state, problem)
                if stop.wait(RECORD_RETRY_SECONDS):
                    return False
            else:
                return True


class PrefectGoneError(AutoflowError):
    """Prefect did not let a run go on to its end."""


def _judge(run: WorkflowRun, outcome: Outcome, problem: Exception | None) -> tuple[RunState, RunError | None]:
    """Return how a run ended: as its notebooks say, if they were all run; otherwise it was interrupted."""
    error = outcome.error
    if isinstance(error, RunStopped):
        return RunState.INTERRUPTED, RunError("Interrupted", str(error))
    if isinstance(error, NotebookError):
        return RunState.FAILED, RunError(error.error_class, error.error_message, error.notebook, error.cell)
    if error:
        return RunState.FAILED, RunError(type(error).__name__, str(error))
    if len(outcome.outputs) < len(run.workflow.notebooks):
        problem = problem or PrefectGoneError("it did not run all notebooks")
        return RunState.INTERRUPTED, RunError(type(problem).__name__, f"the Prefect API failed: {first_line(problem)}")
    return RunState.SUCCEEDED, None


def _outputs_as_json(outcome: Outcome) -> dict[str, Json]:
    return {
        label: {"notebook": str(outputs.executed), "reports": [str(path) for path in outputs.reports]}
        for label, outputs in sorted(outcome.outputs.items())
    }


def _log_end(run: WorkflowRun, state: RunState, outcome: Outcome, error: RunError | None, *, seconds: float) -> None:
    """Log one line: what became of the run, and where to look."""
    if state.is_success:
        paths = EndedRun(run=run, state=state, outcome=outcome).paths
        logger.info("finished %s in %.0f s: %s", run, seconds, ", ".join(str(path) for path in paths))
        return
    failure = outcome.error
    reason = str(failure) if failure else (f"{error.error_class}: {error.message}" if error else "")
    executed = outcome.outputs.get(error.notebook or "") if error else None
    where = f" (see {executed.executed})" if executed else ""
    after = f"; {run.retry.after(run.failures + 1)}" if run.retry and state.is_failure else ""
    logger.error("%s %s after %.0f s: %s%s%s", state, run, seconds, " ".join(reason.split()), where, after)

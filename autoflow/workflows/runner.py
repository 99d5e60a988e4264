"""Runs workflows, each date once: claims a run, keeps its heartbeat, and reports its end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoflow.cluster.work import Slot, ThisMachine
from autoflow.kernels.fork_server import ForkServer
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.notebooks.live_files import live_folder
from autoflow.orchestration.cancellation import Cancellations
from autoflow.orchestration.flow_runs import FlowRuns
from autoflow.runs.records import CRASHES_PER_FAILURE, Claim, RunError, RunState
from autoflow.runs.run import EndedRun, Outcome, WorkflowRun
from autoflow.runs.statuses import in_ranges
from autoflow.runs.stuck import in_words
from autoflow.settings import Settings
from autoflow.system.log import log_fields, logger
from autoflow.system.stop_signal import Shutdown, StopSignal
from autoflow.workflows.active_run import ActiveRun
from autoflow.workflows.flow import Display, Progress, make_notebooks_workflow
from autoflow.workflows.pools import InPools, Pools
from autoflow.workflows.resume import Continuation, Continued
from autoflow.workflows.room import Room

if TYPE_CHECKING:
    # This imports Dask, which is an extra.
    from autoflow.cluster.client import Cluster

ROOM_POLL_SECONDS = 0.5
"""How often a run that waits for room on a disk checks whether it is still wanted."""

MOST_WAITING = 64
"""How many requested runs wait for slots of a cluster, which may get more workers, at the same time."""

SLOT_POLL_SECONDS = 0.1
"""How often a run that waits for a slot of the cluster looks for one, in seconds."""

EXPIRY_POLL_SECONDS = 0.5
"""How often the claim of a requested run that has lost its worker is checked for its end."""


@dataclass(frozen=True, kw_only=True)
class WorkflowRunner:
    """Runs workflows, each date once: with a claim in the run store, a heartbeat, and a record of the end.

    It does not limit how many run at a time. `cancellations` stop a run that is cancelled in Prefect. Each of
    `followers` is called after every run, in the thread of the run, so it must return quickly. Kernels start faster
    with a `fork_server`. With a `cluster`, its workers execute the notebooks.
    """

    settings: Settings
    store: RunStore
    heartbeat: Heartbeat
    cancellations: Cancellations = field(default_factory=Cancellations)
    followers: Sequence[Callable[[EndedRun], None]] = ()
    fork_server: ForkServer | None = None
    flow_runs: FlowRuns = field(default_factory=FlowRuns)
    cluster: "Cluster | None" = None
    pools: Pools = field(default_factory=Pools)
    room: Room = field(init=False)

    def __post_init__(self) -> None:
        """Watch the disks that AutoFlow writes to."""
        object.__setattr__(self, "room", Room(self.settings.written_folders))

    @property
    def most_at_once(self) -> int:
        """How many runs may wait for a slot of the cluster at the same time; without one, it is the number of slots."""
        return max(self.slots, 1 if self.settings.given_parallel_runs or not self.cluster else MOST_WAITING)

    @property
    def slots(self) -> int:
        """How many runs should be executed at the same time, now; with a cluster, this changes with its workers."""
        if self.cluster is None or self.settings.given_parallel_runs:
            return self.settings.max_parallel_runs
        return self.cluster.slots

    def run(
        self,
        run: WorkflowRun,
        *,
        shutdown: Shutdown,
        again: bool = False,
        progress: Progress | None = None,
        cancel: StopSignal | None = None,
    ) -> RunState | None:
        """Run `run` unless it is done or running elsewhere; return its final state, or None if it did not run.

        With `again`, run it even if it is done. `progress` is called for each cell. `cancel`, a child of the
        shutdown's signal, is set when someone cancels what the run is part of. A run that loses its worker has
        crashed; if a user requested it, it is run again once its claim has expired.

        Raises
        ------
        RunStoreError
            If the run could not be claimed because the run store does not respond.

        """
        cancel = cancel or StopSignal(shutdown.stop)
        state = self._run_once(run, shutdown=shutdown, again=again, progress=progress, cancel=cancel)
        for _ in range(1, CRASHES_PER_FAILURE):
            # The dispatcher runs what is due again.
            if not (state and state.is_crash) or run.retry or not self._has_expired(run, shutdown, cancel):
                break
            state = self._run_once(run, shutdown=shutdown, again=again, progress=progress, cancel=cancel)
        return state

    def _run_once(
        self, run: WorkflowRun, *, shutdown: Shutdown, again: bool, progress: Progress | None, cancel: StopSignal
    ) -> RunState | None:
        if shutdown.is_closing or cancel.is_set or not self._has_room(shutdown, cancel):
            return None
        slot = self._slot(shutdown, cancel)
        if slot is None:
            return None
        with slot:
            claim = self.store.claim(
                run.key,
                again=again or run.is_rerun,
                label=run.label,
                missing_days=len(run.missing_dates),
                is_try_out=run.is_try_out,
                is_requested=run.retry is None,
            )
            if claim is None:
                return None
            date = run.reference_date.isoformat()
            with log_fields(run=claim.id, workflow=run.workflow.name, label=run.label, date=date):
                return self._run_claimed(run, claim, slot, shutdown=shutdown, cancel=cancel, progress=progress)

    def _slot(self, shutdown: Shutdown, cancel: StopSignal) -> Slot | None:
        """Wait for a slot for the first notebook: before the claim, so that a run without a worker does not begin.

        Return None if the run is no longer wanted.
        """
        machines = self.cluster or ThisMachine(self.settings, self.fork_server)
        while (slot := machines.reserve()) is None:
            if cancel.is_set or shutdown.wait_until_closing(SLOT_POLL_SECONDS):
                return None
        return slot

    def _has_expired(self, run: WorkflowRun, shutdown: Shutdown, cancel: StopSignal) -> bool:
        """Wait until the last claim of a run that has lost its worker has expired; return False if it is unwanted."""
        while not (cancel.is_set or shutdown.wait_until_closing(EXPIRY_POLL_SECONDS)):
            self.store.give_up_crashed()
            date = run.reference_date
            last = self.store.runs(workflow=run.key.workflow_key, first=date, last=date, limit=1)
            if not (last and last[0].state.is_active):
                return True
        return False

    def _has_room(self, shutdown: Shutdown, cancel: StopSignal) -> bool:
        """Wait until the disks have room; return False if the run is no longer wanted."""
        while self.room.problem():
            if cancel.is_set or shutdown.wait_until_closing(ROOM_POLL_SECONDS):
                return False
        return True

    def _run_claimed(
        self,
        run: WorkflowRun,
        claim: Claim,
        slot: Slot,
        *,
        shutdown: Shutdown,
        cancel: StopSignal,
        progress: Progress | None,
    ) -> RunState:
        attempt = f" (attempt {claim.attempt})" if claim.attempt > 1 else ""
        logger.info("started %s%s%s", run, attempt, _why_again(run))
        started = time.monotonic()
        if self.fork_server and not self.cluster:
            self.fork_server.warm_up(self.settings.kernel_environ)
        with self.cancellations.of(StopSignal(cancel)) as watched:
            active = ActiveRun(
                run=run,
                claim=claim,
                store=self.store,
                shutdown=shutdown,
                cancel=cancel,
                watched=watched,
                inputs_dir=self.settings.inputs_dir,
                continuation=Continuation.of(run, claim, self.settings, self.store),
            )
            with (
                live_folder(self.settings.outputs_dir, claim.id, len(run.workflow.notebooks)) as live,
                self.heartbeat.of(claim, active.stop, cancel=watched.stop),
            ):
                self._execute(active, slot, Display(progress=progress, live=live))
        self.room.run_ended(active.outcome)
        return self._report_end(active, seconds=time.monotonic() - started)

    def _execute(self, active: ActiveRun, slot: Slot, display: Display) -> None:
        def lose(reason: str) -> None:
            # First the claim: by the time the other notebooks are stopped, it must not be renewed any more.
            self.heartbeat.leave(active.claim)
            active.stop.set(reason)

        workflow = make_notebooks_workflow(
            active.run,
            self.settings,
            outcome=active.outcome,
            stop=active.stop,
            display=display,
            place=Continued(InPools(slot.place(active.claim, lose), self.pools), active.continuation),
            done=active.record_if_complete,
        )
        active.execute(workflow, self.flow_runs)

    def _report_end(self, active: ActiveRun, *, seconds: float) -> RunState:
        """Log how a run ended and notify the followers; return its state."""
        if active.has_lost_worker:
            wait = in_words(self.store.crashed_after)
            logger.warning(
                "%s crashed: it has lost its worker; due again when its claim expires, in %s", active.run, wait
            )
            return RunState.CRASHED
        if active.end is None:
            logger.error("could not record the end of %s: it will be marked as crashed and run again", active.run)
            return RunState.INTERRUPTED
        state = active.end.state
        _log_end(active.run, state, active.outcome, active.end.error, seconds=seconds)
        self._notify_followers(EndedRun(run=active.run, state=state, outcome=active.outcome, seconds=seconds))
        return state

    def _notify_followers(self, ended: EndedRun) -> None:
        for follower in self.followers:
            follower(ended)


def _why_again(run: WorkflowRun) -> str:
    """Return why a date that is done is run again, for the end of a line; empty if it is not."""
    if not run.is_rerun:
        return ""
    days = in_ranges(run.changed)
    return f", again: {days} {'has' if len(run.changed) == 1 else 'have'} arrived or changed since the last run"


def _log_end(run: WorkflowRun, state: RunState, outcome: Outcome, error: RunError | None, *, seconds: float) -> None:
    """Log how the run ended, and where to find its outputs, in one line."""
    if state.is_skip:
        logger.info("skipped %s after %.0f s: %s", run, seconds, outcome.error)
        return
    if state.is_success:
        paths = EndedRun(run=run, state=state, outcome=outcome).paths
        logger.info("finished %s in %.0f s: %s", run, seconds, ", ".join(str(path) for path in paths))
        if warnings := outcome.warnings:
            logger.warning("checks of %s warn: %s", run, "; ".join(warnings))
        return
    failure = outcome.error
    reason = str(failure) if failure else (f"{error.error_class}: {error.message}" if error else "")
    executed = outcome.outputs.get(error.notebook or "") if error else None
    where = f" (see {executed.executed})" if executed else ""
    after = f"; {run.retry.after(run.failures + 1)}" if run.retry and state.is_failure else ""
    logger.error("%s %s after %.0f s: %s%s%s", state, run, seconds, " ".join(reason.split()), where, after)

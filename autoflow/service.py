"""The daemon at work: it runs the sensor on its schedule, and the workflows that users start in Prefect's UI."""

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from autoflow.errors import AutoflowError, PrefectApiError, WorkflowsFileError
from autoflow.kernels.fork_server import ForkServer
from autoflow.messages.entries import EntryWatch
from autoflow.messages.notifier import Notifier
from autoflow.metrics import Daemon, Metrics
from autoflow.model.store import RunStore
from autoflow.orchestration.deployments import POLL_SECONDS, Deployment, DeploymentRunner
from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.sensor import Sensor, Tick, make_available_dates_sensor, make_run_workflow
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile
from autoflow.system.log import logger
from autoflow.system.stop_signal import PeriodicThread, Shutdown, join_threads
from autoflow.utils import first_line
from autoflow.workflows.assembly import assembled
from autoflow.workflows.dispatcher import Dispatcher
from autoflow.workflows.retention import Retention
from autoflow.workflows.runner import WorkflowRunner
from autoflow.workflows.watch import Watch

if TYPE_CHECKING:
    import prefect

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 60.0, 900.0
"""How long after a tick that failed the next one follows, unless the schedule has one before; it doubles each time."""


def serve(
    settings: Settings,
    workflows: WorkflowsFile,
    *,
    once: bool,
    store: RunStore,
    shutdown: Shutdown,
    fork_server: ForkServer | None,
    metrics: Metrics | None = None,
) -> bool:
    """Tick on the schedule until `shutdown` or, with `once` or if the schedule is null, until nothing is due.

    `workflows` is workflows.yml at the start; each tick reads it again. Kernels start faster with a `fork_server`.
    Return whether all runs succeeded; on a schedule, failures are for the log and the run store, and it returns True.
    """
    of_runs = [metrics.run_ended] if metrics else []
    with assembled(settings, store, sensor=workflows.sensor, fork_server=fork_server, followers=of_runs) as assembly:
        runner, stuck_watch = assembly.runner, assembly.stuck_watch
        notifier, entries = assembly.notifier, assembly.entries
        watch = Watch(settings, store, workflows, notifier=notifier, page=assembly.page)
        watch.add_follower(entries.follow)
        watch.add_cluster(runner.cluster)
        followers = _TickFollowers(notifier, watch, entries, metrics)
        with (
            entries.running(workflows.sensor),
            Retention(settings, store, followers=[assembly.page.refresh]),
            Dispatcher(runner, shutdown=shutdown, stuck=lambda: stuck_watch.entries) as dispatcher,
        ):
            if metrics:
                metrics.watch(Daemon(settings, store, watch, dispatcher, notifier, runner))
            sensor = Sensor(settings=settings, store=store, dispatcher=dispatcher, wait=shutdown.wait_until_closing)
            if once or workflows.sensor.schedule is None:
                with watch.running():
                    all_succeeded = _serve_once(sensor, runner, shutdown, followers)
                if not shutdown.is_closing:
                    assembly.page.finish()
                return all_succeeded
            _serve_on_schedule(_Deployments(sensor, runner, workflows, shutdown, followers))
            return True


@dataclass(frozen=True)
class _TickFollowers:
    """Passes the result of each tick on to the notifier, the watches and the metrics."""

    notifier: Notifier
    watch: Watch
    entries: EntryWatch
    metrics: Metrics | None = None

    def tick_ended(self, result: Tick | AutoflowError) -> None:
        self.watch.tick_ended(result if isinstance(result, AutoflowError) else None)
        if isinstance(result, Tick):
            self.notifier.given_up(result.given_up)
            self.notifier.days_changed(result.changes)
        self.entries.tick_ended()
        if self.metrics:
            self.metrics.tick_ended(result)


def _serve_once(sensor: Sensor, runner: WorkflowRunner, shutdown: Shutdown, followers: _TickFollowers) -> bool:
    once = _Once(sensor, runner, shutdown, followers)
    # Not in the main thread, where Prefect would take over SIGTERM.
    thread = threading.Thread(target=once.run, name="sensor", daemon=True)
    thread.start()
    while thread.is_alive() and not shutdown.wait_until_closing(0.1):
        pass
    if shutdown.is_closing:
        # The dispatcher first: the thread only waits for its runs.
        joins = (sensor.dispatcher.join, partial(join_threads, [thread]))
        shutdown.stop_after(sensor.settings.shutdown_grace, partial(_join_all, joins))
    return once.all_succeeded


class _Once:
    """Ticks, and runs until nothing is due."""

    def __init__(self, sensor: Sensor, runner: WorkflowRunner, shutdown: Shutdown, followers: _TickFollowers) -> None:
        self._dispatcher = sensor.dispatcher
        self._shutdown = shutdown
        self._followers = followers
        self._results: list[Tick | AutoflowError] = []
        self._tick = make_available_dates_sensor(
            sensor, cancellations=runner.cancellations, shutdown=shutdown, done=self._tick_ended
        )
        self.all_succeeded = False

    def run(self) -> None:
        if self._run_tick() is None:
            return
        is_drained = self._dispatcher.drain()
        counts = self._dispatcher.counts
        more = f", {counts.skipped} skipped" if counts.skipped else ""
        more += f", {counts.interrupted} interrupted" if counts.interrupted else ""
        logger.info("done: %d succeeded, %d failed%s", counts.succeeded, counts.failed, more)
        if waiting := self._dispatcher.waiting:
            dates = "1 date still waits" if waiting == 1 else f"{waiting} dates still wait"
            logger.info("%s for the rest of the data; the next start looks again", dates)
        # A shutdown is not a failure.
        is_complete = is_drained and not counts.interrupted
        self.all_succeeded = not counts.failed and (is_complete or self._shutdown.is_closing)

    def _run_tick(self) -> Tick | None:
        """Run one tick; return None if it failed."""
        try:
            self._tick(return_state=True)
        except PREFECT_FAILURES as error:
            logger.error("the Prefect API failed: %s", first_line(error))
        # A tick that has a result is done, even if Prefect failed at its end.
        result = self._results.pop() if self._results else None
        return result if isinstance(result, Tick) else None

    def _tick_ended(self, result: Tick | AutoflowError) -> None:
        self._followers.tick_ended(result)
        self._results.append(result)


def _join_all(joins: Iterable[Callable[[float], bool]], seconds: float) -> bool:
    """Wait up to `seconds` with each of `joins`, one after the other; return whether all have succeeded."""
    deadline = time.monotonic() + seconds
    have_ended = [join(max(0.0, deadline - time.monotonic())) for join in joins]
    return all(have_ended)


def _serve_on_schedule(deployments: "_Deployments") -> None:
    deployments.register()
    shutdown, dispatcher = deployments.shutdown, deployments.dispatcher
    runner = DeploymentRunner([deployments.sensor, deployments.run_workflow], tick=deployments.sensor)

    def poll() -> None:
        deployments.retry_tick()
        runner.poll()
        deployments.notice_pause(runner)

    # Without a wait at the end: a Prefect API that hangs must not delay the shutdown.
    with (
        PeriodicThread("deployments", poll, POLL_SECONDS, last_wait=0.0, within=runner) as polling,
        deployments.watch.running(deployments.adapt),
    ):
        deployments.watch.guard(polling)
        polling.wake()
        shutdown.wait_until_closing()
    logger.info("stopping: no new runs are started")
    shutdown.stop_after(deployments.grace, partial(_join_all, (dispatcher.join, runner.join)))


class TickRetry:
    """Decides when a tick follows one that failed, so that AutoFlow soon notices that FlowAPI works again.

    `timer` counts seconds.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._failures = 0
        self._at = math.inf

    @property
    def is_due(self) -> bool:
        """Whether a tick should follow now."""
        return self._timer() >= self._at

    def tick_scheduled(self) -> None:
        """Wait for the end of the next tick."""
        self._at = math.inf

    def tick_ended(self, result: Tick | AutoflowError) -> None:
        """Plan the next tick if this one failed; after an invalid workflows.yml, it follows the edit instead."""
        if isinstance(result, Tick | WorkflowsFileError):
            self._failures, self._at = 0, math.inf
            return
        seconds = min(FIRST_RETRY_SECONDS * 2**self._failures, LONGEST_RETRY_SECONDS)
        self._failures += 1
        self._at = self._timer() + seconds
        logger.info("the next tick is in %.0f min, or earlier if it is due by then", seconds / 60)


class _Deployments:
    """The two deployments in Prefect: a tick of the sensor, and a run of one workflow for one date."""

    def __init__(
        self,
        sensor: Sensor,
        runner: WorkflowRunner,
        workflows: WorkflowsFile,
        shutdown: Shutdown,
        followers: _TickFollowers,
    ) -> None:
        self._schedule, self._timezone = _schedule_of(workflows)
        self._names = _names(workflows)
        self._runner = runner
        self._followers = followers
        self._was_paused: bool | None = None
        self._obeyed: WorkflowsFile | None = workflows
        self._retry = TickRetry()
        self.shutdown = shutdown
        self.dispatcher = sensor.dispatcher
        self.grace = sensor.settings.shutdown_grace
        self.watch = followers.watch
        self.sensor = Deployment(
            make_available_dates_sensor(
                sensor, cancellations=runner.cancellations, shutdown=shutdown, done=self._tick_ended
            ),
            name="available-dates-sensor",
            description="Checks FlowAPI for new dates and runs the workflows that are due.",
            exclusive=True,
        )
        self.run_workflow = Deployment(
            self._run_workflow_flow(self._names),
            name="run-workflow",
            description="Runs one workflow for one reference date, unless it is done already.",
        )

    def register(self) -> None:
        """Register the deployments with Prefect and schedule the first tick for now.

        Raises
        ------
        PrefectApiError
            If the Prefect API rejects them or does not respond.

        """
        try:
            self.sensor.apply(cron=self._schedule, timezone=self._timezone)
            self.run_workflow.apply()
            self.sensor.run_soon()
        except PREFECT_FAILURES as error:
            raise PrefectApiError(
                f"the Prefect API rejected AutoFlow's deployments ({first_line(error)}): check PREFECT_API_URL "
                "and, if the API requires authentication, PREFECT_API_AUTH_STRING or PREFECT_API_KEY"
            ) from error
        logger.info("checking for new dates now and on the schedule '%s' (%s)", self._schedule, self._timezone)

    def _run_workflow_flow(self, names: list[str]) -> "prefect.Flow[..., object]":
        return make_run_workflow(self._runner, self.dispatcher, workflows=names, shutdown=self.shutdown)

    def notice_pause(self, runner: DeploymentRunner) -> None:
        """Start nothing more that is due once the sensor is paused in Prefect; check only while something is due."""
        if not self.dispatcher.has_due or (is_paused := runner.is_paused(self.sensor)) is None:
            return
        if is_paused and self._was_paused is False:
            self.dispatcher.hold("the sensor is paused in Prefect")
        self._was_paused = is_paused

    def _tick_ended(self, result: Tick | AutoflowError) -> None:
        self._followers.tick_ended(result)
        self._retry.tick_ended(result)
        if isinstance(result, Tick | WorkflowsFileError):
            self._obeyed = result.file if isinstance(result, Tick) else None
        try:
            # A tick that a person starts while the sensor is paused counts.
            self._was_paused = self.sensor.is_paused()
        except PREFECT_FAILURES as error:
            logger.debug("could not check whether the sensor is paused in Prefect: %s", first_line(error))

    def adapt(self, file: WorkflowsFile) -> bool:
        """Adapt the deployments to a changed workflows.yml; return False if Prefect's API failed.

        A tick follows at once if other dates may be due than by the file that the last tick has read.
        """
        try:
            if _schedule_of(file) != (self._schedule, self._timezone):
                self._change_schedule(*_schedule_of(file))
            if _names(file) != self._names:
                self.run_workflow.flow = self._run_workflow_flow(_names(file))
                self.run_workflow.apply()
                self._names = _names(file)
            if self._obeyed is None or _without_schedule(file) != _without_schedule(self._obeyed):
                self._tick_after_edit()
                self._obeyed = file
        except PREFECT_FAILURES as error:
            logger.warning("could not update the deployments in Prefect (%s): trying again", first_line(error))
            return False
        return True

    def _tick_after_edit(self) -> None:
        if self.sensor.is_paused():
            logger.info("the sensor is paused in Prefect: the edit takes effect at the next tick")
        else:
            self.sensor.run_soon()
            logger.info("checking for new dates now, because of the edit")

    def retry_tick(self) -> None:
        """Schedule a tick for now if the last one failed some time ago, unless the sensor is paused in Prefect."""
        if not self._retry.is_due:
            return
        try:
            if not self.sensor.is_paused():
                self.sensor.run_soon()
            self._retry.tick_scheduled()
        except PREFECT_FAILURES as error:
            logger.debug("could not schedule a tick in Prefect: %s", first_line(error))

    def _change_schedule(self, schedule: str | None, timezone: str) -> None:
        if schedule is None:
            logger.warning("workflows.yml now has 'schedule: null', which takes effect after a restart of AutoFlow")
        else:
            self.sensor.apply(cron=schedule, timezone=timezone)
            logger.info("schedule changed to '%s' (%s)", schedule, timezone)
        self._schedule, self._timezone = schedule, timezone


def _schedule_of(file: WorkflowsFile) -> tuple[str | None, str]:
    return file.sensor.schedule, file.sensor.timezone


def _names(file: WorkflowsFile) -> list[str]:
    return sorted(workflow.name for workflow in file.workflows)


def _without_schedule(file: WorkflowsFile) -> WorkflowsFile:
    return replace(file, sensor=replace(file.sensor, schedule=None))

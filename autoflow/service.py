"""The daemon at work: it ticks at once, then on the sensor's schedule, and runs what users start in Prefect's UI."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from autoflow.errors import AutoflowError
from autoflow.kernels.fork_server import ForkServer
from autoflow.messages.entries import EntryWatch
from autoflow.messages.notifier import Notifier
from autoflow.metrics import Daemon, Metrics
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.prefect_api import PrefectApi
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile
from autoflow.system.log import logger
from autoflow.system.stop_signal import PeriodicThread, Shutdown, join_threads
from autoflow.workflows.assembly import Assembly, assembled
from autoflow.workflows.dispatcher import Dispatcher
from autoflow.workflows.retention import Retention
from autoflow.workflows.tick import Sensor, Tick, recorded_tick
from autoflow.workflows.watch import Watch

LONGEST_TELLING = 30.0
"""How long the end waits, if there is no schedule, until Prefect shows all runs, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the daemon has opened: its Prefect API may not respond yet. Kernels start faster with a `fork_server`."""

    store: RunStore
    api: PrefectApi
    fork_server: ForkServer | None = None
    metrics: Metrics | None = None


def serve(
    settings: Settings, workflows: WorkflowsFile, resources: Resources, *, once: bool, shutdown: Shutdown
) -> bool:
    """Tick on the schedule until `shutdown` or, with `once` or if the schedule is null, until nothing is due.

    The first tick and its runs do not wait for Prefect, which shows them as soon as it responds. `workflows` is
    workflows.yml at the start; each tick reads it again. Return whether all runs succeeded; on a schedule, failures are
    for the log and the run store, and it returns True.

    Raises
    ------
    PrefectApiError
        If the Prefect API does not respond, or refuses; then, runs in progress are stopped.

    """
    metrics = resources.metrics
    with assembled(
        settings,
        resources.store,
        sensor=workflows.sensor,
        fork_server=resources.fork_server,
        is_prefect_expected=True,
        followers=[metrics.run_ended] if metrics else [],
    ) as assembly:
        followers = _followers(settings, workflows, resources, assembly)
        with (
            assembly.entries.running(workflows.sensor),
            Retention(settings, resources.store, followers=[assembly.page.refresh]),
            Dispatcher(assembly.runner, shutdown=shutdown, stuck=lambda: assembly.stuck_watch.entries) as dispatcher,
        ):
            if metrics:
                watched = (followers.watch, dispatcher, assembly.notifier, assembly.runner)
                metrics.watch(Daemon(settings, resources.store, *watched))
            sensor = Sensor(
                settings=settings, store=resources.store, dispatcher=dispatcher, wait=shutdown.wait_until_closing
            )
            daemon = _Daemon(sensor, assembly, resources.api, shutdown, followers)
            if once or workflows.sensor.schedule is None:
                return daemon.serve_once()
            return daemon.serve_on_schedule(workflows)


def _followers(
    settings: Settings, workflows: WorkflowsFile, resources: Resources, assembly: Assembly
) -> "_TickFollowers":
    watch = Watch(settings, resources.store, workflows, notifier=assembly.notifier, page=assembly.page)
    watch.add_follower(assembly.entries.follow)
    watch.add_cluster(assembly.runner.cluster)
    return _TickFollowers(assembly.notifier, watch, assembly.entries, resources.metrics)


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


class _FirstTick:
    """The first tick, in a thread: it waits for nothing. `then` is called after it, unless it fails."""

    def __init__(
        self, sensor: Sensor, done: Callable[[Tick | AutoflowError], None], then: Callable[[], object]
    ) -> None:
        self._sensor = sensor
        self._done = done
        self._then = then
        self.result: Tick | AutoflowError | None = None
        self.has_ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="sensor", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.result = recorded_tick(self._sensor, self._done)
        except AutoflowError as error:
            logger.error("tick failed: %s", error)
            self.result = error
        finally:
            self.has_ended.set()
        if isinstance(self.result, Tick):
            self._then()


@dataclass
class _Daemon:
    """Ticks at once, connects with Prefect as soon as that responds, and serves from then on."""

    sensor: Sensor
    assembly: Assembly
    api: PrefectApi
    shutdown: Shutdown
    followers: _TickFollowers
    all_succeeded: bool = False

    def serve_once(self) -> bool:
        """Run until nothing is due; return whether all runs succeeded."""
        first = _FirstTick(self.sensor, self.followers.tick_ended, self._drain)
        # The dispatcher first: the thread only waits for its runs.
        join = partial(_join_all, (self.sensor.dispatcher.join, partial(join_threads, [first.thread])))
        with self.followers.watch.running(), self._stopped_on_failure(join):
            if not self._has_ended_without_runs(first):
                self._finish_runs(first, join)
        if not self.shutdown.is_closing:
            self.assembly.page.finish()
        return self.all_succeeded

    def _has_ended_without_runs(self, first: _FirstTick) -> bool:
        """Wait until the first tick has ended; return whether nothing has run, so that Prefect has nothing to show."""
        while not first.has_ended.wait(0.05) and not self.shutdown.is_closing:
            pass
        dispatcher = self.sensor.dispatcher
        if isinstance(first.result, Tick) and (first.result.due or dispatcher.has_due or dispatcher.running):
            return False
        while first.thread.is_alive() and not self.shutdown.wait_until_closing(0.05):
            pass
        return not self.shutdown.is_closing and not self.assembly.runner.shown_runs.has_any

    def _finish_runs(self, first: _FirstTick, join: Callable[[float], bool]) -> None:
        """Wait until the runs have ended, and Prefect shows them."""
        with self._connected(first) as is_connected:
            while first.thread.is_alive() and not self.shutdown.wait_until_closing(0.1):
                pass
            if self.shutdown.is_closing:
                self.shutdown.stop_after(self.sensor.settings.shutdown_grace, join)
            elif is_connected:
                if first.result:
                    # As in `_connected`.
                    from autoflow.sensor import show_tick  # noqa: PLC0415 - see above

                    show_tick(self.sensor, self.assembly.runner, self.shutdown, first.result)
                self.assembly.runner.shown_runs.join(LONGEST_TELLING)

    def _drain(self) -> None:
        """Wait until nothing is due, and log how the runs ended."""
        dispatcher = self.sensor.dispatcher
        is_drained = dispatcher.drain()
        counts = dispatcher.counts
        more = f", {counts.skipped} skipped" if counts.skipped else ""
        more += f", {counts.interrupted} interrupted" if counts.interrupted else ""
        logger.info("done: %d succeeded, %d failed%s", counts.succeeded, counts.failed, more)
        if waiting := dispatcher.waiting:
            dates = "1 date still waits" if waiting == 1 else f"{waiting} dates still wait"
            logger.info("%s for the rest of the data; the next start looks again", dates)
        # A shutdown is not a failure.
        is_complete = is_drained and not counts.interrupted
        self.all_succeeded = not counts.failed and (is_complete or self.shutdown.is_closing)

    def serve_on_schedule(self, workflows: WorkflowsFile) -> bool:
        """Tick now and on the schedule, and run what users start in Prefect's UI; return True when AutoFlow stops."""
        schedule, timezone = workflows.sensor.schedule, workflows.sensor.timezone
        logger.info("checking for new dates now and on the schedule '%s' (%s)", schedule, timezone)
        first = _FirstTick(self.sensor, self.followers.tick_ended, lambda: None)
        join: Callable[[float], bool] = self.sensor.dispatcher.join
        with self._stopped_on_failure(join), self._connected(first) as is_connected:
            if is_connected:
                join = self._serve_deployments(workflows, first)
            logger.info("stopping: no new runs are started")
            self.shutdown.stop_after(self.sensor.settings.shutdown_grace, join)
        return True

    def _serve_deployments(self, workflows: WorkflowsFile, first: _FirstTick) -> Callable[[float], bool]:
        """Serve until AutoFlow shuts down; return what waits for the runs in progress."""
        # As in `_connected`.
        from autoflow.orchestration.deployments import POLL_SECONDS, DeploymentRunner  # noqa: PLC0415 - see above
        from autoflow.sensor import Deployments  # noqa: PLC0415 - see above

        deployments = Deployments(
            self.sensor, self.assembly.runner, workflows, shutdown=self.shutdown, done=self.followers.tick_ended
        )
        if not self._has_registered(partial(deployments.register, first.result)):
            return self.sensor.dispatcher.join
        runner = DeploymentRunner([deployments.sensor, deployments.run_workflow], tick=deployments.sensor)

        def poll() -> None:
            deployments.retry_tick()
            runner.poll()
            deployments.notice_pause(runner)

        watch = self.followers.watch
        # Without a wait at the end: a Prefect API that hangs must not delay the shutdown.
        with (
            PeriodicThread("deployments", poll, POLL_SECONDS, last_wait=0.0, within=runner) as polling,
            watch.running(deployments.adapt),
        ):
            watch.guard(polling)
            polling.wake()
            self.shutdown.wait_until_closing()
        return partial(_join_all, (self.sensor.dispatcher.join, runner.join))

    def _has_registered(self, register: Callable[[], None]) -> bool:
        """Call `register`; return False if AutoFlow shuts down before that has ended: a Prefect API may hang."""
        end: Future[None] = Future()

        def run() -> None:
            try:
                register()
            except Exception as error:  # noqa: BLE001 - the thread that waits raises it
                end.set_exception(error)
            else:
                end.set_result(None)

        threading.Thread(target=run, name="register", daemon=True).start()
        while not end.done() and not self.shutdown.wait_until_closing(0.05):
            pass
        if not end.done():
            return False
        end.result()
        return True

    @contextmanager
    def _connected(self, first: _FirstTick) -> Iterator[bool]:
        """Yield True once the Prefect API responds and shows the runs, or False if AutoFlow shuts down before that."""
        while not first.has_ended.wait(0.05) and not self.shutdown.is_closing:
            pass
        # This imports Prefect: while its server starts, but not before the first tick, for which it takes too long.
        from autoflow.workflows.connection import connected  # noqa: PLC0415 - see above

        if not self.api.wait_until_ready(self.shutdown):
            yield False
            return
        files = DaemonFiles(home=self.sensor.settings.prefect_home)
        with files.published(self.api.url), connected(self.assembly.runner, self.assembly.progress):
            yield True

    @contextmanager
    def _stopped_on_failure(self, join: Callable[[float], bool]) -> Iterator[None]:
        """Stop the runs in progress if AutoFlow cannot connect with Prefect."""
        try:
            yield
        except AutoflowError:
            self.shutdown.close_at_once("AutoFlow cannot start")
            self.shutdown.stop_after(0.0, join)
            raise


def _join_all(joins: Iterable[Callable[[float], bool]], seconds: float) -> bool:
    """Wait up to `seconds` with each of `joins`, one after the other; return whether all have succeeded."""
    deadline = time.monotonic() + seconds
    have_ended = [join(max(0.0, deadline - time.monotonic())) for join in joins]
    return all(have_ended)

"""AutoFlow at work: the sensor on its schedule, and what people ask for in Prefect's UI."""

import contextlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoflow.errors import AutoflowError, FlowApiError, PrefectApiError, UnexpectedError
from autoflow.kernels.fork_server import ForkServer
from autoflow.log import bugs_told, logger
from autoflow.model.store import RunStore
from autoflow.notify import Notifier
from autoflow.orchestration.deployments import POLL_SECONDS, Deployment, DeploymentRunner
from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.page.writer import PageWriter
from autoflow.parser import read_workflows
from autoflow.sensor import Sensor, Tick, make_available_dates_sensor, make_run_workflow
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile
from autoflow.stop_signal import Shutdown
from autoflow.utils import first_line
from autoflow.workflows.assembly import assembled

if TYPE_CHECKING:
    import prefect

LAST_WAIT = 10.0
"""How long runs that have been told to stop may take to do so, in seconds."""


def serve(
    settings: Settings, schedule: str | None, *, store: RunStore, shutdown: Shutdown, fork_server: ForkServer | None
) -> bool:
    """Tick on `schedule`, a cron string, until `shutdown` or, where it is None, until nothing is due.

    Kernels start sooner if there is a `fork_server`. Returns whether all succeeded; with a schedule, failures are for
    the log and the run store, and it returns True.
    """
    with assembled(settings, store, fork_server=fork_server) as assembly:
        sensor = Sensor(settings=settings, store=store, runner=assembly.runner)
        watch = _Watch(assembly.notifier, assembly.page)
        if schedule is None:
            all_succeeded = _serve_once(sensor, shutdown, watch)
            if not shutdown.is_closing:
                assembly.page.finish()
            return all_succeeded
        _serve_on_schedule(sensor, schedule, shutdown, watch)
        return True


@dataclass(frozen=True)
class _Watch:
    """Tells what came of a tick to what tells people."""

    notifier: Notifier
    page: PageWriter

    def after_tick(self, result: Tick | AutoflowError) -> None:
        if isinstance(result, FlowApiError):
            self.notifier.flowapi_failed(result)
        elif isinstance(result, Tick):
            self.notifier.flowapi_works()
            self.notifier.given_up(result.given_up)
            self.page.follow(result.file.sensor.triggers)


def _serve_once(sensor: Sensor, shutdown: Shutdown, watch: _Watch) -> bool:
    once = _Once(sensor, shutdown, watch)
    # Not in the main thread, where Prefect would take over SIGTERM.
    thread = threading.Thread(target=once.run, name="sensor", daemon=True)
    thread.start()
    while thread.is_alive() and not shutdown.wait_until_closing(0.1):
        pass
    if shutdown.is_closing:
        thread.join(sensor.settings.shutdown_grace)
        shutdown.stop.set("AutoFlow was stopped")
        thread.join(LAST_WAIT)
    return once.all_succeeded


class _Once:
    """Ticks until nothing is due."""

    def __init__(self, sensor: Sensor, shutdown: Shutdown, watch: _Watch) -> None:
        self._shutdown = shutdown
        self._watch = watch
        self._results: list[Tick | AutoflowError] = []
        self._tick = make_available_dates_sensor(sensor, shutdown=shutdown, done=self._after_tick)
        self.all_succeeded = False

    def _after_tick(self, result: Tick | AutoflowError) -> None:
        self._watch.after_tick(result)
        self._results.append(result)

    def run(self) -> None:
        succeeded = failed = interrupted = 0
        while not self._shutdown.is_closing:
            try:
                self._tick(return_state=True)
            except PREFECT_FAILURES as error:
                logger.error("the Prefect API failed: %s", first_line(error))
            # The work of a tick is done when it is recorded, whatever Prefect says at its end.
            tick = self._results.pop() if self._results else None
            if not isinstance(tick, Tick):
                return
            succeeded, failed = succeeded + tick.succeeded, failed + tick.failed
            interrupted += tick.interrupted
            if not tick.more_due:
                break
        more = f", {interrupted} interrupted" if interrupted else ""
        logger.info("done: %d succeeded, %d failed%s", succeeded, failed, more)
        # To be stopped is no failure.
        self.all_succeeded = not failed and (not interrupted or self._shutdown.is_closing)


def _serve_on_schedule(sensor: Sensor, schedule: str, shutdown: Shutdown, watch: _Watch) -> None:
    try:
        deployments = _Deployments(sensor, schedule, shutdown, watch)
        deployments.sensor.run_soon()
    except PREFECT_FAILURES as error:
        raise PrefectApiError(
            f"the Prefect API does not take AutoFlow's deployments ({first_line(error)}): check PREFECT_API_URL "
            "and, if it asks for them, PREFECT_API_AUTH_STRING or PREFECT_API_KEY"
        ) from error
    logger.info("looking for new dates now, and on the schedule '%s' (UTC)", schedule)
    runner = DeploymentRunner([deployments.sensor, deployments.run_workflow])
    # In a thread of its own: a Prefect API that does not answer is no reason not to stop.
    arguments = (runner, shutdown, sensor.settings.secrets)
    threading.Thread(target=_poll, args=arguments, name="deployments", daemon=True).start()
    shutdown.wait_until_closing()
    logger.info("stopping: nothing new is started")
    if not runner.join(0 if shutdown.stop.is_set else sensor.settings.shutdown_grace):
        shutdown.stop.set("AutoFlow was stopped")
        runner.join(LAST_WAIT)


def _poll(runner: DeploymentRunner, shutdown: Shutdown, secrets: Iterable[str]) -> None:
    with runner:
        while not shutdown.is_closing:
            # A bug is told, and is no reason never to tick again.
            with contextlib.suppress(UnexpectedError), bugs_told(secrets):
                runner.poll()
            shutdown.wait_until_closing(POLL_SECONDS)


class _Deployments:
    """The two things that Prefect can schedule: a tick of the sensor, and one workflow for one date."""

    def __init__(self, sensor: Sensor, schedule: str, shutdown: Shutdown, watch: _Watch) -> None:
        self._schedule: str | None = schedule
        self._sensor = sensor
        self._shutdown = shutdown
        self._watch = watch
        self._names = _names(read_workflows(sensor.settings))
        self.sensor = Deployment(
            make_available_dates_sensor(sensor, shutdown=shutdown, done=self._after_tick),
            name="available-dates-sensor",
            description="Looks which dates FlowAPI has, and runs the workflows that are due.",
            exclusive=True,
        )
        self.run_workflow = Deployment(
            self._run_workflow_flow(self._names),
            name="run-workflow",
            description="Runs one workflow for one date of data, unless it is done already.",
        )
        self.sensor.apply(cron=schedule)
        self.run_workflow.apply()

    def _run_workflow_flow(self, names: list[str]) -> "prefect.Flow[..., object]":
        sensor = self._sensor
        return make_run_workflow(sensor.settings, sensor.runner, workflows=names, shutdown=self._shutdown)

    def _after_tick(self, result: Tick | AutoflowError) -> None:
        self._watch.after_tick(result)
        try:
            if isinstance(result, Tick):
                self._follow(result)
        except PREFECT_FAILURES as error:
            logger.warning("Prefect cannot be told what is next (%s): the next tick tries again", first_line(error))

    def _follow(self, result: Tick) -> None:
        if result.more_due:
            self.sensor.run_soon()
        if result.file.sensor.schedule != self._schedule:
            self._change_schedule(result.file.sensor.schedule)
        if _names(result.file) != self._names:
            self.run_workflow.flow = self._run_workflow_flow(_names(result.file))
            self.run_workflow.apply()
            self._names = _names(result.file)

    def _change_schedule(self, schedule: str | None) -> None:
        if schedule is None:
            logger.warning("workflows.yml now says 'schedule: null', which takes effect when AutoFlow is started again")
        else:
            self.sensor.apply(cron=schedule)
            logger.info("the schedule is now '%s' (UTC)", schedule)
        self._schedule = schedule


def _names(file: WorkflowsFile) -> list[str]:
    return sorted(workflow.name for workflow in file.workflows)

"""The available dates sensor in Prefect: a flow for a tick, one for a run, and their deployments."""

import datetime
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import prefect
import prefect.runtime.flow_run
from prefect.settings.context import get_current_settings
from prefect.states import Cancelled, Failed
from pydantic import Field

from autoflow.errors import AutoflowError, PrefectApiError, WorkflowsFileError
from autoflow.flowapi import FlowApi
from autoflow.notebooks.redaction import Redaction
from autoflow.orchestration.cancellation import Cancellations
from autoflow.orchestration.deployments import TICK_NAME, Deployment, DeploymentRunner, show_ended
from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.orchestration.flow_runs import result_storage
from autoflow.orchestration.history import replace_parameter
from autoflow.parser import read_workflows
from autoflow.parser.secret_values import check_for_secrets
from autoflow.parser.value_checks import unexpected_values
from autoflow.runs.naming import entry_names
from autoflow.runs.records import RunState, utc_now
from autoflow.runs.requests import check_available, date_ranges, merged_parameters, requested_run, requested_trigger
from autoflow.runs.run import WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile
from autoflow.system.log import bugs_logged, logger
from autoflow.system.stop_signal import Shutdown, StopSignal
from autoflow.utils import first_line
from autoflow.workflows.dispatcher import Dispatcher
from autoflow.workflows.runner import WorkflowRunner
from autoflow.workflows.tick import Sensor, Tick, TickRetry, count, recorded_tick

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State


def make_available_dates_sensor(
    sensor: Sensor,
    *,
    cancellations: Cancellations,
    shutdown: Shutdown,
    done: Callable[[Tick | AutoflowError], None],
) -> "prefect.Flow[[], Any]":
    """Return the Prefect flow that runs one tick of `sensor` and passes its result, or its error, to `done`."""

    @prefect.flow(
        name="available_dates_sensor",
        flow_run_name=TICK_NAME,
        persist_result=False,
        result_storage=result_storage(sensor.settings),
    )
    def available_dates_sensor() -> Any:
        """Check FlowAPI for new dates and have the workflows run that are due."""
        with _cancellable(cancellations, shutdown) as cancel:
            try:
                tick = recorded_tick(sensor, done, api_url=get_current_settings().api.url)
            except AutoflowError as error:
                logger.error("tick failed: %s", error)
                return _state_of(error)
            if shutdown.is_closing or cancel.is_set:
                sensor.dispatcher.hold("the tick was cancelled")
                return Cancelled(message=cancel.reason or "AutoFlow is shutting down")
            return _state_of(tick)

    return available_dates_sensor


def make_run_workflow(
    runner: WorkflowRunner, dispatcher: Dispatcher, *, workflows: Sequence[str], shutdown: Shutdown
) -> "prefect.Flow[[str, datetime.date, dict[str, Any]], Any]":
    """Return the Prefect flow that runs one workflow for one date, when a person starts it in Prefect.

    It waits for a slot of the `dispatcher`. Prefect's form offers the names in `workflows`.
    """
    settings = runner.settings

    @prefect.flow(
        name="run_workflow",
        flow_run_name="{workflow} {reference_date}",
        persist_result=False,
        result_storage=result_storage(settings),
    )
    def run_workflow(
        workflow: Annotated[str, Field(json_schema_extra={"enum": list(workflows)})],
        reference_date: datetime.date,
        parameters: dict[str, Any] = {},  # noqa: B006 - it is not changed, and Prefect's form shows it
    ) -> Any:
        """Run one workflow for one reference date, unless it is done already or dates that it needs are unavailable.

        Args:
            workflow: The name of a workflow in workflows.yml.
            reference_date: The date to run the workflow for.
            parameters: Parameters of the workflow to change. The others are as in workflows.yml.

        """
        try:
            with bugs_logged(settings.secrets), _cancellable(runner.cancellations, shutdown) as cancel:
                run = _check_request(settings, workflow, reference_date, parameters)
                with dispatcher.slot(run, cancel) as is_free:
                    state = runner.run(run, shutdown=shutdown, cancel=cancel) if is_free else None
                return _end_state(run, state, cancel)
        except AutoflowError as error:
            logger.error("could not start %s %s: %s", workflow, reference_date, error)
            return Failed(message=str(error))

    return run_workflow


def _check_request(
    settings: Settings, workflow: str, reference_date: datetime.date, given: Mapping[str, Any]
) -> WorkflowRun:
    """Return the requested run of `workflow`, with the parameters in workflows.yml where none are `given`.

    Raises
    ------
    WorkflowsFileError, FlowApiError, AutoflowError
        If workflows.yml is invalid or has no such workflow, FlowAPI fails, or the run needs dates that are unavailable.

    """
    _refuse_secrets(settings, given)
    file = read_workflows(settings)
    parameters = merged_parameters(file, workflow, given)
    trigger = requested_trigger(file, workflow, parameters)
    for line in unexpected_values(trigger.workflow, given):
        logger.warning("%s", line)
    date_ranges(trigger, reference_date)
    availability = FlowApi.of(settings).available_dates().only(file.sensor.cdr_types)
    check_available(trigger, reference_date, availability, utc_now())
    return requested_run(
        trigger, reference_date, availability, names=entry_names(file.sensor.triggers, with_every=False)
    )


def _refuse_secrets(settings: Settings, parameters: Mapping[str, Any]) -> None:
    """Raise AutoflowError if a secret is in the parameters of this flow run, and remove it from Prefect's database."""
    try:
        check_for_secrets(parameters, settings.secrets)
    except AutoflowError:
        clean = Redaction(settings.secrets).of_parameters(parameters)
        replace_parameter(UUID(prefect.runtime.flow_run.id), parameters=clean)
        raise


@contextmanager
def _cancellable(cancellations: Cancellations, shutdown: Shutdown) -> Iterator[StopSignal]:
    """Yield a signal that is set by the shutdown, or when the flow run in which this is called is cancelled."""
    cancel = StopSignal(shutdown.stop)
    with cancellations.of(cancel) as watched:
        watched.is_run_by(UUID(prefect.runtime.flow_run.id))
        yield cancel


def _end_state(run: WorkflowRun, state: RunState | None, cancel: StopSignal) -> Any:
    """Return the Prefect state for the end of a run."""
    if state is None and cancel.is_set:
        return Cancelled(message=f"{run} has not started: {cancel.reason}")
    if state is None:
        return Cancelled(message=f"{run} is done already or running")
    if state.is_skip:
        return prefect.states.Completed(name="Skipped", message=f"{run} was skipped")
    if state.is_success:
        return prefect.states.Completed(message=f"{run} succeeded")
    if state.is_stopped:
        return Cancelled(message=f"{run}: {state}")
    return Failed(message=f"{run}: {state}")


def _state_of(result: Tick | AutoflowError) -> "State[Any]":
    """Return the Prefect state for the end of a tick."""
    if isinstance(result, AutoflowError):
        return Failed(message=str(result))
    return prefect.states.Completed(message=f"{count(result.due, 'run')} due")


def show_tick(sensor: Sensor, runner: WorkflowRunner, shutdown: Shutdown, result: Tick | AutoflowError) -> None:
    """Show a tick that has ended in Prefect, without a deployment; ignore failures of Prefect."""
    flow = make_available_dates_sensor(
        sensor, cancellations=runner.cancellations, shutdown=shutdown, done=lambda _: None
    )
    try:
        show_ended(flow, _state_of(result))
    except PREFECT_FAILURES as error:
        logger.debug("could not show a tick in Prefect: %s", first_line(error))


class Deployments:
    """The two deployments in Prefect: a tick of the sensor, and a run of one workflow for one date.

    `done` is called with the result of each tick.
    """

    def __init__(
        self,
        sensor: Sensor,
        runner: WorkflowRunner,
        workflows: WorkflowsFile,
        *,
        shutdown: Shutdown,
        done: Callable[[Tick | AutoflowError], None],
    ) -> None:
        self._schedule, self._timezone = _schedule_of(workflows)
        self._names = _names(workflows)
        self._runner = runner
        self._done = done
        self._was_paused: bool | None = None
        self._obeyed: WorkflowsFile | None = workflows
        self._retry = TickRetry()
        self._shutdown = shutdown
        self._dispatcher = sensor.dispatcher
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

    def register(self, first: Tick | AutoflowError | None) -> None:
        """Register the deployments with Prefect, and show how the `first` tick has ended, if there was one.

        Raises
        ------
        PrefectApiError
            If the Prefect API rejects them or does not respond.

        """
        try:
            self.sensor.apply(cron=self._schedule, timezone=self._timezone)
            self.run_workflow.apply()
            if first:
                self.sensor.show_ended(_state_of(first))
        except PREFECT_FAILURES as error:
            raise PrefectApiError(
                f"the Prefect API rejected AutoFlow's deployments ({first_line(error)}): check PREFECT_API_URL "
                "and, if the API requires authentication, PREFECT_API_AUTH_STRING or PREFECT_API_KEY"
            ) from error
        if first:
            self._learn(first)

    def _run_workflow_flow(self, names: list[str]) -> "prefect.Flow[..., object]":
        return make_run_workflow(self._runner, self._dispatcher, workflows=names, shutdown=self._shutdown)

    def notice_pause(self, runner: DeploymentRunner) -> None:
        """Start nothing more that is due once the sensor is paused in Prefect; check only while something is due."""
        if not self._dispatcher.has_due or (is_paused := runner.is_paused(self.sensor)) is None:
            return
        if is_paused and self._was_paused is False:
            self._dispatcher.hold("the sensor is paused in Prefect")
        self._was_paused = is_paused

    def _tick_ended(self, result: Tick | AutoflowError) -> None:
        self._done(result)
        self._learn(result)

    def _learn(self, result: Tick | AutoflowError) -> None:
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

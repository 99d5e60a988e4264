"""The available dates sensor: runs the workflows that are due, as a Prefect flow or as plain calls."""

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

import prefect
import prefect.runtime.flow_run
from prefect.settings.context import get_current_settings
from prefect.states import Cancelled, Failed
from pydantic import Field

from autoflow.errors import AutoflowError
from autoflow.flowapi import FlowApi
from autoflow.log import bugs_logged, logger
from autoflow.model.store import RunStore
from autoflow.notebooks.redaction import Redaction
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.flow_runs import result_storage
from autoflow.orchestration.history import replace_parameter
from autoflow.parser import read_workflows
from autoflow.parser.secret_values import check_for_secrets
from autoflow.runs.plan import due_runs, given_up_keys
from autoflow.runs.records import Histories, RunKey, RunState, utc_now
from autoflow.runs.requests import check_available, requested_run, requested_trigger
from autoflow.runs.run import WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import SensorSpec, WorkflowsFile
from autoflow.stop_signal import Shutdown, StopSignal
from autoflow.workflows.runner import WorkflowRunner

TOKEN_WARNING_DAYS = 7
"""How many days before its expiry the token is the subject of a daily warning."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """The result of one run of the sensor.

    `file` is the present workflows.yml. `given_up` are the runs that had been given up when the tick began.
    `interrupted` counts runs that were interrupted or cancelled. `more_due` means that more runs were due than fit in
    one tick.
    """

    file: WorkflowsFile
    given_up: tuple[RunKey, ...] = ()
    dates: int = 0
    succeeded: int = 0
    failed: int = 0
    interrupted: int = 0
    more_due: bool = False


class TokenWatch:
    """Warns once a day that the token is about to expire."""

    def __init__(self) -> None:
        self._warned_at: datetime.datetime | None = None

    def look(self, expiry: datetime.datetime | None, now: datetime.datetime) -> None:
        """Warn if the token expires soon, at most once a day; `expiry` and `now` are in UTC, None means never."""
        if expiry is None or (self._warned_at and now - self._warned_at < datetime.timedelta(days=1)):
            return
        left = expiry.replace(tzinfo=None) - now
        if left > datetime.timedelta(days=TOKEN_WARNING_DAYS):
            return
        self._warned_at = now
        when = f"in {left.days} days" if left.days > 1 else f"in {max(0, left.total_seconds()) / 3600:.0f} hours"
        text = f"expires {when}" if left > datetime.timedelta() else "has expired"
        logger.warning("FLOWAPI_TOKEN %s (%s UTC): get a new one from FlowAuth", text, f"{expiry:%Y-%m-%d %H:%M}")


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Finds the runs that are due and runs them, several at a time, up to the limit of a tick."""

    settings: Settings
    store: RunStore
    runner: WorkflowRunner
    clock: Callable[[], datetime.datetime] = utc_now
    token_watch: TokenWatch = field(default_factory=TokenWatch)

    def tick(self, *, shutdown: Shutdown, cancel: StopSignal | None = None) -> Tick:
        """Read workflows.yml, the token and the available dates; run what is due, up to `max_runs_per_tick` runs.

        `cancel`, a child of the shutdown's signal, cancels the runs of this tick.

        Raises
        ------
        WorkflowsFileError, FlowApiError, RunStoreError
            Nothing has run in this case.

        """
        file = read_workflows(self.settings)
        sensor = file.sensor
        flowapi = FlowApi.of(self.settings)
        self.token_watch.look(flowapi.token_expiry(), self.clock())
        available_dates = flowapi.available_dates(sensor.cdr_types)
        histories = self._histories()
        runs = due_runs(sensor.triggers, available_dates, histories, self.clock())
        batch = list(islice(runs, self.settings.max_runs_per_tick))
        logger.info("tick: %s, %s", _count(len(available_dates), "date") + " available", _due_text(runs, batch))
        states = [
            state for state in self._run_side_by_side(batch, shutdown, cancel or StopSignal(shutdown.stop)) if state
        ]
        return Tick(
            file=file,
            given_up=tuple(given_up_keys(sensor.triggers, histories)),
            dates=len(available_dates),
            succeeded=sum(state.is_success for state in states),
            failed=sum(state.is_failure for state in states),
            interrupted=sum(state.is_stopped for state in states),
            more_due=len(runs) > len(batch) and not shutdown.is_closing and not (cancel and cancel.is_set),
        )

    def due(self, sensor: SensorSpec, available_dates: frozenset[datetime.date]) -> list[WorkflowRun]:
        """Return the runs that are due now, including those that have crashed; this takes three queries."""
        return due_runs(sensor.triggers, available_dates, self._histories(), self.clock())

    def _histories(self) -> Histories:
        if crashed := self.store.give_up_crashed():
            logger.warning("%s crashed: no heartbeat; due again", _count(crashed, "run"))
        return self.store.histories()

    def _run_side_by_side(
        self, runs: Iterable[WorkflowRun], shutdown: Shutdown, cancel: StopSignal
    ) -> list[RunState | None]:
        def run(each: WorkflowRun) -> RunState | None:
            if cancel.is_set:
                return None  # it has not started, so it is due in the next tick
            try:
                with bugs_logged(self.settings.secrets):
                    return self.runner.run(each, shutdown=shutdown, cancel=cancel)
            except AutoflowError as error:
                logger.error("could not run %s: %s", each, error)
                return RunState.INTERRUPTED

        with ThreadPoolExecutor(self.settings.max_parallel_runs, thread_name_prefix="run") as pool:
            return list(pool.map(run, runs))


def make_available_dates_sensor(
    sensor: Sensor, *, shutdown: Shutdown, done: Callable[[Tick | AutoflowError], None]
) -> "prefect.Flow[[], Any]":
    """Return the Prefect flow that runs one tick of `sensor` and passes its result, or its error, to `done`."""

    @prefect.flow(
        name="available_dates_sensor",
        flow_run_name="tick",
        persist_result=False,
        result_storage=result_storage(sensor.settings),
    )
    def available_dates_sensor() -> Any:
        """Check FlowAPI for new dates and run the workflows that are due."""
        with _cancellable(sensor.runner, shutdown) as cancel:
            try:
                tick = _recorded_tick(sensor, get_current_settings().api.url, done, shutdown=shutdown, cancel=cancel)
            except AutoflowError as error:
                logger.error("tick failed: %s", error)
                return Failed(message=str(error))
            if shutdown.is_closing or cancel.is_set:
                return Cancelled(message=cancel.reason or "AutoFlow is shutting down")
            return prefect.states.Completed(message=f"{tick.succeeded} succeeded, {tick.failed} failed")

    return available_dates_sensor


def _recorded_tick(
    sensor: Sensor,
    api_url: str | None,
    done: Callable[[Tick | AutoflowError], None],
    *,
    shutdown: Shutdown,
    cancel: StopSignal,
) -> Tick:
    """Run a tick, record it in the files of the daemon, and pass its result or its error to `done`."""
    files = DaemonFiles(home=sensor.settings.prefect_home)
    with files.ticking(api_url), bugs_logged(sensor.settings.secrets):
        try:
            tick = sensor.tick(shutdown=shutdown, cancel=cancel)
        except AutoflowError as error:
            done(error)
            raise
        done(tick)
    return tick


def make_run_workflow(
    settings: Settings, runner: WorkflowRunner, *, workflows: Sequence[str], shutdown: Shutdown
) -> "prefect.Flow[[str, datetime.date, dict[str, Any]], Any]":
    """Return the Prefect flow that runs one workflow for one date, when a person starts it in Prefect.

    Prefect's form offers the names in `workflows`.
    """

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
            parameters: The parameters of the workflow. Leave this empty to use those of the sensor.

        """
        try:
            with bugs_logged(settings.secrets), _cancellable(runner, shutdown) as cancel:
                run = _check_request(settings, workflow, reference_date, parameters or None)
                return _end_state(run, runner.run(run, shutdown=shutdown, cancel=cancel))
        except AutoflowError as error:
            logger.error("could not start %s %s: %s", workflow, reference_date, error)
            return Failed(message=str(error))

    return run_workflow


def _check_request(
    settings: Settings, workflow: str, reference_date: datetime.date, parameters: Mapping[str, Any] | None
) -> WorkflowRun:
    """Return the requested run of `workflow`.

    Raises
    ------
    WorkflowsFileError, FlowApiError, AutoflowError
        If workflows.yml is invalid or has no such workflow, FlowAPI fails, or the run needs dates that are unavailable.

    """
    _refuse_secrets(settings, parameters or {})
    file = read_workflows(settings)
    run = requested_run(file, workflow, reference_date, parameters)
    available_dates = FlowApi.of(settings).available_dates(file.sensor.cdr_types)
    check_available(requested_trigger(file, workflow, parameters), reference_date, available_dates)
    return run


def _refuse_secrets(settings: Settings, parameters: Mapping[str, Any]) -> None:
    """Raise AutoflowError if a secret is in the parameters of this flow run, and remove it from Prefect's database."""
    try:
        check_for_secrets(parameters, settings.secrets)
    except AutoflowError:
        clean = Redaction(settings.secrets).of_parameters(parameters)
        replace_parameter(UUID(prefect.runtime.flow_run.id), parameters=clean)
        raise


@contextmanager
def _cancellable(runner: WorkflowRunner, shutdown: Shutdown) -> Iterator[StopSignal]:
    """Yield a signal that is set by the shutdown, or when the flow run in which this is called is cancelled."""
    cancel = StopSignal(shutdown.stop)
    with runner.cancellations.of(cancel) as watched:
        watched.is_run_by(UUID(prefect.runtime.flow_run.id))
        yield cancel


def _end_state(run: WorkflowRun, state: RunState | None) -> Any:
    """Return the Prefect state for the end of a run."""
    if state is None:
        return Cancelled(message=f"{run} is done already or running")
    if state.is_success:
        return prefect.states.Completed(message=f"{run} succeeded")
    if state.is_stopped:
        return Cancelled(message=f"{run}: {state}")
    return Failed(message=f"{run}: {state}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _due_text(runs: list[WorkflowRun], batch: list[WorkflowRun]) -> str:
    if not runs:
        return "nothing is due"
    some = ", ".join(str(run) for run in batch[:5]) + (", …" if len(batch) > 5 else "")
    left = f", {len(runs) - len(batch)} more in the next tick" if len(runs) > len(batch) else ""
    return f"{_count(len(batch), 'run')} due: {some}{left}"

"""Which runs are due, and the flow that finds them and runs them: the available dates sensor."""

import datetime
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
from autoflow.log import bugs_told, logger
from autoflow.model.clocks import settle_times
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.flow_runs import result_storage
from autoflow.parser import read_workflows
from autoflow.runs.plan import due_runs, given_up_keys
from autoflow.runs.records import Histories, RunKey, RunState, utc_now
from autoflow.runs.requests import check_available, requested_run, requested_trigger
from autoflow.runs.run import WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import SensorSpec, WorkflowsFile
from autoflow.stop_signal import Shutdown, StopSignal
from autoflow.workflows.runner import WorkflowRunner

TOKEN_WARNING_DAYS = 7
"""How many days before the token expires the log begins to say so, once a day."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """What came of one run of the sensor.

    `file` is what workflows.yml says now. `given_up` are the dates that it found given up before it ran any.
    `interrupted` counts the runs that came to no end, or were cancelled. `more_due` tells that there was more to do
    than one tick takes.
    """

    file: WorkflowsFile
    given_up: tuple[RunKey, ...] = ()
    dates: int = 0
    succeeded: int = 0
    failed: int = 0
    interrupted: int = 0
    more_due: bool = False


class TokenWatch:
    """Warns of a token that is about to expire, once a day."""

    def __init__(self) -> None:
        self._warned_at: datetime.datetime | None = None

    def look(self, expiry: datetime.datetime | None, now: datetime.datetime) -> None:
        """Warn, unless that was done within the last day; `expiry` and `now` are in UTC, None means never."""
        if expiry is None:
            return
        # A time in the future is from before the clock was set back.
        if self._warned_at and datetime.timedelta() <= now - self._warned_at < datetime.timedelta(days=1):
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
    """Finds the runs that are due and runs them, some side by side, as many as a tick takes."""

    settings: Settings
    store: RunStore
    runner: WorkflowRunner
    clock: Callable[[], datetime.datetime] = utc_now
    token_watch: TokenWatch = field(default_factory=TokenWatch)

    def tick(self, *, shutdown: Shutdown, cancel: StopSignal | None = None) -> Tick:
        """Do what is due, at most `max_runs_per_tick` of it, reading workflows.yml, token and dates anew.

        `cancel`, a child of the shutdown's signal, cancels the runs of this tick.

        Raises
        ------
        WorkflowsFileError, FlowApiError, RunStoreError
            Nothing has been run then.

        """
        file = read_workflows(self.settings)
        sensor = file.sensor
        flowapi = FlowApi.of(self.settings)
        self.token_watch.look(flowapi.token_expiry(), self.clock())
        available_dates = flowapi.available_dates(sensor.cdr_types)
        settle_times(self.store, shutdown.wait_until_closing)
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
        """Return the runs that are due now, of dates whose run has crashed as well; it takes four queries."""
        return due_runs(sensor.triggers, available_dates, self._histories(), self.clock())

    def _histories(self) -> Histories:
        if crashed := self.store.give_up_crashed():
            logger.warning("%s crashed: no sign of life for a minute; due again", _count(crashed, "run"))
        return self.store.histories()

    def _run_side_by_side(
        self, runs: Iterable[WorkflowRun], shutdown: Shutdown, cancel: StopSignal
    ) -> list[RunState | None]:
        def run(each: WorkflowRun) -> RunState | None:
            if cancel.is_set:
                return None  # it has not begun, and is due in the next tick
            try:
                with bugs_told(self.settings.secrets):
                    return self.runner.run(each, shutdown=shutdown, cancel=cancel)
            except AutoflowError as error:
                logger.error("%s could not be run: %s", each, error)
                return RunState.INTERRUPTED

        with ThreadPoolExecutor(self.settings.max_parallel_runs, thread_name_prefix="run") as pool:
            return list(pool.map(run, runs))


def make_available_dates_sensor(
    sensor: Sensor, *, shutdown: Shutdown, done: Callable[[Tick | AutoflowError], None]
) -> "prefect.Flow[[], Any]":
    """Return the Prefect flow that is one tick of `sensor`; `done` is told what came of it."""

    @prefect.flow(
        name="available_dates_sensor",
        flow_run_name="tick",
        persist_result=False,
        result_storage=result_storage(sensor.settings),
    )
    def available_dates_sensor() -> Any:
        """Look which dates FlowAPI has, and run the workflows that are due."""
        cancel = StopSignal(shutdown.stop)
        try:
            files = DaemonFiles(home=sensor.settings.prefect_home)
            with files.ticking(get_current_settings().api.url), bugs_told(sensor.settings.secrets):
                try:
                    with sensor.runner.cancellations.of(cancel) as watched:
                        watched.is_run_by(_own_flow_run_id())
                        tick = sensor.tick(shutdown=shutdown, cancel=cancel)
                except AutoflowError as error:
                    done(error)
                    raise
                done(tick)
        except AutoflowError as error:
            logger.error("tick failed: %s", error)
            return Failed(message=str(error))
        if shutdown.is_closing or cancel.is_set:
            return Cancelled(message=cancel.reason or "AutoFlow is stopping")
        return prefect.states.Completed(message=f"{tick.succeeded} succeeded, {tick.failed} failed")

    return available_dates_sensor


def make_run_workflow(
    settings: Settings, runner: WorkflowRunner, *, workflows: Sequence[str], shutdown: Shutdown
) -> "prefect.Flow[[str, datetime.date, dict[str, Any]], Any]":
    """Return the Prefect flow that runs one workflow for one date, when somebody asks for it.

    Prefect's form for it offers the names `workflows`.
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
        """Run one workflow for one date of data, unless it is done already or FlowAPI lacks dates that it needs.

        Args:
            workflow: One of the workflows of workflows.yml.
            reference_date: The date of data to run it for.
            parameters: Its parameters. Leave it empty for those that the sensor runs it with.

        """
        try:
            with bugs_told(settings.secrets):
                file = read_workflows(settings)
                run = requested_run(file, workflow, reference_date, parameters or None)
                available_dates = FlowApi.of(settings).available_dates(file.sensor.cdr_types)
                check_available(requested_trigger(file, workflow, parameters or None), reference_date, available_dates)
                return _end_state(run, _run_on_request(run, runner, shutdown))
        except AutoflowError as error:
            logger.error("%s %s could not be started: %s", workflow, reference_date, error)
            return Failed(message=str(error))

    return run_workflow


def _run_on_request(run: WorkflowRun, runner: WorkflowRunner, shutdown: Shutdown) -> RunState | None:
    cancel = StopSignal(shutdown.stop)
    with runner.cancellations.of(cancel) as watched:
        watched.is_run_by(_own_flow_run_id())
        return runner.run(run, shutdown=shutdown, cancel=cancel)


def _end_state(run: WorkflowRun, state: RunState | None) -> Any:
    if state is None:
        return Cancelled(message=f"{run} is done already, or is running")
    if state.is_success:
        return prefect.states.Completed(message=f"{run} succeeded")
    if state.is_stopped:
        return Cancelled(message=f"{run}: {state}")
    return Failed(message=f"{run}: {state}")


def _own_flow_run_id() -> UUID:
    """Return the id of the flow run in which this is called."""
    return UUID(prefect.runtime.flow_run.id)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _due_text(runs: list[WorkflowRun], batch: list[WorkflowRun]) -> str:
    if not runs:
        return "nothing is due"
    some = ", ".join(str(run) for run in batch[:5]) + (", …" if len(batch) > 5 else "")
    left = f", {len(runs) - len(batch)} more in the next tick" if len(runs) > len(batch) else ""
    return f"{_count(len(batch), 'run')} due: {some}{left}"

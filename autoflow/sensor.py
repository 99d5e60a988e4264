"""The available dates sensor: looks for what is due and hands it to the dispatcher, as a Prefect flow."""

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

import prefect
import prefect.runtime.flow_run
from prefect.settings.context import get_current_settings
from prefect.states import Cancelled, Failed
from pydantic import Field

from autoflow.dates.availability import Availability
from autoflow.errors import AutoflowError
from autoflow.flowapi import FlowApi
from autoflow.model.clocks import settle_times
from autoflow.model.store import RunStore
from autoflow.notebooks.redaction import Redaction
from autoflow.orchestration.cancellation import Cancellations
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.deployments import TICK_NAME
from autoflow.orchestration.flow_runs import result_storage
from autoflow.orchestration.history import replace_parameter
from autoflow.parser import read_workflows
from autoflow.parser.secret_values import check_for_secrets
from autoflow.parser.value_checks import unexpected_values
from autoflow.runs.changes import Change, DueAnew, changes, due_anew
from autoflow.runs.naming import entry_names
from autoflow.runs.plan import DueWork, given_up_keys, keys_with_reruns
from autoflow.runs.records import RunKey, RunState, utc_now
from autoflow.runs.requests import check_available, date_ranges, merged_parameters, requested_run, requested_trigger
from autoflow.runs.run import WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile
from autoflow.system.log import Outage, bugs_logged, logger
from autoflow.system.stop_signal import Shutdown, StopSignal
from autoflow.workflows.dispatcher import Dispatcher, Targets, give_up_crashed
from autoflow.workflows.runner import WorkflowRunner

TOKEN_WARNING_DAYS = 7
"""How many days before its expiry the token is the subject of a daily warning."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """The result of one run of the sensor.

    `file` is the present workflows.yml. `given_up` are the runs that have been given up, and `changes` those for which
    people are to be notified of days that have changed. `dates` and `due` count the available dates and the runs that
    are due; `availability` has the former.
    """

    file: WorkflowsFile
    given_up: tuple[RunKey, ...] = ()
    changes: tuple[Change, ...] = ()
    dates: int = 0
    due: int = 0
    availability: Availability | None = None


class TokenWatch:
    """Warns once a day that the token is about to expire."""

    def __init__(self) -> None:
        self._warned_at: datetime.datetime | None = None

    def look(self, expiry: datetime.datetime | None, now: datetime.datetime) -> None:
        """Warn if the token expires soon, at most once a day; `expiry` and `now` are in UTC, None means never."""
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


class EditWatch:
    """Warns once of each edit of workflows.yml that makes many dates due."""

    def __init__(self) -> None:
        self._last = DueAnew()

    def look(self, found: DueAnew) -> None:
        """Warn of the dates `found` if they are many, and of other entries than before."""
        if found.is_large and found.counts.keys() - self._last.counts.keys():
            logger.warning("workflows.yml: %s", found)
        self._last = found


class TypesWatch:
    """Warns once that FlowAPI has no dates of a type that it had before, and logs when it has some again."""

    def __init__(self) -> None:
        self._outages: dict[str, Outage] = {}

    def look(self, known: Iterable[str], found: Mapping[str, AbstractSet[datetime.date]]) -> None:
        """Compare the dates that were `found`, by type, with the types that are `known` to have had dates."""
        for name in sorted(known):
            outage = self._outages.setdefault(name, Outage())
            if found.get(name):
                outage.end("FlowAPI has dates of type %s again", name)
            else:
                outage.begin(
                    "FlowAPI has no dates of type %s, but had some before; a fault in FlowAPI: "
                    "look at FlowMachine's log",
                    name,
                )


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Looks for what is due, and hands it to the dispatcher.

    `wait` waits for a number of seconds, and returns True if AutoFlow is shutting down.
    """

    settings: Settings
    store: RunStore
    dispatcher: Dispatcher
    wait: Callable[[float], object]
    clock: Callable[[], datetime.datetime] = utc_now
    token_watch: TokenWatch = field(default_factory=TokenWatch)
    edit_watch: EditWatch = field(default_factory=EditWatch)
    types_watch: TypesWatch = field(default_factory=TypesWatch)

    def tick(self) -> Tick:
        """Read workflows.yml, the token and the available dates; hand over what is due, without waiting for it.

        If this fails, the dispatcher starts nothing more until the next tick.

        Raises
        ------
        WorkflowsFileError, FlowApiError, RunStoreError
            If one of them cannot be read.

        """
        try:
            return self._look()
        except AutoflowError:
            self.dispatcher.hold("the tick failed")
            raise

    def _look(self) -> Tick:
        file = read_workflows(self.settings)
        triggers = file.sensor.triggers
        flowapi = FlowApi.of(self.settings)
        self.token_watch.look(flowapi.token_expiry(), self.clock())
        found = flowapi.available_dates()
        settle_times(self.store, self.wait)
        give_up_crashed(self.store)
        availability = self._noted(found).only(file.sensor.cdr_types)
        histories = self.store.histories(keys_with_reruns(triggers))
        now = self.clock()
        self.edit_watch.look(due_anew(triggers, availability, histories, now))
        work = self.dispatcher.hand_over(Targets(triggers=triggers, availability=availability), histories)
        dates = len(availability.to().dates)
        logger.info("tick: %s available, %s", _count(dates, "date"), _due_text(work))
        given_up = tuple(given_up_keys(triggers, histories))
        changed = tuple(changes(triggers, availability, histories, now))
        return Tick(
            file=file, given_up=given_up, changes=changed, dates=dates, due=work.total, availability=availability
        )

    def _noted(self, found: Availability) -> Availability:
        """Record the dates that FlowAPI has; return them with the times at which they arrived."""
        arrivals = self.store.note_dates(found.types)
        self.types_watch.look(arrivals, found.types)
        return found.with_arrivals(arrivals)


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
                tick = _recorded_tick(sensor, get_current_settings().api.url, done)
            except AutoflowError as error:
                logger.error("tick failed: %s", error)
                return Failed(message=str(error))
            if shutdown.is_closing or cancel.is_set:
                sensor.dispatcher.hold("the tick was cancelled")
                return Cancelled(message=cancel.reason or "AutoFlow is shutting down")
            return prefect.states.Completed(message=f"{_count(tick.due, 'run')} due")

    return available_dates_sensor


def _recorded_tick(
    sensor: Sensor,
    api_url: str | None,
    done: Callable[[Tick | AutoflowError], None],
) -> Tick:
    """Run a tick, record it in the files of the daemon, and pass its result or its error to `done`."""
    files = DaemonFiles(home=sensor.settings.prefect_home)
    with files.ticking(api_url), bugs_logged(sensor.settings.secrets):
        try:
            tick = sensor.tick()
        except AutoflowError as error:
            done(error)
            raise
        done(tick)
    return tick


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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _due_text(work: DueWork) -> str:
    waiting = f"; {_count(work.waiting, 'date')} waiting for the rest of the data" if work.waiting else ""
    if not work.total:
        return f"nothing is due{waiting}"
    first = sorted((run for runs in work.runs.values() for run in runs[:5]), key=lambda run: run.reference_date)[:5]
    some = ", ".join(map(str, first)) + (", …" if work.total > 5 else "")
    return f"{_count(work.total, 'run')} due: {some}{waiting}"

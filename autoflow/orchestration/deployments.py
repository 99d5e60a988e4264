"""Runs what Prefect schedules for AutoFlow's deployments, in threads of this process.

Prefect's own ``serve`` starts a Python process for each run, which costs two seconds of CPU time and 150 MB. It also
starts all missed runs at once.
"""

import contextlib
import datetime
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentScheduleUpdate, DeploymentUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse, SetStateStatus
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Pending, Scheduled
from prefect.utilities.callables import parameter_schema

from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.orchestration.prefect_client_internals import report_served, run_scheduled
from autoflow.system.log import logger
from autoflow.utils import ClockWatch

if TYPE_CHECKING:
    import prefect

POLL_SECONDS = 4.0
"""How often Prefect is queried for scheduled runs, which takes 10 ms of CPU time in its server."""

SIGN_OF_LIFE_SECONDS = 20.0
"""How often the deployments are reported as served; after a minute without, Prefect shows them as not ready."""

NAMING_SECONDS = 60.0
"""How often the ticks that Prefect has scheduled are named."""

TICK_NAME = "tick"
"""The name of the sensor's flow runs; Prefect gives made-up names to those that it schedules."""

MOST_TAKEN = 200
"""The highest number of flow runs that Prefect's API returns for a query."""


class Deployment:
    """A flow that Prefect can schedule, and that users can start from Prefect's UI.

    An `exclusive` deployment has one run at a time; if several are late, only the newest is run.
    """

    def __init__(self, flow: "prefect.Flow[..., Any]", *, name: str, description: str, exclusive: bool = False) -> None:
        self.flow = flow
        self.name = name
        self.description = description
        self.exclusive = exclusive
        self._id: UUID | None = None

    @property
    def id(self) -> UUID:
        """Prefect's id of the deployment, which has to be applied first."""
        if self._id is None:
            raise LookupError(f"deployment '{self.name}' has not been applied")
        return self._id

    def apply(self, *, cron: str | None = None, timezone: str = "UTC") -> None:
        """Create the deployment in Prefect, or update its schedule; `cron` is in `timezone`, an IANA name.

        The flow's own `to_deployment` would import Prefect's runner and FastAPI, for 9 MB of the daemon's memory.
        """
        schedules = [CronSchedule(cron=cron, timezone=timezone)] if cron else []
        content: dict[str, Any] = {
            "description": self.description,
            "tags": ["autoflow"],
            "parameter_openapi_schema": parameter_schema(self.flow).model_dump(exclude_unset=True),
            "enforce_parameter_schema": True,
            "paused": False,
        }
        with get_client(sync_client=True) as client:
            try:
                self._id = client.read_deployment_by_name(f"{self.flow.name}/{self.name}").id
            except ObjectNotFound:
                created = [DeploymentScheduleCreate(schedule=each) for each in schedules]
                flow_id = client.create_flow(self.flow)
                self._id = client.create_deployment(flow_id, self.name, schedules=created, **content)
            else:
                if schedules:
                    content["schedules"] = [DeploymentScheduleUpdate(schedule=each, active=True) for each in schedules]
                client.update_deployment(self._id, DeploymentUpdate(**content))

    def run_soon(self) -> None:
        """Schedule a run for now."""
        with get_client(sync_client=True) as client:
            client.create_flow_run_from_deployment(self.id, name=TICK_NAME)

    def show_ended(self, state: "State[Any]") -> None:
        """Show a run that has ended in `state`."""
        with get_client(sync_client=True) as client:
            client.create_flow_run_from_deployment(self.id, name=TICK_NAME, state=state)

    def is_paused(self) -> bool:
        """Return whether the deployment, or all of its schedules, are paused in Prefect."""
        with get_client(sync_client=True) as client:
            return _is_paused(client.read_deployment(self.id))


def show_ended(flow: "prefect.Flow[..., Any]", state: "State[Any]") -> None:
    """Show a tick, which is a run of `flow` without a deployment, that has ended in `state`."""
    with get_client(sync_client=True) as client:
        client.create_flow_run(flow, name=TICK_NAME, state=state)


class DeploymentRunner:
    """Runs what Prefect has scheduled for `deployments`, each run in a thread.

    Poll it in a ``with`` block, which keeps one client open: making a client takes longer than a query. The scheduled
    runs of the deployment `tick` get a proper name.
    """

    def __init__(
        self,
        deployments: Sequence[Deployment],
        *,
        tick: Deployment | None = None,
        clock_watch: ClockWatch | None = None,
    ) -> None:
        self._clock_watch = clock_watch or ClockWatch()
        self._is_schedule_wrong = False
        self._deployments = {deployment.id: deployment for deployment in deployments}
        self._lock = threading.Lock()
        self._running: dict[UUID, tuple[Deployment, threading.Thread]] = {}
        self._failed: set[UUID] = set()
        self._tick = tick
        self._sign_of_life_at = 0.0
        self._naming_at = 0.0
        self._api_is_gone = False
        self._client = get_client(sync_client=True)

    def __enter__(self) -> Self:
        """Open the client."""
        self._client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client; runs in progress continue."""
        self._client.__exit__(None, None, None)

    def poll(self, now: datetime.datetime | None = None) -> None:
        """Start the runs scheduled for `now` or earlier; if Prefect does not respond, leave them to the next poll."""
        try:
            self._poll(now or datetime.datetime.now(datetime.UTC))
        except PREFECT_FAILURES as error:
            if not self._api_is_gone:
                logger.warning("the Prefect API does not respond (%s); trying again", type(error).__name__)
            self._api_is_gone = True
        else:
            if self._api_is_gone:
                logger.info("the Prefect API responds again")
            self._api_is_gone = False

    def join(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for all runs to end; return whether they have."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            threads = [thread for _, thread in self._running.values()]
        for thread in threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        self._forget_ended()
        return not self._running

    def _poll(self, now: datetime.datetime) -> None:
        self._forget_ended()
        self._put_back()
        self._is_schedule_wrong = self._clock_watch.was_set_back() or self._is_schedule_wrong
        if self._is_schedule_wrong:
            self._delete_future_runs(now)
            self._is_schedule_wrong = False
        if time.monotonic() >= self._sign_of_life_at:
            report_served(self._client, list(self._deployments), now)
            self._sign_of_life_at = time.monotonic() + SIGN_OF_LIFE_SECONDS
        if self._tick and time.monotonic() >= self._naming_at:
            self._name_ticks(self._tick)
            self._naming_at = time.monotonic() + NAMING_SECONDS
        found = self._scheduled(now)
        for deployment in self._deployments.values():
            scheduled = [each for each in found if each.deployment_id == deployment.id]
            for flow_run in self._take(deployment, scheduled):
                self._start(deployment, flow_run)

    def _delete_future_runs(self, now: datetime.datetime) -> None:
        """Delete the runs that Prefect has scheduled ahead, so that it schedules new ones by the present clock.

        Prefect schedules no others as long as it has enough of them, however far ahead.
        """
        logger.warning("the clock was set back: ticks are scheduled again")
        found = self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=list(self._deployments)),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                next_scheduled_start_time=FlowRunFilterNextScheduledStartTime.model_validate({"after_": now}),
            ),
            limit=MOST_TAKEN,
        )
        for flow_run in found:
            # Runs that a person has scheduled stay.
            if flow_run.auto_scheduled:
                with contextlib.suppress(ObjectNotFound):
                    self._client.delete_flow_run(flow_run.id)

    def is_paused(self, deployment: Deployment) -> bool | None:
        """Return whether `deployment` is paused in Prefect; None if Prefect does not respond."""
        try:
            return _is_paused(self._client.read_deployment(deployment.id))
        except PREFECT_FAILURES as error:
            logger.debug("could not check whether '%s' is paused: %s", deployment.name, type(error).__name__)
            return None

    def _name_ticks(self, tick: Deployment) -> None:
        """Name the ticks that Prefect has scheduled, which people see in its UI long before they run."""
        scheduled = self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[tick.id]),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            ),
            limit=MOST_TAKEN,
        )
        for flow_run in scheduled:
            if flow_run.name != TICK_NAME:
                self._client.update_flow_run(flow_run.id, name=TICK_NAME)

    def _scheduled(self, now: datetime.datetime) -> list[FlowRun]:
        return self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=list(self._deployments)),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                next_scheduled_start_time=FlowRunFilterNextScheduledStartTime.model_validate({"before_": now}),
            ),
            limit=MOST_TAKEN,
        )

    def _take(self, deployment: Deployment, scheduled: list[FlowRun]) -> list[FlowRun]:
        """Return the runs among `scheduled` that this daemon has to start now."""
        if deployment.exclusive:
            with self._lock:
                if any(each is deployment for each, _ in self._running.values()):
                    return []
            scheduled.sort(key=lambda flow_run: str(flow_run.next_scheduled_start_time))
            for late in scheduled[:-1]:
                self._client.set_flow_run_state(late.id, Cancelled(message="Superseded by a later tick."))
            scheduled = scheduled[-1:]
        # Another daemon with the same Prefect API may try this, too: Prefect accepts it only once.
        return [
            flow_run
            for flow_run in scheduled
            if self._client.set_flow_run_state(flow_run.id, Pending()).status is SetStateStatus.ACCEPT
        ]

    def _start(self, deployment: Deployment, flow_run: FlowRun) -> None:
        thread = threading.Thread(target=self._run, args=(deployment, flow_run), name=deployment.name, daemon=True)
        with self._lock:
            self._running[flow_run.id] = (deployment, thread)
            thread.start()

    def _run(self, deployment: Deployment, flow_run: FlowRun) -> None:
        try:
            run_scheduled(deployment.flow, flow_run)
        except PREFECT_FAILURES as error:
            logger.warning("'%s' ended because the Prefect API failed: %s", deployment.name, type(error).__name__)
            with self._lock:
                self._failed.add(flow_run.id)

    def _put_back(self) -> None:
        """Schedule the runs again that could not start because Prefect's API was gone."""
        with self._lock:
            failed = list(self._failed)
        for flow_run_id in failed:
            with contextlib.suppress(ObjectNotFound):
                state = self._client.read_flow_run(flow_run_id).state
                if state and state.is_pending():
                    self._client.set_flow_run_state(flow_run_id, Scheduled(), force=True)
            with self._lock:
                self._failed.discard(flow_run_id)

    def _forget_ended(self) -> None:
        with self._lock:
            self._running = {key: value for key, value in self._running.items() if value[1].is_alive()}


def _is_paused(deployment: DeploymentResponse) -> bool:
    schedules = deployment.schedules
    return deployment.paused or (bool(schedules) and not any(schedule.active for schedule in schedules))

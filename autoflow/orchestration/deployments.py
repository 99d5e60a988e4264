"""AutoFlow's deployments in Prefect: what Prefect schedules for them is run here, in threads of this process.

Prefect's own ``serve`` starts a new Python for each run, which costs two seconds of CPU time and 150 MB, and all runs
that were missed at once.
"""

import contextlib
import datetime
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, cast
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import run_flow
from prefect.logging.handlers import APILogWorker
from prefect.schedules import Cron
from prefect.settings.context import get_current_settings
from prefect.states import Cancelled, Pending, Scheduled

from autoflow.log import logger
from autoflow.orchestration.failures import PREFECT_FAILURES

if TYPE_CHECKING:
    import prefect
    from prefect.deployments.runner import RunnerDeployment

DRAIN_SECONDS = 2.0
"""How long each of Prefect's two queues of things to tell its API may take to become empty, at the end."""

POLL_SECONDS = 4.0
"""How often Prefect is asked what it has scheduled: to answer takes its server 10 ms of CPU time."""

SIGN_OF_LIFE_SECONDS = 20.0
"""How often Prefect is told that the deployments are served; after a minute without, it shows that they are not."""

MOST_TAKEN = 200
"""Prefect's API answers for so many flow runs at once."""


class Deployment:
    """A flow that Prefect can schedule, or a person start from Prefect's UI.

    Of a deployment that is `exclusive`, one run goes at a time, and of several that are late only the newest.
    """

    def __init__(self, flow: "prefect.Flow[..., Any]", *, name: str, description: str, exclusive: bool = False) -> None:
        self.flow = flow
        self.name = name
        self.description = description
        self.exclusive = exclusive
        self._id: UUID | None = None

    @property
    def id(self) -> UUID:
        """Prefect's id of the deployment; it has to be applied first."""
        if self._id is None:
            raise LookupError(f"deployment '{self.name}' has not been applied")
        return self._id

    def apply(self, *, cron: str | None = None) -> None:
        """Tell Prefect of the deployment, or of its new schedule; `cron` is in UTC."""
        deployment = cast(
            "RunnerDeployment",
            self.flow.to_deployment(
                self.name,
                schedule=Cron(cron, timezone="UTC") if cron else None,
                description=self.description,
                tags=["autoflow"],
            ),
        )
        self._id = cast("UUID", deployment.apply())

    def run_soon(self) -> None:
        """Have Prefect schedule a run for now."""
        with get_client(sync_client=True) as client:
            client.create_flow_run_from_deployment(self.id)


class DeploymentRunner:
    """Takes the runs that Prefect has scheduled for `deployments`, and runs each in a thread.

    It asks for them in a ``with`` block, over one client: to make another one takes longer than to ask.
    """

    def __init__(self, deployments: Sequence[Deployment]) -> None:
        self._deployments = {deployment.id: deployment for deployment in deployments}
        self._lock = threading.Lock()
        self._running: dict[UUID, tuple[Deployment, threading.Thread]] = {}
        self._failed: set[UUID] = set()
        self._sign_of_life_at = 0.0
        self._api_is_gone = False
        self._client = get_client(sync_client=True)

    def __enter__(self) -> Self:
        """Make ready to ask."""
        self._client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Ask no longer; what runs goes on."""
        self._client.__exit__(None, None, None)

    def poll(self, now: datetime.datetime | None = None) -> None:
        """Start what is scheduled for `now` or before; a Prefect API that does not answer is asked again next time."""
        try:
            self._poll(now or datetime.datetime.now(datetime.UTC))
        except PREFECT_FAILURES as error:
            if not self._api_is_gone:
                logger.warning("the Prefect API does not answer (%s); trying again", type(error).__name__)
            self._api_is_gone = True
        else:
            if self._api_is_gone:
                logger.info("the Prefect API answers again")
            self._api_is_gone = False

    def join(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds until nothing runs; tell whether that is so."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            threads = [thread for _, thread in self._running.values()]
        for thread in threads:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            thread.join(left)
        self._forget_ended()
        return not self._running

    def _poll(self, now: datetime.datetime) -> None:
        self._forget_ended()
        self._put_back()
        if time.monotonic() >= self._sign_of_life_at:
            # To ask in the way of Prefect's own runner is this sign, for which the server writes to its database.
            self._client.get_scheduled_flow_runs_for_deployments(list(self._deployments), scheduled_before=now)
            self._sign_of_life_at = time.monotonic() + SIGN_OF_LIFE_SECONDS
        found = self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=list(self._deployments)),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
                next_scheduled_start_time=FlowRunFilterNextScheduledStartTime.model_validate({"before_": now}),
            ),
            limit=MOST_TAKEN,
        )
        for deployment in self._deployments.values():
            scheduled = [each for each in found if each.deployment_id == deployment.id]
            for flow_run in self._take(deployment, scheduled):
                self._start(deployment, flow_run)

    def _take(self, deployment: Deployment, scheduled: list[FlowRun]) -> list[FlowRun]:
        """Return those of `scheduled` that are ours to run now."""
        if deployment.exclusive:
            with self._lock:
                if any(each is deployment for each, _ in self._running.values()):
                    return []
            scheduled.sort(key=lambda flow_run: str(flow_run.next_scheduled_start_time))
            for late in scheduled[:-1]:
                self._client.set_flow_run_state(late.id, Cancelled(message="A later tick does its work."))
            scheduled = scheduled[-1:]
        # Another daemon on the same Prefect API may be quicker: Prefect accepts one of us.
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
            # As if it were of no deployment: for one, Prefect would listen whether it is to be suspended.
            run_flow(deployment.flow, flow_run=flow_run.model_copy(update={"deployment_id": None}), return_type="state")
        except PREFECT_FAILURES as error:
            logger.warning("Prefect did not let '%s' run to its end: %s", deployment.name, type(error).__name__)
            with self._lock:
                self._failed.add(flow_run.id)

    def _put_back(self) -> None:
        """Have Prefect schedule again what was taken, and could not be begun because its API was gone."""
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


def do_without_heartbeats() -> None:
    """Have Prefect's flows end at once: each would wait for up to a second for a thread of its own.

    There is no environment variable that unsets it. AutoFlow's claims have a heartbeat of their own.
    """
    get_current_settings().flows.heartbeat_frequency = None


@contextmanager
def closing_prefect() -> Iterator[None]:
    """At the end of the block, send what Prefect has to tell its API still: once that is gone, it would wait long."""
    try:
        yield
    finally:
        for worker in (EventsWorker, APILogWorker):
            worker.drain_all(timeout=DRAIN_SECONDS, at_exit=False)

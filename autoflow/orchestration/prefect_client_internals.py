"""The parts of Prefect beyond its public API that AutoFlow's process uses.

Prefect can change all of this in any release. Each item says why AutoFlow needs it and what happens if it changes;
tests/orchestration/test_prefect_internals.py checks it, so that an upgrade shows at once what has moved. The server's
process has its own module, `prefect_server_internals`: this process must not spend time and memory on Prefect's server.
"""

import contextlib
import contextvars
import copy
import datetime
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import FlowRunCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import SyncClientContext
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flow_engine import FlowRunEngine, run_flow
from prefect.logging.handlers import APILogHandler, APILogWorker
from prefect.settings.context import get_current_settings
from prefect.states import Running, to_state_create

if TYPE_CHECKING:
    import prefect

DRAIN_SECONDS = 2.0
"""The most time to flush each of Prefect's queues at the end, in seconds."""


def disable_heartbeats() -> None:
    """Turn off the heartbeats of Prefect's flows: AutoFlow's claims have their own.

    With them, each flow run has a thread, and waits up to a second for that thread when it ends. No environment
    variable can set the frequency to None, so this changes the settings object that Prefect's engine reads. If Prefect
    moves the setting, runs end up to a second later.
    """
    get_current_settings().flows.heartbeat_frequency = None


@contextmanager
def prefect_queues_flushed() -> Iterator[None]:
    """At the end of the block, send the events and log lines that Prefect has queued.

    Prefect would flush them when the interpreter exits. By then, our own server is gone, and Prefect retries for a long
    time. If Prefect replaces these workers, AutoFlow takes long to end, or Prefect's UI lacks the last log lines.
    """
    try:
        yield
    finally:
        for worker in (EventsWorker, APILogWorker):
            worker.drain_all(timeout=DRAIN_SECONDS, at_exit=False)


def line_sender(flow_run_id: UUID) -> Callable[[logging.LogRecord], None]:
    """Return a function that sends a line of the log to Prefect as one of a flow run, without waiting for it.

    Prefect's handler takes the id from the line, because the line may be logged outside of the flow run. If that
    changes, Prefect's UI lacks the lines of runs.
    """
    handler = APILogHandler()

    def send(line: logging.LogRecord) -> None:
        # A copy: Prefect's own handler of the log must not send it once more.
        line = copy.copy(line)
        line.flow_run_id = str(flow_run_id)
        handler.emit(line)

    return send


def report_served(client: SyncPrefectClient, deployment_ids: Sequence[UUID], now: datetime.datetime) -> None:
    """Report to Prefect that the deployments are served, so that its UI shows them as ready for a minute.

    There is no request for this alone: the server takes the query for scheduled runs as the heartbeat of Prefect's
    own runner. If that changes, the UI shows the deployments as not ready; runs are not affected.
    """
    client.get_scheduled_flow_runs_for_deployments(list(deployment_ids), scheduled_before=now)


def run_scheduled(flow: "prefect.Flow[..., Any]", flow_run: FlowRun) -> None:
    """Run `flow` as `flow_run`, which Prefect has scheduled for a deployment.

    `run_flow` is what Prefect's own runner calls in the process of a run. It gets no deployment here: for one, it would
    keep a connection open to hear whether the run is suspended. If `run_flow` changes, no scheduled run starts.
    """
    run_flow(flow, flow_run=flow_run.model_copy(update={"deployment_id": None}), return_type="state")


@contextmanager
def one_client() -> Iterator[contextvars.Context]:
    """Yield a context in which all of Prefect's engines use the same client.

    Otherwise, each run makes its own client, which takes longer than all of its requests. If engines no longer take the
    client from their context, runs become slower.
    """
    context = contextvars.Context()
    client = context.run(SyncClientContext)
    context.run(client.__enter__)
    try:
        yield context
    finally:
        context.run(client.__exit__, None, None, None)


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A flow run to create.

    `parameters` are plain JSON, which Prefect's own `serialize_parameters` would import FastAPI to make sure of.
    `flow_ids` caches the ids of flows by name.
    """

    flow: "prefect.Flow[..., Any]"
    parameters: Mapping[str, Any]
    name: str
    tags: tuple[str, ...]
    flow_ids: dict[str, UUID]

    def run(self) -> "State[Any]":
        """Create the flow run, run it to its end, and return its state.

        This is the loop of `prefect.flow_engine.run_flow_sync` with an engine that needs fewer requests.
        """
        engine = _Engine(flow=self.flow, parameters=dict(self.parameters), new_run=self)
        with engine.start():
            while engine.is_running():
                with engine.run_context():
                    engine.call_flow_fn()
        return engine.state

    def create(self, client: SyncPrefectClient) -> FlowRun:
        """Create the flow run in Prefect, running and with its name, in one request if the flow's id is known."""
        if flow_id := self.flow_ids.get(self.flow.name):
            # Prefect refuses if the flow was deleted in its UI; the flow is then created again below.
            with contextlib.suppress(PrefectHTTPStatusError):
                return self._create(client, flow_id)
        flow_id = self.flow_ids[self.flow.name] = client.create_flow(self.flow)
        return self._create(client, flow_id)

    def _create(self, client: SyncPrefectClient, flow_id: UUID) -> FlowRun:
        flow_run = FlowRunCreate(
            flow_id=flow_id,
            flow_version=self.flow.version,
            name=self.name,
            parameters=dict(self.parameters),
            tags=list(self.tags),
            state=to_state_create(Running()),
        )
        answer = client.request("POST", "/flow_runs/", json=flow_run.model_dump(mode="json", exclude_unset=True))
        return FlowRun.model_validate(answer.json())


@dataclass
class _Engine(FlowRunEngine[..., Any]):
    """Prefect's engine with four requests less for each run.

    Prefect's own engine creates a run as pending, with a generated name, then corrects both, and reads the run back
    twice. If Prefect renames one of the methods below, its own version is used: runs then cost more, or fail.
    """

    new_run: NewRun = field(kw_only=True)

    def create_flow_run(self, client: SyncPrefectClient) -> FlowRun:
        """Create the run with its final name, so that the engine need not set it."""
        self._flow_run_name_set = True
        return self.new_run.create(client)

    def setup_run_context(  # type: ignore[override] # typeshed's name for the return type is private
        self, client: SyncPrefectClient | None = None
    ) -> AbstractContextManager["FlowRunEngine[..., Any]"]:
        """Prepare the context of the run without reading it back: it has just been created."""
        used = client or self.client
        return super().setup_run_context(_ClientWithRun(used, self.flow_run) if self.flow_run else used)

    def begin_run(self) -> "State[Any]":
        """Begin the run, without a request if it was created as running."""
        if not self.state.is_running():
            return super().begin_run()
        self.call_hooks()
        return self.state


class _ClientWithRun(SyncPrefectClient):
    """A client that shares the connections of another one, and returns one flow run without a request."""

    def __init__(self, client: SyncPrefectClient, flow_run: FlowRun) -> None:
        vars(self).update(vars(client))
        self._flow_run = flow_run

    def read_flow_run(self, flow_run_id: UUID) -> FlowRun:
        """Return the known run, or query Prefect for another one."""
        return self._flow_run if flow_run_id == self._flow_run.id else super().read_flow_run(flow_run_id)

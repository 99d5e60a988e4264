"""Runs of flows in Prefect, each a run of its own, told to its API in as few requests as that takes.

Prefect's own way is ten requests for a run, a third of them for what is known already, over a client of its own for
each run, which takes longer to make than all of them. On a small server that is most of what a run costs.
"""

import contextlib
import contextvars
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import FlowRunCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import SyncClientContext
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flow_engine import FlowRunEngine
from prefect.states import Running, to_state_create

from autoflow.settings import Settings

if TYPE_CHECKING:
    import prefect


def result_storage(settings: Settings) -> Path:
    """Return where flows would keep results if they kept any: Prefect asks its server for that place at each run."""
    return settings.prefect_home / "storage"


class FlowRuns:
    """Runs flows for any number of threads, in a ``with`` block over one client for all of them."""

    def __init__(self) -> None:
        self._flow_ids: dict[str, UUID] = {}
        self._context = contextvars.Context()
        self._client: SyncClientContext | None = None

    def __enter__(self) -> Self:
        """Make the client."""
        self._client = self._context.run(SyncClientContext)
        self._context.run(self._client.__enter__)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client; what still runs is no longer told to Prefect."""
        if self._client:
            self._context.run(self._client.__exit__, None, None, None)

    def run(
        self, flow: "prefect.Flow[..., Any]", parameters: Mapping[str, Any], *, name: str, tags: Iterable[str]
    ) -> "State[Any]":
        """Run `flow` to its end, as a run called `name` that is no part of another one; return its state.

        Raises
        ------
        httpx.HTTPError, prefect.exceptions.PrefectException
            If Prefect's API is gone, or refuses.

        """
        engine = _Engine(flow=flow, parameters=dict(parameters), name=name, tags=tuple(tags), flow_ids=self._flow_ids)
        # In a context without a parent, which would keep the states of all its children in memory until its end.
        return self._context.copy().run(_run, engine)


def _run(engine: "_Engine") -> "State[Any]":
    with engine.start():
        while engine.is_running():
            with engine.run_context():
                engine.call_flow_fn()
    return engine.state


class _Knowing(SyncPrefectClient):
    """A client, over the connections of another one, that knows a run."""

    def __init__(self, client: SyncPrefectClient, flow_run: FlowRun) -> None:
        vars(self).update(vars(client))
        self._flow_run = flow_run

    def read_flow_run(self, flow_run_id: UUID) -> FlowRun:
        """Return the run; ask only for another one."""
        return self._flow_run if flow_run_id == self._flow_run.id else super().read_flow_run(flow_run_id)


@dataclass
class _Engine(FlowRunEngine[..., Any]):
    """Prefect's engine, for a run that is created as what it is: with its name, and running.

    `flow_ids` are the ids that Prefect has given to flows, by their names, as far as they are known.
    """

    name: str = ""
    tags: tuple[str, ...] = ()
    flow_ids: dict[str, UUID] = field(default_factory=dict)

    def create_flow_run(self, client: SyncPrefectClient) -> FlowRun:
        """Tell Prefect of the run; its own engine creates it as pending, with a name made up, and corrects that."""
        self._flow_run_name_set = True
        if flow_id := self.flow_ids.get(self.flow.name):
            # Refused if somebody has deleted the flow in Prefect, which is told of it again then.
            with contextlib.suppress(PrefectHTTPStatusError):
                return self._create(client, flow_id)
        flow_id = self.flow_ids[self.flow.name] = client.create_flow(self.flow)
        return self._create(client, flow_id)

    def _create(self, client: SyncPrefectClient, flow_id: UUID) -> FlowRun:
        flow_run = FlowRunCreate(
            flow_id=flow_id,
            flow_version=self.flow.version,
            name=self.name,
            parameters=self.flow.serialize_parameters(self.parameters or {}),
            tags=list(self.tags),
            state=to_state_create(Running()),
        )
        answer = client.request("POST", "/flow_runs/", json=flow_run.model_dump(mode="json", exclude_unset=True))
        return FlowRun.model_validate(answer.json())

    def setup_run_context(  # type: ignore[override] # typeshed's name for what this returns is private
        self, client: SyncPrefectClient | None = None
    ) -> AbstractContextManager["FlowRunEngine[..., Any]"]:
        """Prepare what the flow runs in, without asking for the run: it is what it was created as a moment ago."""
        asked = client or self.client
        return super().setup_run_context(_Knowing(asked, self.flow_run) if self.flow_run else asked)

    def begin_run(self) -> "State[Any]":
        """Begin, without a request if the run was created as running."""
        if not self.state.is_running():
            return super().begin_run()
        self.call_hooks()
        return self.state

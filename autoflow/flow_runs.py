"""Runs of flows in Prefect, each a run of its own, told to its API in as few requests as that takes.

Prefect's own way is ten requests for a run, a third of them for what is known already, over a client of its own for
each run, which takes longer to make than all of them. On a small server that is most of what a run costs.
"""

import contextvars
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import SyncClientContext, TagsContext
from prefect.flow_engine import FlowRunEngine
from prefect.states import Running

if TYPE_CHECKING:
    import prefect


class FlowRuns:
    """Runs flows for any number of threads, in a ``with`` block over one client for all of them."""

    def __init__(self) -> None:
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
        # In a context without a parent, which would keep the states of all its children in memory until its end.
        return self._context.copy().run(_run, flow, dict(parameters), name, tuple(tags))


def _run(flow: "prefect.Flow[..., Any]", parameters: dict[str, Any], name: str, tags: tuple[str, ...]) -> "State[Any]":
    engine = _Engine(flow=flow, parameters=parameters, run_name=name, run_tags=tags)
    with engine.start():
        while engine.is_running():
            with engine.run_context():
                engine.call_flow_fn()
    return engine.state


@dataclass
class _Engine(FlowRunEngine[..., Any]):
    """Prefect's engine, for a run that is created as what it is: with its name, and running."""

    run_name: str = ""
    run_tags: tuple[str, ...] = ()

    def create_flow_run(self, client: SyncPrefectClient) -> FlowRun:
        """Tell Prefect of the run; its own engine creates it as pending, with a name made up, and corrects that."""
        self._flow_run_name_set = True
        return client.create_flow_run(
            flow=self.flow,
            name=self.run_name,
            parameters=self.flow.serialize_parameters(self.parameters or {}),
            tags={*TagsContext.get().current_tags, *self.run_tags},
            state=Running(),
        )

    def begin_run(self) -> "State[Any]":
        """Begin, without a request if the run was created as running."""
        if not self.state.is_running():
            return super().begin_run()
        self.call_hooks()
        return self.state

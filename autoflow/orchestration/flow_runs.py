"""Runs flows in Prefect with as few requests as possible.

Prefect itself sends ten requests for a run, a third of them for what it knows already, over a new client for each run.
Making that client takes longer than the requests. On a small server, this is most of the cost of a run.
"""

import contextvars
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from autoflow.orchestration.prefect_client_internals import NewRun, one_client
from autoflow.settings import Settings

if TYPE_CHECKING:
    from uuid import UUID

    import prefect
    from prefect.client.schemas.objects import State


def result_storage(settings: Settings) -> Path:
    """Return the folder in which flows would store results, if they stored any.

    Without it, each run of a flow queries Prefect's server for one.
    """
    return settings.prefect_home / "storage"


class FlowRuns:
    """Runs flows for any number of threads; in a ``with`` block, they share one client."""

    def __init__(self) -> None:
        self._flow_ids: dict[str, UUID] = {}
        self._context = contextvars.Context()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the client."""
        self._context = self._stack.enter_context(one_client())
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client; runs that have not ended are no longer reported to Prefect."""
        self._stack.close()

    def run(
        self, flow: "prefect.Flow[..., Any]", parameters: Mapping[str, Any], *, name: str, tags: Iterable[str]
    ) -> "State[Any]":
        """Run `flow` to its end, as a run called `name` that is not part of another run; return its state.

        Raises
        ------
        httpx.HTTPError, prefect.exceptions.PrefectException
            If Prefect's API is gone or refuses.

        """
        new_run = NewRun(flow=flow, parameters=parameters, name=name, tags=tuple(tags), flow_ids=self._flow_ids)
        # The context has no parent run: one would keep the states of all its children in memory until it ends.
        return self._context.copy().run(new_run.run)

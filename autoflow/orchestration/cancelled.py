"""Asks Prefect which flow runs are cancelled there. Importing this module imports Prefect."""

from collections.abc import Sequence
from typing import Self
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.system.log import logger

MOST_ASKED_FOR = 200
"""The highest number of flow runs that Prefect's API returns for a query."""


class CancelledFlowRuns:
    """Asks Prefect over one client, in a ``with`` block: it takes longer to make a client than to query Prefect."""

    def __init__(self) -> None:
        self._client = get_client(sync_client=True)

    def __enter__(self) -> Self:
        """Open the client."""
        self._client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client."""
        self._client.__exit__(None, None, None)

    def among(self, flow_run_ids: Sequence[UUID]) -> list[UUID]:
        """Return those of the flow runs that are cancelled; none if Prefect does not respond."""
        try:
            chunks = range(0, len(flow_run_ids), MOST_ASKED_FOR)
            return [
                found
                for start in chunks
                for found in _cancelled(self._client, list(flow_run_ids[start : start + MOST_ASKED_FOR]))
            ]
        except PREFECT_FAILURES as error:
            logger.debug("could not query Prefect for cancelled runs: %s", type(error).__name__)
            return []


def _cancelled(client: SyncPrefectClient, flow_run_ids: list[UUID]) -> list[UUID]:
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLING, StateType.CANCELLED]))
    found = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=flow_run_ids), state=states), limit=MOST_ASKED_FOR
    )
    return [flow_run.id for flow_run in found]

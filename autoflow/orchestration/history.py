"""Deletes old runs, and secrets, from Prefect's history. Importing this module imports Prefect."""

import datetime
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
)
from prefect.exceptions import ObjectNotFound

from autoflow.errors import PrefectApiError
from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.system.log import logger

FLOWS = ["available_dates_sensor", "run_workflow"]
"""AutoFlow's flows whose runs are not in the run store. The server may have flows of other programs, too."""


def delete_flow_runs(recorded: Iterable[str], *, before: datetime.datetime) -> int:
    """Delete the flow runs whose ids are `recorded`, and those of `FLOWS` that ended before `before` (UTC).

    Return the number of deleted flow runs.

    Raises
    ------
    PrefectApiError
        If the Prefect API is gone or refuses.

    """
    try:
        with get_client(sync_client=True) as client:
            deleted = sum(_delete(client, UUID(each)) for each in recorded)
            while ids := _old_ticks(client, before):
                deleted += sum(_delete(client, each) for each in ids)
            return deleted
    except PREFECT_FAILURES as error:
        raise PrefectApiError(f"could not prune Prefect's history: {type(error).__name__}") from error


def replace_parameter(flow_run_id: UUID, **parameter: Any) -> None:
    """Replace a parameter in Prefect's record of a flow run; log a warning if Prefect fails."""
    try:
        with get_client(sync_client=True) as client:
            parameters = client.read_flow_run(flow_run_id).parameters | parameter
            client.update_flow_run(flow_run_id, parameters=parameters).raise_for_status()
    except PREFECT_FAILURES as error:
        logger.warning("could not remove a secret from Prefect's flow run %s: %s", flow_run_id, type(error).__name__)


def _old_ticks(client: SyncPrefectClient, before: datetime.datetime) -> list[UUID]:
    ended = FlowRunFilterEndTime.model_validate({"before_": before.replace(tzinfo=datetime.UTC)})
    found = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=FLOWS)),
        flow_run_filter=FlowRunFilter(end_time=ended),
        limit=200,
    )
    return [flow_run.id for flow_run in found]


def _delete(client: SyncPrefectClient, flow_run_id: UUID) -> bool:
    try:
        client.delete_flow_run(flow_run_id)
    except ObjectNotFound:
        return False
    return True

"""Stops runs that are cancelled in Prefect."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
from autoflow.system.stop_signal import PeriodicThread, StopSignal

POLL_SECONDS = 2.0
"""How often Prefect is queried while there are runs."""

REASON = "it was cancelled in Prefect"
"""The reason in the record of a cancelled run."""

MOST_ASKED_FOR = 200
"""The highest number of flow runs that Prefect's API returns for a query."""


class Cancellations:
    """Stops flow runs that are cancelled in Prefect, for the duration of the `with` block.

    Prefect itself would kill the process of a run. Ours share one process, so this queries Prefect every two seconds,
    once for all of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: dict[UUID, StopSignal] = {}
        self._client: SyncPrefectClient | None = None
        self._thread = PeriodicThread(
            "cancellations",
            lambda: self.check(self._client),
            POLL_SECONDS,
            last_wait=POLL_SECONDS,
            within=self._connected(),
        )

    def __enter__(self) -> Self:
        """Start to query Prefect."""
        self._thread.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop querying Prefect."""
        self._thread.__exit__()

    @contextmanager
    def of(self, stop: StopSignal) -> Iterator["Watched"]:
        """Yield an object to which the block gives the id of a flow run; set `stop` when that is cancelled."""
        watched = Watched(self, stop)
        try:
            yield watched
        finally:
            with self._lock:
                self._stops = {key: value for key, value in self._stops.items() if value is not stop}

    def add(self, flow_run_id: UUID, stop: StopSignal) -> None:
        """Set `stop` when the flow run is cancelled."""
        with self._lock:
            self._stops[flow_run_id] = stop

    def check(self, client: SyncPrefectClient | None = None) -> None:
        """Query Prefect once, with `client` or a new one; if it does not respond, leave it to the next check."""
        with self._lock:
            stops = dict(self._stops)
        flow_runs = list(stops)
        try:
            for start in range(0, len(flow_runs), MOST_ASKED_FOR):
                for flow_run_id in _cancelled(flow_runs[start : start + MOST_ASKED_FOR], client):
                    stops[flow_run_id].set(REASON)
        except PREFECT_FAILURES as error:
            logger.debug("could not query Prefect for cancelled runs: %s", type(error).__name__)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        # Kept open, because it takes longer to make a client than to query Prefect.
        with get_client(sync_client=True) as self._client:
            yield


class Watched:
    """A stop signal with its flow run, whose id Prefect provides only once it is running."""

    def __init__(self, cancellations: Cancellations, stop: StopSignal) -> None:
        self._cancellations = cancellations
        self.stop = stop

    def is_run_by(self, flow_run_id: UUID) -> None:
        """Set the stop signal if this flow run is cancelled from now on."""
        self._cancellations.add(flow_run_id, self.stop)

    @property
    def is_cancelled(self) -> bool:
        """Whether the flow run is cancelled; queries Prefect now."""
        self._cancellations.check()
        return self.stop.is_set_directly


def _cancelled(flow_run_ids: list[UUID], client: SyncPrefectClient | None) -> list[UUID]:
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLING, StateType.CANCELLED]))
    with client or get_client(sync_client=True) as asked:
        found = asked.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=flow_run_ids), state=states), limit=MOST_ASKED_FOR
        )
    return [flow_run.id for flow_run in found]

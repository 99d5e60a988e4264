"""Looks which of our flow runs somebody has cancelled in Prefect, and stops them."""

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

from autoflow.log import logger
from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.stop_signal import StopSignal

POLL_SECONDS = 2.0
"""How often Prefect is asked, while there are runs."""

REASON = "it was cancelled in Prefect"
"""What the record of a cancelled run says."""

MOST_ASKED_FOR = 200
"""Prefect's API answers for so many flow runs at once."""


class Cancellations:
    """Stops flow runs that are cancelled in Prefect, while the `with` block goes on.

    Prefect's own way is to kill the process of a run. Ours share one process, so that it is asked, with one query
    for all of them, every two seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stops: dict[UUID, StopSignal] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="cancellations", daemon=True)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no longer."""
        self._ended.set()
        self._thread.join(POLL_SECONDS)

    @contextmanager
    def of(self, stop: StopSignal) -> Iterator["Watched"]:
        """Set `stop` when a flow run is cancelled that is named, in the block, to the object that this yields."""
        watched = Watched(self, stop)
        try:
            yield watched
        finally:
            with self._lock:
                self._stops = {key: value for key, value in self._stops.items() if value is not stop}

    def add(self, flow_run_id: UUID, stop: StopSignal) -> None:
        """Set `stop` when this flow run is cancelled."""
        with self._lock:
            self._stops[flow_run_id] = stop

    def look(self, client: SyncPrefectClient | None = None) -> None:
        """Ask Prefect once, over `client` or one of its own; if it does not answer, the next time will do."""
        with self._lock:
            stops = dict(self._stops)
        flow_runs = list(stops)
        try:
            for start in range(0, len(flow_runs), MOST_ASKED_FOR):
                for flow_run_id in _cancelled(flow_runs[start : start + MOST_ASKED_FOR], client):
                    stops[flow_run_id].set(REASON)
        except PREFECT_FAILURES as error:
            logger.debug("Prefect does not say what is cancelled: %s", type(error).__name__)

    def _go_on(self) -> None:
        # To make a client takes longer than to ask.
        with get_client(sync_client=True) as client:
            while not self._ended.wait(POLL_SECONDS):
                self.look(client)


class Watched:
    """A stop signal that waits for the id of its flow run, which Prefect gives late."""

    def __init__(self, cancellations: Cancellations, stop: StopSignal) -> None:
        self._cancellations = cancellations
        self.stop = stop

    def is_run_by(self, flow_run_id: UUID) -> None:
        """Look from now on whether this flow run is cancelled."""
        self._cancellations.add(flow_run_id, self.stop)

    @property
    def is_cancelled(self) -> bool:
        """Whether Prefect says that it is cancelled; asks it at once."""
        self._cancellations.look()
        return self.stop.wait(0)


def _cancelled(flow_run_ids: list[UUID], client: SyncPrefectClient | None) -> list[UUID]:
    states = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLING, StateType.CANCELLED]))
    with client or get_client(sync_client=True) as asked:
        found = asked.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=flow_run_ids), state=states), limit=MOST_ASKED_FOR
        )
    return [flow_run.id for flow_run in found]

"""Stops runs that are cancelled in Prefect."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self
from uuid import UUID

from autoflow.system.stop_signal import PeriodicThread, StopSignal

POLL_SECONDS = 2.0
"""How often Prefect is queried while there are runs."""

REASON = "it was cancelled in Prefect"
"""The reason in the record of a cancelled run."""

Ask = Callable[[Sequence[UUID]], Iterable[UUID]]
"""Returns those of some flow runs that are cancelled in Prefect; none if Prefect does not respond."""


class Cancellations:
    """Stops flow runs that are cancelled in Prefect, for the duration of the `with` block: `ask` queries Prefect.

    Prefect itself would kill the process of a run. Ours share one process, so this queries Prefect every two seconds,
    once for all of them.
    """

    def __init__(self, ask: Ask | None = None) -> None:
        self._lock = threading.Lock()
        self._stops: dict[UUID, StopSignal] = {}
        self._ask = ask
        self._thread = PeriodicThread("cancellations", self.check, POLL_SECONDS, last_wait=POLL_SECONDS)

    def ask_with(self, ask: Ask) -> None:
        """Query Prefect with `ask` from now on; before that, no run is cancelled there."""
        self._ask = ask

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

    def check(self) -> None:
        """Query Prefect once."""
        with self._lock:
            stops = dict(self._stops)
        if self._ask is None or not stops:
            return
        for flow_run_id in self._ask(list(stops)):
            stops[flow_run_id].set(REASON)


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

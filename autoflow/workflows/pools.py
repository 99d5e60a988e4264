"""Pools of notebooks: at most so many of a pool run at a time in this process, over all workflows."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from autoflow.cluster.work import Place, Result, Work
from autoflow.notebooks.execution import CellCallback
from autoflow.specs import PoolSpec
from autoflow.system.stop_signal import StopSignal

POLL_SECONDS = 0.5
"""How often a notebook that waits for its pool checks whether it is still wanted."""


class Pools:
    """The notebooks that run or wait in each pool; those that wait get their turn in the order in which they came."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queues: dict[str, list[object]] = defaultdict(list)

    def waiting(self, pool: PoolSpec) -> int:
        """Return how many notebooks wait for room in a pool."""
        with self._changed:
            return max(0, len(self._queues[pool.name]) - pool.size)

    @contextmanager
    def turn(self, pool: PoolSpec | None, stop: StopSignal) -> Iterator[None]:
        """Wait until the pool has room, and keep a place in it for the duration of the block.

        Raises
        ------
        RunStopped
            If `stop` is set before.

        """
        if pool is None:
            yield
            return
        ticket = object()
        with self._changed:
            queue = self._queues[pool.name]
            queue.append(ticket)
        try:
            with self._changed:
                # The first ones in the queue run.
                while queue.index(ticket) >= pool.size:
                    stop.raise_if_set()
                    self._changed.wait(POLL_SECONDS)
            yield
        finally:
            with self._changed:
                queue.remove(ticket)
                self._changed.notify_all()


@dataclass(frozen=True)
class InPools:
    """Executes notebooks in `place`, each once its pool has room."""

    place: Place
    pools: Pools

    def carry_out(self, work: Work, *, stop: StopSignal, on_cell: CellCallback | None = None) -> Result:
        """Execute the notebook and make its reports, see `Place`."""
        with self.pools.turn(work.pool, stop):
            return self.place.carry_out(work, stop=stop, on_cell=on_cell)

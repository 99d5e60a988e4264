"""What the daemon has Dask call on a worker. The scheduler imports this module, too, so it imports next to nothing."""

from typing import Any

import distributed

DESK = "autoflow"
"""The name under which a worker has its desk, see `autoflow.cluster.desk`."""


def perform(order: str) -> str:
    """Perform an order, in a thread of the worker; return the answer. Both are JSON."""
    worker = distributed.get_worker()
    answer: str = worker.extensions[DESK].perform(order)
    return answer


def stop_order(order_id: str, reason: str, dask_worker: Any) -> None:
    """Stop the order with this id, in the event loop of the worker."""
    dask_worker.extensions[DESK].stop(order_id, reason)

"""Waiting for what comes from other threads and processes."""

import time
from collections.abc import Callable

LONG = 150.0
"""How long what a test waits for may take, in seconds: only a test that fails waits so long."""


def wait_for(condition: Callable[[], object], *, seconds: float = LONG) -> None:
    """Return as soon as `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)

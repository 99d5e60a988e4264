"""Wait for results of other threads and processes."""

import time
from collections.abc import Callable

LONG = 300.0
"""How long a test waits, in seconds: only a failing test waits this long."""


def wait_for(condition: Callable[[], object], *, seconds: float = LONG, pause: float = 0.02) -> None:
    """Return as soon as `condition` holds, which is checked after each `pause`, in seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(pause)

"""Corrections of times in the run store that were recorded while a clock was ahead."""

import time
from collections.abc import Callable

from autoflow.model.store import RunStore
from autoflow.system.log import logger

LOOKS = 20
"""How often heartbeats are checked for renewal within the time after which a run has crashed."""

LONGEST_PAUSE = 1.0
"""The longest wait between two checks, in seconds."""


def settle_times(store: RunStore, wait: Callable[[float], object]) -> None:
    """Replace future times with the current time, and find out whether runs with a future heartbeat are alive.

    This takes as long as it takes to mark a run as crashed, unless each of these runs renews its heartbeat before that,
    and no time if there are no such runs. `wait` is called with seconds; where it returns True, this stops waiting.
    """
    doubtful = store.pull_back_times()
    if not doubtful:
        return
    seconds = store.crashed_after.total_seconds()
    names = ", ".join(map(str, sorted(doubtful)))
    logger.warning(
        "the clock was set back: waiting up to %.0f s for the next heartbeat of runs recorded as running (%s)",
        seconds,
        f"run {names}" if len(doubtful) == 1 else f"runs {names}",
    )
    pause = min(LONGEST_PAUSE, seconds / LOOKS)
    deadline = time.monotonic() + seconds + 2 * pause
    while any(store.heartbeats().get(run_id) == heartbeat for run_id, heartbeat in doubtful.items()):
        if time.monotonic() > deadline or wait(pause):
            return
        if time.monotonic() > deadline - 2 * pause:
            store.give_up_crashed()

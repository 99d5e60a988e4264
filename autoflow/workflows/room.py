"""Holds runs back while a disk is full: they wait for room and lose no attempt."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from autoflow.errors import NoRoomError
from autoflow.runs.run import Outcome
from autoflow.system.disk import free_bytes, full_disk
from autoflow.system.log import Outage

RETRY_SECONDS = 300.0
"""How long runs wait, at most, after one found no room on a disk that does not look full, for example with a quota."""

MORE_BYTES = 500_000
"""Runs continue once this much more, in bytes, and a tenth more is free than when a run found no room."""


@dataclass
class _Shortage:
    """What was free, in bytes for each folder, when a run found no room, and since when the others wait."""

    error: NoRoomError
    free: dict[Path, int]
    since: float

    @property
    def is_over(self) -> bool:
        """Whether clearly more is free than before."""
        return any(free_bytes(folder) > max(1.1 * free, free + MORE_BYTES) for folder, free in self.free.items())


class Room:
    """Whether there is room on the disks of `folders`; logs once when there is none, and once when there is again.

    `clock` counts seconds. Safe to use from several threads.
    """

    def __init__(self, folders: Iterable[Path], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folders = tuple(folders)
        self._clock = clock
        self._lock = threading.Lock()
        self._shortage: _Shortage | None = None
        self._outage = Outage()

    def problem(self) -> str | None:
        """Return why no run can start, or None if one can."""
        with self._lock:
            problem = full_disk(self._folders) or self._shortage_problem()
        if problem:
            self._outage.begin("%s; runs wait until there is room", problem)
        elif self._shortage is None:
            self._outage.end("there is room on the disks again; runs continue")
        return problem

    def run_ended(self, outcome: Outcome) -> None:
        """Learn from the end of a run whether there was room for it."""
        error = next((each for each in outcome.errors.values() if isinstance(each, NoRoomError)), None)
        with self._lock:
            if error:
                free = {folder: free_bytes(folder) for folder in error.folders}
                self._shortage = _Shortage(error, free, self._clock())
            elif outcome.outputs:
                self._shortage = None
        self.problem()

    def _shortage_problem(self) -> str | None:
        if self._shortage is None:
            return None
        if self._shortage.is_over:
            self._shortage = None
            return None
        if self._clock() - self._shortage.since > RETRY_SECONDS:
            # One run finds out, the others keep waiting.
            self._shortage.since = self._clock()
            return None
        return str(self._shortage.error)

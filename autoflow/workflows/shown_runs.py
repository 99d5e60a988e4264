"""Shows runs in Prefect, as soon as its API responds; no run waits for that."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from autoflow.workflows.execution import Execution

MOST_BEHIND = 8
"""How many runs may have ended without being shown as ended; then, new ones wait for Prefect."""

LONGEST_WAIT = 10.0
"""How long a run waits until fewer are behind, in seconds: Prefect's API may be gone."""


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """A run for display in Prefect; `started` is called with the id of its flow run."""

    execution: Execution
    tags: Sequence[str]
    parameters: Mapping[str, Any]
    started: Callable[[UUID], None]


class ShownRuns:
    """The runs of this process in Prefect: those that begin before `connect` is called are shown afterwards.

    Without `is_expected`, Prefect's API may never respond, and runs that begin before that are not shown.
    """

    def __init__(self, *, is_expected: bool = False) -> None:
        self._is_expected = is_expected
        self._lock = threading.Lock()
        self._show: Callable[[ShownRun], None] | None = None
        self._waiting: list[ShownRun] = []
        self._threads: dict[threading.Thread, ShownRun] = {}

    def connect(self, show: Callable[[ShownRun], None]) -> None:
        """Show runs from now on with `show`, which returns when the run has ended and Prefect knows it."""
        with self._lock:
            self._show, waiting = show, self._waiting
            self._waiting = []
            ended = [run for run in waiting if run.execution.has_ended]
            for run in waiting:
                if run not in ended:
                    self._start(run, [run])
            if ended:
                self._start(ended[-1], ended)

    def add(self, run: ShownRun) -> None:
        """Show `run`, which has begun, now or once Prefect's API responds."""
        with self._lock:
            if self._show:
                self._start(run, [run])
            elif self._is_expected:
                self._waiting.append(run)

    @property
    def has_any(self) -> bool:
        """Whether Prefect does not show all runs to their end yet."""
        with self._lock:
            return bool(self._waiting or self._threads)

    def wait_until_few_are_behind(self) -> None:
        """Wait for Prefect if many runs have ended that it does not know of."""
        deadline = time.monotonic() + LONGEST_WAIT
        while time.monotonic() < deadline and (behind := self._behind())[MOST_BEHIND:]:
            behind[0].join(max(0.0, deadline - time.monotonic()))

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` until Prefect knows the end of all runs; return whether it does."""
        deadline = time.monotonic() + seconds
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _behind(self) -> list[threading.Thread]:
        with self._lock:
            return [thread for thread, run in self._threads.items() if run.execution.has_ended]

    def _start(self, last: ShownRun, runs: Sequence[ShownRun]) -> None:
        thread = threading.Thread(target=self._show_all, args=[runs], name=f"shows {last.execution.run}", daemon=True)
        self._threads[thread] = last
        thread.start()

    def _show_all(self, runs: Sequence[ShownRun]) -> None:
        show = self._show
        try:
            for run in runs:
                if show:
                    show(run)
        finally:
            with self._lock:
                self._threads.pop(threading.current_thread(), None)

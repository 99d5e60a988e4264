"""Deletes outputs that are no longer kept, once a day."""

import datetime
import time
from collections.abc import Callable, Sequence
from typing import Self

from autoflow.errors import AutoflowError
from autoflow.model.old_outputs import delete_files, expired_runs
from autoflow.model.store import RunStore
from autoflow.parser import read_workflows
from autoflow.runs.records import utc_now
from autoflow.settings import Settings
from autoflow.system.log import Outage, logger
from autoflow.system.stop_signal import PeriodicThread

LOOK_SECONDS = 60.0
"""How often it checks whether a day has passed."""

A_DAY = 24 * 3600.0
"""In seconds."""


class Retention:
    """Deletes outputs that are no longer kept, for the duration of the `with` block: at its start and once a day.

    `followers` are called after files were deleted. `clock` is in UTC; `timer` counts seconds and does not jump.
    """

    def __init__(
        self,
        settings: Settings,
        store: RunStore,
        *,
        followers: Sequence[Callable[[], None]] = (),
        clock: Callable[[], datetime.datetime] = utc_now,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._followers = followers
        self._clock = clock
        self._timer = timer
        self._last: float | None = None
        self._outage = Outage()
        self._thread = PeriodicThread("retention", self.look, LOOK_SECONDS)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.__enter__()
        self._thread.wake()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, after the run whose outputs are being deleted."""
        self._thread.__exit__()

    @property
    def has_looked(self) -> bool:
        """Whether it has deleted what is no longer kept, at least once."""
        return self._last is not None

    def look(self) -> None:
        """Delete what is no longer kept, unless that was done within a day."""
        now = self._timer()
        if self._last is not None and now - self._last < A_DAY:
            return
        try:
            self._delete()
        except AutoflowError as error:
            self._outage.begin("could not delete old outputs yet: %s", error)
        else:
            self._last = now
            self._outage.end("deleted old outputs again")

    def _delete(self) -> None:
        files = size = runs = 0
        workflows = read_workflows(self._settings).workflows
        try:
            for run in expired_runs(self._store, self._settings, workflows, self._clock()):
                if self._thread.is_ending:
                    break
                size += run.bytes
                delete_files(run, self._store, with_flow_run=False)
                files, runs = files + len(run.files), runs + 1
        finally:
            if files:
                logger.info(
                    "deleted %d old outputs (%.1f MB) of %d runs; their dates stay done", files, size / 1e6, runs
                )
                for follower in self._followers:
                    follower()

"""Keeps the claims of this process alive, and stops a run whose claim cannot be kept."""

import datetime
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from autoflow.errors import RunStoreError
from autoflow.log import logger
from autoflow.model.store import RunStore
from autoflow.runs.records import CRASHED_AFTER, Claim
from autoflow.stop_signal import StopSignal

INTERVAL = CRASHED_AFTER / 6
"""How often claims are renewed, where runs have crashed after the usual time; in proportion where that is another."""

GIVE_UP_AFTER = CRASHED_AFTER * 2 / 3
"""A run is stopped when its claim has not been renewed for so long: before anybody else can take it for crashed."""


@dataclass
class _Beating:
    claim: Claim
    stop: StopSignal
    renewed_at: float


LAST_BEAT = 2.0
"""How long the end waits for a database that is being asked, in seconds."""


class Heartbeat:
    """Renews the claims of runs from threads of its own, which go on while the `with` block does.

    One renews them, several times before the store would take a run for crashed. A database that does not answer may
    hold it up for long, so that another one looks whether it is time to stop. `clock` counts seconds: a step of the
    system's time changes nothing of what passes between two heartbeats.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        interval: datetime.timedelta | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._beating: dict[int, _Beating] = {}
        self._ended = threading.Event()
        scale = store.crashed_after / CRASHED_AFTER
        self._give_up_after = (GIVE_UP_AFTER * scale).total_seconds()
        interval = interval or INTERVAL * scale
        self._renewing = self._thread("heartbeat", self.beat, interval)
        self._watching = self._thread("heartbeat-watch", self.stop_overdue, interval / 10)

    def __enter__(self) -> Self:
        """Begin to renew."""
        self._renewing.start()
        self._watching.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Renew no longer."""
        self._ended.set()
        self._watching.join()
        self._renewing.join(LAST_BEAT)

    @contextmanager
    def of(self, claim: Claim, stop: StopSignal) -> Iterator[None]:
        """Keep `claim` while the block goes on; set `stop` when it has been lost or can no longer be renewed."""
        with self._lock:
            self._beating[claim.id] = _Beating(claim, stop, self._clock())
        try:
            yield
        finally:
            with self._lock:
                del self._beating[claim.id]

    def beat(self) -> None:
        """Renew all claims, once."""
        with self._lock:
            beating = list(self._beating.values())
        if not beating:
            return
        now = self._clock()
        try:
            kept = self._store.renew([each.claim for each in beating])
        except RunStoreError as error:
            logger.warning("claims cannot be renewed: %s", error)
            self.stop_overdue()
            return
        for each in beating:
            if each.claim in kept:
                each.renewed_at = now
            else:
                self._stop_if_running(each, "its claim was given up as crashed by another process")

    def stop_overdue(self) -> None:
        """Stop the runs whose claims have not been renewed for so long that others are about to take them."""
        with self._lock:
            beating = list(self._beating.values())
        for each in beating:
            if self._clock() - each.renewed_at > self._give_up_after:
                self._stop_if_running(each, "its claim could not be renewed")

    def _stop_if_running(self, beating: _Beating, reason: str) -> None:
        with self._lock:
            is_running = beating.claim.id in self._beating
        if is_running:
            beating.stop.set(reason)

    def _thread(self, name: str, what: Callable[[], None], interval: datetime.timedelta) -> threading.Thread:
        def go_on() -> None:
            while not self._ended.wait(interval.total_seconds()):
                what()

        return threading.Thread(target=go_on, name=name, daemon=True)

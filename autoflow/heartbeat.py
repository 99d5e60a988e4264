"""Keeps the claims of this process alive, and stops a run whose claim cannot be kept."""

import datetime
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from autoflow.errors import RunStoreError
from autoflow.log import logger
from autoflow.model import CRASHED_AFTER, Claim, RunStore, utc_now
from autoflow.stop_signal import StopSignal

INTERVAL = CRASHED_AFTER / 6
"""How often claims are renewed."""

GIVE_UP_AFTER = CRASHED_AFTER * 2 / 3
"""A run is stopped when its claim has not been renewed for so long: before anybody else can take it for crashed."""


@dataclass
class _Beating:
    claim: Claim
    stop: StopSignal
    renewed_at: datetime.datetime


class Heartbeat:
    """Renews the claims of runs from a thread of its own, which goes on while the `with` block does."""

    def __init__(self, store: RunStore, *, clock: Callable[[], datetime.datetime] = utc_now) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._beating: dict[int, _Beating] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        """Begin to renew."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Renew no longer."""
        self._ended.set()
        self._thread.join()

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
        try:
            kept = self._store.renew([each.claim for each in beating])
        except RunStoreError as error:
            logger.warning("claims cannot be renewed: %s", error)
            self._stop_the_overdue(beating)
            return
        for each in beating:
            if each.claim in kept:
                each.renewed_at = self._clock()
            else:
                self._stop_if_running(each, "its claim was given up as crashed by another process")

    def _stop_the_overdue(self, beating: list[_Beating]) -> None:
        for each in beating:
            if self._clock() - each.renewed_at > GIVE_UP_AFTER:
                self._stop_if_running(each, "its claim could not be renewed")

    def _stop_if_running(self, beating: _Beating, reason: str) -> None:
        with self._lock:
            is_running = beating.claim.id in self._beating
        if is_running:
            beating.stop.set(reason)

    def _go_on(self) -> None:
        while not self._ended.wait(INTERVAL.total_seconds()):
            self.beat()

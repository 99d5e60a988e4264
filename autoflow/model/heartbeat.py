"""Renews the claims of this process, and stops runs whose claims are lost or that a user has cancelled."""

import datetime
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Self

from autoflow.errors import RunStoreError, RunStoreGoneError
from autoflow.model.store import RunStore
from autoflow.runs.records import CANCELLED_FROM_COMMAND_LINE, CRASHED_AFTER, Claim
from autoflow.runs.stuck import in_words
from autoflow.system.log import Outage, logger
from autoflow.system.stop_signal import PeriodicThread, StopSignal, seconds_since_boot

INTERVAL = CRASHED_AFTER / 6
"""How often claims are renewed with the default heartbeat timeout; it scales with the timeout."""

GIVE_UP_AFTER = CRASHED_AFTER * 2 / 3
"""A run is stopped when its claim has not been renewed for this long, before another process may mark it as crashed."""

CANCEL_POLL_SECONDS = 2.0
"""How often, while there are runs, the database is checked for requests to cancel one of them, in seconds."""

LAST_BEAT = 2.0
"""How long the end of the block waits for a query to the database, in seconds."""


@dataclass
class _Beating:
    claim: Claim
    stop: StopSignal
    renewed_at: float
    cancel: StopSignal | None = None


class Heartbeat:
    """Renews the claims of runs in the background, for the duration of the `with` block.

    One thread renews them, several times before the store would mark a run as crashed. A database that does not
    respond can block it for long, so a second thread checks whether runs have to be stopped. A third one asks the
    database which runs have a request to cancel them. `clock` counts seconds and must not jump when the system time is
    changed.
    """

    def __init__(
        self,
        store: RunStore,
        *,
        clock: Callable[[], float] = seconds_since_boot,
        interval: datetime.timedelta | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._beating: dict[int, _Beating] = {}
        self._threads = ExitStack()
        self._outage = Outage()
        scale = store.crashed_after / CRASHED_AFTER
        self._give_up_after = (GIVE_UP_AFTER * scale).total_seconds()
        seconds = (interval or INTERVAL * scale).total_seconds()
        self._renewing = PeriodicThread("heartbeat", self.beat, seconds, last_wait=LAST_BEAT)
        self._watching = PeriodicThread("heartbeat-watch", self.stop_overdue, seconds / 10)
        self._cancelling = PeriodicThread(
            "cancel-requests", self.stop_cancelled, CANCEL_POLL_SECONDS, last_wait=LAST_BEAT
        )

    def __enter__(self) -> Self:
        """Start to renew claims."""
        self._threads.enter_context(self._renewing)
        self._threads.enter_context(self._watching)
        self._threads.enter_context(self._cancelling)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop renewing claims."""
        self._threads.close()

    @contextmanager
    def of(self, claim: Claim, stop: StopSignal, *, cancel: StopSignal | None = None) -> Iterator[None]:
        """Renew `claim` for the duration of the block; set `stop` when it is lost or can no longer be renewed.

        `stop` also expires at that time, in case this process is suspended.
        Set `cancel` when a request to cancel the run is in the run store.
        """
        beating = _Beating(claim, stop, self._clock(), cancel)
        stop.expire(lambda: self._give_up_after - (self._clock() - beating.renewed_at))
        with self._lock:
            self._beating[claim.id] = beating
        try:
            yield
        finally:
            self.leave(claim)

    def leave(self, claim: Claim) -> None:
        """Renew a claim no longer: it expires, and the run is then marked as crashed unless its end is recorded."""
        with self._lock:
            self._beating.pop(claim.id, None)

    def beat(self) -> None:
        """Renew all claims once."""
        with self._lock:
            beating = list(self._beating.values())
        if not beating:
            return
        now = self._clock()
        try:
            kept = self._store.renew([each.claim for each in beating])
        except RunStoreGoneError as error:
            self._outage.begin("could not renew claims: %s", error)
            for each in beating:
                self._stop_if_running(each, "the database of runs is gone")
            return
        except RunStoreError as error:
            self._outage.begin("could not renew claims: %s", error)
            self.stop_overdue()
            return
        self._outage.end("claims can be renewed again")
        for each in beating:
            if each.claim in kept:
                each.renewed_at = now
            else:
                self._stop_if_running(each, "another process marked it as crashed")

    def stop_overdue(self) -> None:
        """Stop the runs whose claims have not been renewed for `GIVE_UP_AFTER`, before other processes take them."""
        with self._lock:
            beating = list(self._beating.values())
        for each in beating:
            if self._clock() - each.renewed_at > self._give_up_after:
                seconds = datetime.timedelta(seconds=self._give_up_after)
                self._stop_if_running(each, f"its claim could not be renewed for {in_words(seconds)}")

    def stop_cancelled(self) -> None:
        """Stop the runs that have a request to cancel them, unless the store does not respond."""
        with self._lock:
            cancels = {each.claim: each.cancel for each in self._beating.values() if each.cancel}
        if not cancels:
            return
        try:
            asked = self._store.asked_to_cancel(cancels)
        except RunStoreError as error:
            logger.debug("could not check for cancelled runs: %s", error)
            return
        for claim in asked:
            cancels[claim].set(CANCELLED_FROM_COMMAND_LINE)

    def _stop_if_running(self, beating: _Beating, reason: str) -> None:
        with self._lock:
            is_running = beating.claim.id in self._beating
        if is_running:
            beating.stop.set(reason)

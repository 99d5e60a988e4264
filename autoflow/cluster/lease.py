"""The lease of a worker on a run: it ends once the claim may be taken by someone else."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Self

from autoflow.errors import RunStopped, RunStoreError
from autoflow.model.claim_ages import ClaimAges
from autoflow.system.log import logger
from autoflow.system.stop_signal import PeriodicThread, StopSignal, seconds_since_boot

WATCH_SECONDS = 0.2
"""How often a lease is checked for its end, without a query."""

ASKS = 8
"""How often the age of the claim is read within the longest time for which a lease holds."""

RETRY_SECONDS = 0.5
"""The pause before another attempt to read a claim right before a file appears, in seconds."""

LAST_WAIT = 1.0
"""How long the end of a lease waits for a query in progress, in seconds."""


class Lease:
    """Sets `stop` when the claim is no longer surely ours, for the duration of the `with` block.

    That is when its age exceeds `seconds`, when it has been impossible to read for that long, or when `is_wanted`
    returns False: the scheduler has given the order up. The age counts from before the query. `clock` counts seconds.
    `reason` is why it has ended, empty while it holds. `stop` also expires at that time, in case this process is
    suspended.
    """

    def __init__(
        self,
        ages: ClaimAges,
        claim_id: int,
        stop: StopSignal,
        *,
        seconds: float,
        is_wanted: Callable[[], bool],
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._ages = ages
        self._claim_id = claim_id
        self._stop = stop
        self._seconds = seconds
        self._is_wanted = is_wanted
        self._clock = clock
        self._holds_until = clock()
        self._threads = ExitStack()
        self.reason = ""

    def __enter__(self) -> Self:
        """Read the age of the claim, and watch it from now on.

        Raises
        ------
        RunStopped
            If the claim is not valid.
        RunStoreError
            If it cannot be read.

        """
        self._read()
        self._raise_if_over()
        self._stop.expire(lambda: self._holds_until - self._clock())
        asking = PeriodicThread("lease-query", self._ask, self._seconds / ASKS, last_wait=LAST_WAIT)
        # A database that does not respond can block a query for long.
        watching = PeriodicThread("lease", self._watch, WATCH_SECONDS, last_wait=LAST_WAIT)
        self._threads.enter_context(asking)
        self._threads.enter_context(watching)
        return self

    def __exit__(self, *_: object) -> None:
        """End the watch."""
        self._threads.close()
        self._end_if_overdue()

    def confirm(self) -> None:
        """Make sure, right now, that the claim is valid and recent; if it cannot be read, try again until that is over.

        Raises
        ------
        RunStopped
            If it is not, or cannot be read in time.

        """
        # Once it is over, it stays so.
        self._raise_if_over()
        while True:
            try:
                self._read()
            except RunStoreError as error:
                logger.debug("could not read the age of claim %d: %s", self._claim_id, error)
                self._raise_if_over()
                self._stop.wait(RETRY_SECONDS)
            else:
                break
        self._raise_if_over()

    def _raise_if_over(self) -> None:
        self._watch()
        if self.reason:
            raise RunStopped(self.reason)

    def _read(self) -> None:
        asked = self._clock()
        age = self._ages.age(self._claim_id)
        if age is None:
            self._end("its claim is not valid any more")
        else:
            self._holds_until = max(self._holds_until, asked + self._seconds - age)

    def _ask(self) -> None:
        try:
            self._read()
        except RunStoreError as error:
            logger.debug("could not read the age of claim %d: %s", self._claim_id, error)

    def _watch(self) -> None:
        if not self._is_wanted():
            self._end("the scheduler has given it up")
        self._end_if_overdue()

    def _end_if_overdue(self) -> None:
        if self._clock() > self._holds_until:
            self._end(f"its claim was not renewed within {self._seconds:.0f} s, as far as this worker can see")

    def _end(self, reason: str) -> None:
        self.reason = self.reason or reason
        self._stop.set(self.reason)

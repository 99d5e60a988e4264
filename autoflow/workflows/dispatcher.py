"""Starts what is due, as slots become free, between the ticks of the sensor."""

import datetime
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from autoflow.dates.availability import Availability
from autoflow.errors import AutoflowError, RunStoreError
from autoflow.model.store import RunStore
from autoflow.runs.backlog import Backlog, Turn
from autoflow.runs.plan import DueWork, due_work, keys_with_reruns
from autoflow.runs.records import Histories, RunState, WorkflowKey, utc_now
from autoflow.runs.run import WorkflowRun
from autoflow.runs.stuck import in_words
from autoflow.specs import TriggerSpec
from autoflow.system.log import bugs_logged, logger
from autoflow.system.stop_signal import PeriodicThread, Shutdown, StopSignal, join_threads
from autoflow.workflows.runner import WorkflowRunner

ADVANCE_SECONDS = 1.0
"""How often the dispatcher checks whether a retry delay has ended, or an entry has held all slots for too long."""

PLAN_PAUSE = 0.1
"""The shortest time between two looks at the run store for what is due, in seconds."""

PLAN_SHARE = 10
"""The shortest time between two looks, as a multiple of the time that a look takes, which grows with the history."""

CRASH_MARGIN = 0.5
"""How long after its end, in seconds, the claim of a run that has lost its worker is looked for."""

OUTAGE_PAUSE = 10.0
"""How long the dispatcher waits after a failure of the run store, in seconds."""

REQUEST_POLL_SECONDS = 0.5
"""How often a requested run that waits for a slot checks whether it is still wanted."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What a tick hands over: the entries of the sensor, and the dates that FlowAPI has."""

    triggers: tuple[TriggerSpec, ...]
    availability: Availability


@dataclass
class Counts:
    """The numbers of runs by how they ended; `interrupted` includes cancelled ones and those that could not start."""

    succeeded: int = 0
    skipped: int = 0
    failed: int = 0
    interrupted: int = 0

    def add(self, state: RunState | None) -> None:
        """Count a run that has ended; None did not run."""
        self.succeeded += state is not None and state.is_success and not state.is_skip
        self.skipped += state is not None and state.is_skip
        self.failed += state is not None and state.is_failure
        self.interrupted += state is not None and state.is_stopped


class Dispatcher:
    """Runs what is due, up to a number of runs at a time, for the duration of the `with` block.

    A tick hands over its dates. From them and the run store, the dispatcher computes what is due, again whenever a run
    has ended, or a retry delay or a wait for data is over. Between ticks, it does not ask FlowAPI. `stuck`
    returns the entries that have a stuck run. `clock` is in UTC, for the run store; `timer` counts seconds and does not
    jump.
    """

    def __init__(
        self,
        runner: WorkflowRunner,
        *,
        shutdown: Shutdown,
        stuck: Callable[[], AbstractSet[WorkflowKey]] = frozenset,
        clock: Callable[[], datetime.datetime] = utc_now,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self._runner = runner
        self._store = runner.store
        self._shutdown = shutdown
        self._stuck = stuck
        self._clock = clock
        self._timer = timer
        self._backlog = Backlog(lambda: runner.slots)
        self._lock = threading.Lock()
        self._planning = threading.Lock()
        self._targets: Targets | None = None
        self._next_retry: datetime.datetime | None = None
        self._next_wait: datetime.datetime | None = None
        self._waiting = 0
        self._plan_not_before = 0.0
        self._crash_look_at = 0.0
        self._crashes_until = 0.0
        self._store_is_gone = False
        self._threads: set[threading.Thread] = set()
        self._thread = PeriodicThread("dispatcher", self.advance, ADVANCE_SECONDS)

    def __enter__(self) -> Self:
        """Start giving slots."""
        self._thread.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Start nothing more; runs in progress continue."""
        self._thread.__exit__()

    @property
    def has_due(self) -> bool:
        """Whether something is due, and waits for a slot."""
        with self._lock:
            return self._backlog.has_due or self._next_retry is not None

    @property
    def running(self) -> int:
        """How many runs have a slot."""
        with self._lock:
            return self._backlog.running

    @property
    def waiting(self) -> int:
        """How many dates wait for data, as far as the plan knows."""
        with self._lock:
            return self._waiting

    def hand_over(self, targets: Targets, histories: Histories) -> DueWork:
        """Run what is due of `targets` from now on; return what is due now, according to `histories`."""
        with self._planning:
            self._targets = targets
            with self._lock:
                self._backlog.end_pauses()
            work = self._plan(targets, histories)
        self._thread.wake()
        return work

    def hold(self, reason: str) -> None:
        """Start nothing more that is due until the next tick hands over dates; runs in progress continue."""
        with self._planning:
            was_at_work = self._targets is not None
            self._targets = self._next_retry = self._next_wait = None
            with self._lock:
                self._backlog.hold()
        if was_at_work:
            logger.info("starting nothing more until the next tick: %s", reason)

    @contextmanager
    def slot(self, run: WorkflowRun, cancel: StopSignal) -> Iterator[bool]:
        """Wait for a slot for a run that a person asked for, and hold it; yield False if it is no longer wanted."""
        with self._lock:
            turn = self._backlog.request(run)
        try:
            while not (self._shutdown.is_closing or cancel.is_set or self._has_slot(turn)):
                self._thread.wake()
                cancel.wait(REQUEST_POLL_SECONDS)
            yield self._has_slot(turn) and not self._shutdown.is_closing
        finally:
            with self._lock:
                self._backlog.end(turn, None, self._timer())
            self._thread.wake()

    def drain(self) -> bool:
        """Wait until nothing is due and nothing runs, or AutoFlow shuts down; return False if the run store fails."""
        while not self._shutdown.wait_until_closing(0.1):
            self._thread.wake()
            with self._lock:
                is_idle = self._backlog.running == 0
                is_done = is_idle and self._backlog.is_empty and not self._backlog.is_stale
                # A run that has lost its worker is due again when its claim has expired.
                is_done = is_done and self._crashes_until == 0.0
            if is_done or (is_idle and self._store_is_gone):
                return not self._store_is_gone
        return True

    def join(self, seconds: float) -> bool:
        """Wait up to `seconds` until all runs have ended; return whether they have."""
        with self._lock:
            threads = list(self._threads)
        return join_threads(threads, seconds)

    def advance(self) -> None:
        """Compute what is due if it has changed, and start as much of it as there are slots for."""
        if self._shutdown.is_closing:
            return
        self._look_for_crashed()
        self._plan_if_stale()
        stuck = self._stuck()
        while not self._shutdown.is_closing:
            with self._lock:
                turn = self._backlog.take(stuck=stuck, now=self._timer())
            if turn is None:
                return
            if not turn.is_requested:
                self._start(turn)

    def _has_slot(self, turn: Turn) -> bool:
        with self._lock:
            return turn.since is not None

    def _look_for_crashed(self) -> None:
        """Make the dates of crashed runs due again; a tick does the same, but it may be far away."""
        now = self._timer()
        with self._lock:
            if now < self._crash_look_at:
                return
            self._crash_look_at = now + self._store.crashed_after.total_seconds()
            is_expiring = now < self._crashes_until
        try:
            crashed = give_up_crashed(self._store)
            with self._lock:
                self._backlog.is_stale |= bool(crashed) and self._targets is not None
                self._crashes_until = self._crashes_until if is_expiring else 0.0
        except RunStoreError as error:
            logger.debug("could not look for crashed runs: %s", error)

    def _plan_if_stale(self) -> None:
        now = self._timer()
        with self._lock:
            delay_is_over = any(at is not None and at <= self._clock() for at in (self._next_retry, self._next_wait))
            pause_is_over = self._backlog.pause_ends_at <= now
            is_stale = self._backlog.is_stale or delay_is_over or pause_is_over
        if not is_stale or now < self._plan_not_before:
            return
        with self._planning:
            if self._targets is None:
                with self._lock:
                    self._backlog.hold()
                    self._backlog.end_pauses()
                return
            try:
                self._plan(self._targets, self._store.histories(keys_with_reruns(self._targets.triggers)))
            except RunStoreError as error:
                self._wait_for_store(error)
            else:
                self._store_is_gone = False
                pause = max(PLAN_PAUSE, PLAN_SHARE * (self._timer() - now))
                self._plan_not_before = self._timer() + pause

    def _plan(self, targets: Targets, histories: Histories) -> DueWork:
        work = due_work(targets.triggers, targets.availability, histories, self._clock())
        with self._lock:
            self._backlog.plan(work, self._timer())
            self._next_retry, self._next_wait = work.next_retry, work.next_wait
            self._waiting = work.waiting
        return work

    def _wait_for_store(self, error: RunStoreError) -> None:
        """Start nothing that is due until the run store responds again."""
        if not self._store_is_gone:
            logger.warning("%s; starting nothing until it responds", error)
        self._store_is_gone = True
        self._plan_not_before = self._timer() + OUTAGE_PAUSE
        with self._lock:
            self._backlog.hold()
            self._backlog.is_stale = True

    def _start(self, turn: Turn) -> None:
        thread = threading.Thread(target=self._run, args=[turn], name=f"run {turn.run}", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _run(self, turn: Turn) -> None:
        state: RunState | None = RunState.INTERRUPTED
        try:
            with bugs_logged(self._runner.settings.secrets):
                state = self._runner.run(turn.run, shutdown=self._shutdown)
        except RunStoreError as error:
            self._wait_for_store(error)
        except AutoflowError as error:
            logger.error("could not run %s: %s", turn.run, error)
        finally:
            with self._lock:
                if state and state.is_crash:
                    # Its claim was renewed a moment ago at the latest.
                    self._crash_look_at = self._timer() + self._store.crashed_after.total_seconds() + CRASH_MARGIN
                    self._crashes_until = self._crash_look_at
                self.counts.add(state)
                self._backlog.end(turn, state, self._timer())
                self._threads.discard(threading.current_thread())
            self._thread.wake()


def give_up_crashed(store: RunStore) -> int:
    """Mark runs whose heartbeat has stopped as crashed, so that their dates are due again; return how many."""
    if crashed := store.give_up_crashed():
        runs = "1 run" if crashed == 1 else f"{crashed} runs"
        logger.warning("%s crashed: no sign of life for %s; due again", runs, in_words(store.crashed_after))
    return crashed

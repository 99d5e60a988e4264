"""Stop signals, the shutdown of AutoFlow, and threads that repeat a call until they are ended."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from types import FrameType
from typing import Self

from autoflow.errors import RunStopped

LAST_WAIT = 10.0
"""How long AutoFlow, while it ends, waits for work that was asked to stop, in seconds."""

HANGS_AFTER = 600.0
"""How long a call of a `PeriodicThread` may take before it seems to hang, in seconds."""

OVERDUE = "its claim was not renewed in time"
"""The reason of a signal that counts as set because its time is over."""

seconds_since_boot = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
"""A clock that also counts while this process, or the whole machine, is suspended."""

PAUSE_AFTER_BUG = 10.0
"""The shortest pause of a `PeriodicThread` after a call that raised an exception, in seconds."""


class _Latch:
    """A flag that is set once and can be waited for.

    A signal handler may set it, too. A threading.Event would deadlock if the signal arrived while the main thread,
    in which handlers run, holds the lock inside the event.
    """

    def __init__(self) -> None:
        self._shut = threading.Lock()
        self._shut.acquire()
        self.is_set = False

    def set(self) -> None:
        self.is_set = True
        self._release()

    def wait(self, seconds: float | None = None) -> bool:
        if not self.is_set and self._shut.acquire(timeout=-1 if seconds is None else max(0.0, seconds)):
            self._release()  # for the next thread that waits
        return self.is_set

    def _release(self) -> None:
        with suppress(RuntimeError):  # already released by another thread that set it or waited
            self._shut.release()


class StopSignal:
    """A request to stop, made once, with a reason; safe to use from any thread and from signal handlers.

    Setting a `parent` also sets its children: stopping the daemon stops every run, cancelling a run stops only that
    run.
    """

    def __init__(self, parent: "StopSignal | None" = None) -> None:
        # Reentrant, because a signal handler may interrupt a thread that holds it.
        self._lock = threading.RLock()
        self._set = _Latch()
        self._callbacks: list[Callable[[], None]] = []
        self._own_reason = ""
        self._parent = parent
        self._own_seconds_left: Callable[[], float] | None = None

    @property
    def is_set(self) -> bool:
        """Whether this signal or its parent has been set, or has expired."""
        return self._set.is_set or self.is_expired or (self._parent is not None and self._parent.is_set)

    @property
    def is_set_directly(self) -> bool:
        """Whether this signal itself has been set, not only its parent."""
        return self._set.is_set

    @property
    def reason(self) -> str:
        """The reason, for the record of a run; empty while the signal is not set."""
        if self._set.is_set:
            return self._own_reason
        return (self._parent.reason if self._parent else "") or (OVERDUE if self.is_expired else "")

    @property
    def seconds_left(self) -> float:
        """How many seconds there are before this signal or its parent expires: infinitely many without `expire`."""
        own = self._own_seconds_left() if self._own_seconds_left else math.inf
        return min(own, self._parent.seconds_left) if self._parent else own

    @property
    def is_expired(self) -> bool:
        """Whether the time for what it stops is over."""
        return self.seconds_left < 0

    def expire(self, seconds_left: Callable[[], float]) -> None:
        """Let the signal count as set once `seconds_left` is below 0, also if nothing sets it then.

        The process may have been suspended; whoever looks at the signal afterwards has to see that it is too late.
        """
        self._own_seconds_left = seconds_left

    def set(self, reason: str) -> None:
        """Request the stop for `reason`. Only the first call counts."""
        with self._lock:
            if self._set.is_set:
                return
            self._own_reason = reason
            self._set.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` until this signal itself, not its parent, is set; return whether it is set."""
        return self._set.wait(seconds)

    def raise_if_set(self) -> None:
        """Raise RunStopped, with the reason, if the signal is set."""
        if self.is_set:
            raise RunStopped(self.reason)

    def raise_if_expired(self) -> None:
        """Raise RunStopped if the time is over."""
        if self.is_expired:
            raise RunStopped(self.reason)

    @contextmanager
    def prevailing(self) -> Iterator[None]:
        """Raise RunStopped in place of any error from the block if the signal is set: the stop may have caused it."""
        try:
            yield
        except Exception as error:
            if self.is_set:
                raise RunStopped(self.reason) from error
            raise

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` when the signal is set during the block, in the thread that sets it, or now if it is set."""
        with self._lock:
            already_set = self._set.is_set
            self._callbacks.append(callback)
        if already_set:
            callback()
        try:
            if self._parent is None:
                yield
            else:
                with self._parent.calling(callback):
                    yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)


class Shutdown:
    """The shutdown of AutoFlow in two steps: start nothing new, then stop what is still running.

    Safe to use from any thread and from signal handlers.
    """

    def __init__(self) -> None:
        self.stop = StopSignal()
        self._closing = _Latch()

    @property
    def is_closing(self) -> bool:
        """Whether nothing new may start."""
        return self._closing.is_set

    def close(self) -> None:
        """Start nothing new from now on."""
        self._closing.set()

    def close_at_once(self, reason: str) -> None:
        """Start nothing new, and stop what is running, for `reason`."""
        self.close()
        self.stop.set(reason)

    def wait_until_closing(self, seconds: float | None = None) -> bool:
        """Wait up to `seconds` until nothing new may start; return whether it is so. None waits forever."""
        return self._closing.wait(seconds)

    def stop_after(self, grace: float, join: Callable[[float], bool]) -> None:
        """Let what is running continue for `grace` seconds, then stop it and wait up to `LAST_WAIT`.

        `join` waits up to the given number of seconds for all of it to end, and returns whether it has. What has
        already been asked to stop gets no grace.
        """
        if not join(0.0 if self.stop.is_set else grace):
            self.stop.set("AutoFlow was stopped")
            join(LAST_WAIT)


def join_threads(threads: Iterable[threading.Thread], seconds: float) -> bool:
    """Wait up to `seconds` until all `threads` have ended; return whether they have."""
    deadline = time.monotonic() + seconds
    have_ended = True
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        have_ended &= not thread.is_alive()
    return have_ended


class PeriodicThread:
    """A daemon thread that repeats a call for the duration of a `with` block.

    It calls `call` each time `seconds` have passed since the start or since the last call, or sooner after `wake`; if
    `seconds` is None, only after `wake`. With `also_at_end`, there is a last call at the end of the block. The end
    waits up to `last_wait` seconds for a call in progress. All calls are made inside `within`, which the thread enters
    and leaves itself.

    An exception from `call` is a bug. It goes to `threading.excepthook`; the next call follows after `seconds`, or
    after `PAUSE_AFTER_BUG` if that is longer.
    """

    def __init__(
        self,
        name: str,
        call: Callable[[], object],
        seconds: float | None = None,
        *,
        also_at_end: bool = False,
        last_wait: float = LAST_WAIT,
        within: AbstractContextManager[object] | None = None,
    ) -> None:
        self._call = call
        self._seconds = seconds
        self._also_at_end = also_at_end
        self._last_wait = last_wait
        self._within = within or nullcontext()
        self._woken = threading.Event()
        self._ending = threading.Event()
        self._calling_since: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread and wait for it."""
        self.end()
        self.join()

    @property
    def is_ending(self) -> bool:
        """Whether the thread has been asked to end."""
        return self._ending.is_set()

    def is_dead_or_hangs(self, after: float = HANGS_AFTER) -> bool:
        """Return whether the thread has ended unasked, or a call has taken longer than `after` seconds."""
        if self.is_ending or self._thread.ident is None:
            return False
        since = self._calling_since
        return not self._thread.is_alive() or (since is not None and time.monotonic() - since > after)

    def wake(self) -> None:
        """Call soon, without waiting for the rest of the pause."""
        self._woken.set()

    def end(self) -> None:
        """Ask the thread to end, without waiting for it; `call` may do this, too."""
        self._ending.set()
        self._woken.set()

    def join(self) -> bool:
        """Wait up to `last_wait` seconds for the thread to end; return whether it has."""
        return join_threads([self._thread], self._last_wait)

    def pause(self, seconds: float) -> bool:
        """Pause within `call`, until the thread is asked to end; return whether it is."""
        return self._ending.wait(seconds)

    def _run(self) -> None:
        with self._within:
            self._call_until_end()

    def _call_until_end(self) -> None:
        seconds = self._seconds
        while not self._ending.is_set():
            self._woken.wait(seconds)
            self._woken.clear()
            if not self._ending.is_set():
                seconds = self._call_and_choose_pause()
        if self._also_at_end:
            self._call_and_choose_pause()

    def _call_and_choose_pause(self) -> float | None:
        self._calling_since = time.monotonic()
        try:
            self._call()
        except Exception as bug:  # noqa: BLE001 - the hook logs it, and the thread continues
            threading.excepthook(threading.ExceptHookArgs((type(bug), bug, bug.__traceback__, self._thread)))
            return self._seconds if self._seconds is None else max(self._seconds, PAUSE_AFTER_BUG)
        finally:
            self._calling_since = None
        return self._seconds


@contextmanager
def closing_on_signals(shutdown: Shutdown) -> Iterator[list[int]]:
    """Close AutoFlow on SIGTERM, and at once on Ctrl-C or a second SIGTERM; yield a list to which Ctrl-C is added."""
    interrupted: list[int] = []

    def terminate(_signum: int, _frame: FrameType | None) -> None:
        if shutdown.is_closing:
            shutdown.close_at_once("AutoFlow was stopped")
        shutdown.close()

    def interrupt(signum: int, _frame: FrameType | None) -> None:
        interrupted.append(signum)
        shutdown.close_at_once("AutoFlow was interrupted")

    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)

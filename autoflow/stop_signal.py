"""How the rest of AutoFlow tells running notebooks to end."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class _Latch:
    """A flag that is set once, and can be waited for.

    A signal handler may set it, too. The same with threading.Event waits for ever if the signal comes while the main
    thread, in which handlers run, is just taking or leaving the lock inside of the event.
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
            self._release()  # whoever waits as well comes next
        return self.is_set

    def _release(self) -> None:
        with suppress(RuntimeError):  # released already, by another who sets it or has waited
            self._shut.release()


class StopSignal:
    """Asks what runs to stop, once, for a reason; safe to use from any thread and from signal handlers.

    A signal that is made with a `parent` is set with its parent: stopping the daemon stops each run, cancelling
    a run stops that run alone.
    """

    def __init__(self, parent: "StopSignal | None" = None) -> None:
        # Reentrant, because a signal handler may interrupt its own thread inside of it.
        self._lock = threading.RLock()
        self._set = _Latch()
        self._callbacks: list[Callable[[], None]] = []
        self._own_reason = ""
        self._parent = parent

    @property
    def is_set(self) -> bool:
        """Whether this signal or its parent has been set."""
        return self._set.is_set or (self._parent is not None and self._parent.is_set)

    @property
    def reason(self) -> str:
        """Why, in words for the record of a run; empty while the signal is not set."""
        if self._set.is_set:
            return self._own_reason
        return self._parent.reason if self._parent else ""

    def set(self, reason: str) -> None:
        """Ask for the stop; `reason` is the answer to why. Only the first call counts."""
        with self._lock:
            if self._set.is_set:
                return
            self._own_reason = reason
            self._set.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def wait(self, seconds: float) -> bool:
        """Wait until this signal itself, not its parent, is set, or `seconds` have passed; tell whether it is set."""
        return self._set.wait(seconds)

    @contextmanager
    def calling(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback`, in the thread that sets the signal, if that happens in the block or has happened before."""
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
    """How AutoFlow ends: first it starts nothing new, then it stops what still runs.

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
        """Start nothing new, and stop what runs, for `reason`."""
        self.close()
        self.stop.set(reason)

    def wait_until_closing(self, seconds: float | None = None) -> bool:
        """Wait until nothing new may start, or `seconds` have passed; tell which, as True and False."""
        return self._closing.wait(seconds)


@contextmanager
def closing_on_signals(shutdown: Shutdown) -> Iterator[list[int]]:
    """Have SIGTERM close AutoFlow, and a second one or Ctrl-C close it at once; yield a list that Ctrl-C fills."""
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

import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from autoflow.errors import RunStopped
from autoflow.system.stop_signal import LAST_WAIT, PeriodicThread, Shutdown, StopSignal, join_threads
from tests.waiting import LONG, wait_for


def test_only_the_first_reason_counts() -> None:
    stop = StopSignal()
    assert (stop.is_set, stop.reason) == (False, "")
    stop.set("cancelled")
    stop.set("something else")
    assert (stop.is_set, stop.reason) == (True, "cancelled")


def test_parent_stops_its_children_but_no_child_stops_its_parent() -> None:
    parent = StopSignal()
    one, other = StopSignal(parent), StopSignal(parent)
    one.set("cancelled")
    assert (parent.is_set, other.is_set) == (False, False)
    parent.set("AutoFlow was stopped")
    assert (one.reason, other.reason) == ("cancelled", "AutoFlow was stopped")
    assert other.is_set


def test_signal_that_expires_counts_as_set_although_nothing_has_set_it() -> None:
    left = 1.0
    parent = StopSignal()
    child = StopSignal(parent)
    parent.expire(lambda: left)
    assert (child.seconds_left, child.is_set) == (1.0, False)
    child.raise_if_expired()
    left = -0.1
    assert child.is_set
    assert not child.is_set_directly
    with pytest.raises(RunStopped, match=r"its claim was not renewed in time"):
        child.raise_if_expired()
    child.set("cancelled")
    assert child.reason == "cancelled"


def test_callback_is_called_when_the_signal_is_set() -> None:
    stop = StopSignal()
    called: list[str] = []
    with stop.calling(lambda: called.append(stop.reason)):
        assert called == []
        stop.set("now")
        assert called == ["now"]
    assert called == ["now"]


def test_callback_is_called_when_the_parent_is_set() -> None:
    parent = StopSignal()
    child = StopSignal(parent)
    called: list[str] = []
    with child.calling(lambda: called.append(child.reason)):
        parent.set("now")
    assert called == ["now"]


def test_callback_is_called_at_once_when_the_signal_was_set_before() -> None:
    parent = StopSignal()
    parent.set("before")
    called: list[str] = []
    with StopSignal(parent).calling(lambda: called.append("called")):
        assert called == ["called"]


def test_callback_is_not_called_after_its_block() -> None:
    parent = StopSignal()
    child = StopSignal(parent)
    called: list[str] = []
    with child.calling(lambda: called.append("called")):
        pass
    child.set("late")
    parent.set("later")
    assert called == []


def test_all_waiting_threads_continue_when_the_signal_is_set() -> None:
    stop = StopSignal()
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(stop.wait(LONG))) for _ in range(8)]
    for thread in threads:
        thread.start()
    setters = [threading.Thread(target=stop.set, args=("now",)) for _ in range(8)]
    for thread in setters:
        thread.start()
    for thread in threads + setters:
        thread.join(LONG)
    assert results == [True] * 8
    assert stop.wait(LONG)


def test_only_the_signal_that_was_set_itself_is_set_directly() -> None:
    parent = StopSignal()
    child = StopSignal(parent)
    parent.set("AutoFlow was stopped")
    assert (parent.is_set_directly, child.is_set_directly) == (True, False)


def test_wait_returns_false_after_a_timeout() -> None:
    assert not StopSignal().wait(0.01)
    assert not StopSignal().wait(-1)
    assert not Shutdown().wait_until_closing(0.01)


def test_closing_starts_nothing_new_and_stops_nothing() -> None:
    shutdown = Shutdown()
    shutdown.close()
    assert shutdown.is_closing
    assert not shutdown.stop.is_set
    assert shutdown.wait_until_closing()


def test_closing_at_once_stops_what_runs() -> None:
    shutdown = Shutdown()
    shutdown.close_at_once("AutoFlow was interrupted")
    assert shutdown.wait_until_closing(0)
    assert shutdown.stop.reason == "AutoFlow was interrupted"


@pytest.mark.timeout(method="thread")
def test_unix_signal_at_any_moment_ends_the_wait() -> None:
    """With threading.Event, this hangs within a few thousand rounds."""
    shutdown = Shutdown()

    def close(_signum: int, _frame: FrameType | None) -> None:
        shutdown.close_at_once("signal")

    moments = random.Random(4)
    before = signal.signal(signal.SIGALRM, close)
    try:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            shutdown = Shutdown()
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.00001, 0.0003))
            while not shutdown.wait_until_closing(0.000001):
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Runs:
    """Runs that need `seconds` to end, or `seconds_to_stop` once they are stopped, without real time passing."""

    def __init__(self, shutdown: Shutdown, *, seconds: float, seconds_to_stop: float = 0.0) -> None:
        self._shutdown = shutdown
        self._seconds = seconds
        self._seconds_to_stop = seconds_to_stop
        self.waits: list[float] = []
        self.stopped: list[bool] = []

    def join(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self.stopped.append(self._shutdown.stop.is_set)
        left = min(self._seconds, self._seconds_to_stop) if self._shutdown.stop.is_set else self._seconds
        return left <= seconds


def test_runs_that_end_within_their_grace_are_not_stopped() -> None:
    shutdown = Shutdown()
    runs = Runs(shutdown, seconds=59)
    shutdown.stop_after(60, runs.join)
    assert runs.waits == [60]
    assert not shutdown.stop.is_set


def test_runs_are_stopped_after_their_grace_and_waited_for_only_so_long() -> None:
    shutdown = Shutdown()
    runs = Runs(shutdown, seconds=1000, seconds_to_stop=500)
    shutdown.stop_after(60, runs.join)
    assert runs.waits == [60, LAST_WAIT]
    assert runs.stopped == [False, True]
    assert shutdown.stop.reason == "AutoFlow was stopped"


def test_runs_that_are_stopped_at_once_get_no_grace() -> None:
    shutdown = Shutdown()
    shutdown.close_at_once("AutoFlow was interrupted")
    runs = Runs(shutdown, seconds=1000, seconds_to_stop=5)
    shutdown.stop_after(60, runs.join)
    assert runs.waits == [0, LAST_WAIT]
    assert shutdown.stop.reason == "AutoFlow was interrupted"


def test_threads_are_joined_only_when_all_have_ended() -> None:
    go = threading.Event()
    ends, waits = threading.Thread(target=bool), threading.Thread(target=go.wait)
    ends.start()
    waits.start()
    assert not join_threads([waits, ends], 0.0)
    go.set()
    assert join_threads([waits, ends], LONG)


class Calls:
    """What a thread calls; counts how often."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.number = 0

    def __call__(self) -> None:
        with self._changed:
            self.number += 1
            self._changed.notify_all()

    def wait_for(self, number: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.number >= number, LONG)


class TestPeriodicThread:
    def test_it_calls_again_and_again_until_its_block_ends(self) -> None:
        calls = Calls()
        with PeriodicThread("calls", calls, 0.001):
            assert calls.wait_for(3)
        number = calls.number
        assert "calls" not in {thread.name for thread in threading.enumerate()}
        assert calls.number == number

    def test_it_waits_before_the_first_call_unless_it_is_woken(self) -> None:
        calls = Calls()
        with PeriodicThread("calls", calls, 1000.0):
            pass
        assert calls.number == 0
        with PeriodicThread("calls", calls, 1000.0) as thread:
            thread.wake()
            assert calls.wait_for(1)

    def test_without_a_period_it_calls_only_when_woken(self) -> None:
        calls = Calls()
        with PeriodicThread("calls", calls) as thread:
            thread.wake()
            assert calls.wait_for(1)
        assert calls.number == 1

    def test_a_last_call_at_the_end_is_made_once(self) -> None:
        calls = Calls()
        with PeriodicThread("calls", calls, also_at_end=True):
            pass
        assert calls.number == 1

    def test_a_call_can_end_its_own_thread(self) -> None:
        calls = Calls()

        def call() -> None:
            calls()
            thread.end()

        thread = PeriodicThread("calls", call, 0.001)
        with thread:
            assert thread.join()
            assert thread.is_ending
        assert calls.number == 1

    def test_a_pause_within_a_call_ends_with_the_block(self) -> None:
        calls, pauses = Calls(), list[bool]()

        def call() -> None:
            calls()
            pauses.append(thread.pause(LONG))

        with PeriodicThread("calls", call) as thread:
            thread.wake()
            assert calls.wait_for(1)
        assert pauses == [True]

    def test_the_thread_itself_enters_and_leaves_what_its_calls_are_within(self) -> None:
        calls, events = Calls(), list[tuple[str, str]]()

        def note(event: str) -> None:
            events.append((event, threading.current_thread().name))

        @contextmanager
        def connected() -> Iterator[None]:
            note("enter")
            yield
            note("leave")

        def call() -> None:
            note("call")
            calls()

        with PeriodicThread("calls", call, within=connected()) as thread:
            thread.wake()
            assert calls.wait_for(1)
        assert events == [("enter", "calls"), ("call", "calls"), ("leave", "calls")]

    def test_the_end_of_the_block_waits_only_so_long_for_a_call_that_hangs(self) -> None:
        calls, go = Calls(), threading.Event()

        def call() -> None:
            calls()
            go.wait(LONG)

        with PeriodicThread("hangs", call, 0.001, last_wait=0.0) as thread:
            assert calls.wait_for(1)
        assert "hangs" in {each.name for each in threading.enumerate()}
        go.set()
        wait_for(thread.join)

    def test_a_bug_in_a_call_is_reported_and_the_next_call_follows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls, reported = Calls(), Calls()
        bugs: list[threading.ExceptHookArgs] = []

        def report(bug: threading.ExceptHookArgs) -> None:
            bugs.append(bug)
            reported()

        def call() -> None:
            calls()
            if calls.number == 1:
                raise LookupError("a bug")

        monkeypatch.setattr(threading, "excepthook", report)
        with PeriodicThread("calls", call, 0.001) as thread:
            assert reported.wait_for(1)
            # It would take `PAUSE_AFTER_BUG` until the next one.
            thread.wake()
            assert calls.wait_for(3)
        ((error, thread_of_bug),) = [(bug.exc_value, bug.thread) for bug in bugs]
        assert str(error) == "a bug"
        assert thread_of_bug
        assert thread_of_bug.name == "calls"

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_thread_that_waits_for_its_next_call_is_alive_and_one_that_hangs_or_has_ended_is_not(self) -> None:
        begun, go = threading.Event(), threading.Event()

        def call() -> None:
            begun.set()
            go.wait(LONG)
            sys.exit()

        thread = PeriodicThread("hangs", call)
        assert not thread.is_dead_or_hangs(after=0.0)
        with thread:
            assert not thread.is_dead_or_hangs(after=0.0)
            thread.wake()
            assert begun.wait(LONG)
            wait_for(lambda: thread.is_dead_or_hangs(after=0.01))
            assert not thread.is_dead_or_hangs(after=LONG)
            go.set()
            wait_for(lambda: thread.is_dead_or_hangs(after=LONG))
        assert not thread.is_dead_or_hangs(after=0.0)

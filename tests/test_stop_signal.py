import random
import signal
import threading
import time
from types import FrameType

import pytest

from autoflow.stop_signal import Shutdown, StopSignal
from tests.waiting import LONG


def test_only_the_first_reason_counts() -> None:
    stop = StopSignal()
    assert (stop.is_set, stop.reason) == (False, "")
    stop.set("cancelled")
    stop.set("something else")
    assert (stop.is_set, stop.reason) == (True, "cancelled")


def test_parent_stops_its_children_and_not_the_other_way_round() -> None:
    parent = StopSignal()
    one, other = StopSignal(parent), StopSignal(parent)
    one.set("cancelled")
    assert (parent.is_set, other.is_set) == (False, False)
    parent.set("AutoFlow was stopped")
    assert (one.reason, other.reason) == ("cancelled", "AutoFlow was stopped")
    assert other.is_set


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


def test_all_who_wait_go_on_when_the_signal_is_set() -> None:
    stop = StopSignal()
    told: list[bool] = []
    threads = [threading.Thread(target=lambda: told.append(stop.wait(LONG))) for _ in range(8)]
    for thread in threads:
        thread.start()
    setters = [threading.Thread(target=stop.set, args=("now",)) for _ in range(8)]
    for thread in setters:
        thread.start()
    for thread in threads + setters:
        thread.join(LONG)
    assert told == [True] * 8
    assert stop.wait(LONG)


def test_wait_tells_that_nothing_happened() -> None:
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

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from autoflow.errors import RunStopped
from autoflow.specs import PoolSpec
from autoflow.system.stop_signal import StopSignal
from autoflow.workflows.pools import Pools
from tests.waiting import LONG, wait_for

ONE, TWO = PoolSpec("flowkit", 1), PoolSpec("wide", 2)


class Notebooks:
    """Notebooks of a pool that run until they are told to end."""

    def __init__(self, pools: Pools, executor: ThreadPoolExecutor) -> None:
        self.pools, self.executor = pools, executor
        self.running: list[str] = []
        self.began: list[str] = []
        self.most = 0
        self.ends: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def start(self, name: str, pool: PoolSpec | None, stop: StopSignal | None = None) -> None:
        self.ends[name] = threading.Event()
        self.executor.submit(self._run, name, pool, stop or StopSignal())

    def has_come(self, name: str) -> bool:
        """Return whether a notebook, the last one to be started, runs or waits."""
        return len(self.running) + self.pools.waiting(ONE) == list(self.ends).index(name) + 1

    def is_alone(self, name: str) -> bool:
        return self.running == [name]

    def end(self, name: str) -> None:
        self.ends[name].set()

    def _run(self, name: str, pool: PoolSpec | None, stop: StopSignal) -> None:
        with self.pools.turn(pool, stop):
            with self._lock:
                self.running.append(name)
                self.began.append(name)
                self.most = max(self.most, len(self.running))
            assert self.ends[name].wait(LONG)
            with self._lock:
                self.running.remove(name)


@pytest.fixture
def notebooks() -> Iterator[Notebooks]:
    with ThreadPoolExecutor(12) as executor:
        found = Notebooks(Pools(), executor)
        yield found
        for name in list(found.ends):
            found.end(name)


def test_notebooks_of_three_workflows_run_one_at_a_time_in_the_order_in_which_they_came(notebooks: Notebooks) -> None:
    names = [f"{workflow}{date}" for date in (1, 2, 3) for workflow in "abc"]
    for name in names:
        notebooks.start(name, ONE)
        wait_for(partial(notebooks.has_come, name))
    for name in names:
        wait_for(partial(notebooks.is_alone, name))
        notebooks.end(name)
    wait_for(lambda: notebooks.running == [])
    assert notebooks.began == names
    assert notebooks.most == 1


def test_pools_do_not_hold_up_each_other_or_notebooks_without_a_pool(notebooks: Notebooks) -> None:
    for name, pool in (("a", ONE), ("b", ONE), ("c", TWO), ("d", TWO), ("e", TWO), ("f", None)):
        notebooks.start(name, pool)
    wait_for(lambda: len(notebooks.running) == 4)
    assert (notebooks.pools.waiting(ONE), notebooks.pools.waiting(TWO)) == (1, 1)


def test_notebook_that_is_stopped_while_it_waits_leaves_its_place_to_the_next(notebooks: Notebooks) -> None:
    stop, pools = StopSignal(), notebooks.pools
    notebooks.start("first", ONE)
    wait_for(lambda: notebooks.running == ["first"])
    stop.set("cancelled")
    with pytest.raises(RunStopped, match="cancelled"), pools.turn(ONE, stop):
        pass
    notebooks.start("next", ONE)
    notebooks.end("first")
    wait_for(lambda: notebooks.running == ["next"])

"""What waits for a slot and what has one, in made-up time."""

import datetime
import math
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from autoflow.dates.availability import Availability
from autoflow.runs.backlog import INTERRUPTED_PAUSE, Backlog, Turn
from autoflow.runs.plan import DueWork, due_work
from autoflow.runs.records import Failures, History, RunState, WorkflowKey
from autoflow.runs.run import WorkflowRun
from autoflow.specs import NotebookSpec, TriggerSpec, WorkflowSpec

FIRST = datetime.date(2016, 1, 1)
START = datetime.datetime(2026, 1, 1)


def trigger(name: str) -> TriggerSpec:
    workflow = WorkflowSpec(name=name, notebooks=(NotebookSpec(label="n", path=Path("/inputs/n.ipynb")),))
    return TriggerSpec(workflow=workflow, max_attempts=2, retry_delay=60)


def request(name: str) -> WorkflowRun:
    return WorkflowRun(workflow=trigger(name).workflow, parameters={}, reference_date=FIRST, date_ranges=())


@dataclass
class World:
    """Entries with a number of dates each, and a record of what has run; `now` is in seconds."""

    dates: dict[str, int]
    slots: int = 2
    kept: int = 50
    now: float = 0.0
    backlog: Backlog = field(init=False)
    done: list[tuple[str, int]] = field(default_factory=list)
    failures: dict[tuple[str, int], Failures] = field(default_factory=dict)
    running: list[Turn] = field(default_factory=list)
    stuck: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.backlog = Backlog(lambda: self.slots)

    def plan(self) -> None:
        """Plan as a tick or the dispatcher does."""
        histories = {WorkflowKey.of(name, {}): self._history(name) for name in self.dates}
        runs = [
            due_work(
                [trigger(name)],
                Availability.of(FIRST + datetime.timedelta(days=number) for number in range(count)),
                histories,
                START + datetime.timedelta(seconds=self.now),
                most=self.kept,
            )
            for name, count in self.dates.items()
        ]
        kept = {entry: kept for each in runs for entry, kept in each.runs.items()}
        cut = frozenset(entry for each in runs for entry in each.cut)
        self.backlog.plan(DueWork(runs=kept, cut=cut), self.now)

    def start(self) -> list[str]:
        """Give all slots that there are; return the names of the entries that got them."""
        started = []
        stuck = {WorkflowKey.of(name, {}) for name in self.stuck}
        while turn := self.backlog.take(stuck=stuck, now=self.now):
            self.running.append(turn)
            started.append(turn.run.workflow.name)
        return started

    def end(self, turn: Turn, state: RunState | None = RunState.SUCCEEDED) -> None:
        self.running.remove(turn)
        key = name_of(turn)
        if state is RunState.SUCCEEDED:
            self.done.append(key)
        if state is RunState.FAILED:
            self.failures[key] = Failures(
                self.failures.get(key, Failures()).count + 1, START + datetime.timedelta(seconds=self.now)
            )
        self.backlog.end(turn, state, self.now)

    def _history(self, name: str) -> History:
        def days(keys: list[tuple[str, int]]) -> frozenset[datetime.date]:
            return frozenset(FIRST + datetime.timedelta(days=number) for each, number in keys if each == name)

        failures = {FIRST + datetime.timedelta(days=day): each for (n, day), each in self.failures.items() if n == name}
        return History(done=days(self.done), running=days([name_of(turn) for turn in self.running]), failures=failures)


def name_of(turn: Turn) -> tuple[str, int]:
    return turn.run.workflow.name, (turn.run.reference_date - FIRST).days


def test_slots_are_shared_and_dates_of_an_entry_keep_their_order() -> None:
    world = World({"a": 3, "b": 2})
    world.plan()
    assert world.start() == ["a", "b"]
    while world.running:
        world.end(world.running[0])
        world.plan()
        world.start()
    assert [number for name, number in world.done if name == "a"] == [0, 1, 2]
    assert [number for name, number in world.done if name == "b"] == [0, 1]


def test_plan_is_stale_after_an_end_and_what_runs_is_not_due() -> None:
    world = World({"a": 3})
    world.plan()
    world.start()
    assert not world.backlog.is_stale
    world.end(world.running[0])
    assert world.backlog.is_stale
    assert world.start() == ["a"]
    world.plan()
    assert world.start() == []
    assert not world.backlog.is_stale


def test_plan_is_stale_once_the_kept_part_of_a_long_backlog_is_used_up() -> None:
    world = World({"a": 10}, kept=2)
    world.plan()
    world.start()
    assert world.backlog.is_stale
    assert not world.backlog.has_due


def test_nothing_starts_on_hold_and_a_request_does() -> None:
    world = World({"a": 3})
    world.plan()
    world.backlog.hold()
    assert world.start() == []
    world.backlog.request(request("a"))
    assert world.start() == ["a"]
    assert world.running[0].is_requested


def test_request_waits_for_a_slot_and_comes_before_the_dates_of_its_entry() -> None:
    world = World({"a": 3}, slots=1)
    world.plan()
    world.start()
    turn = world.backlog.request(request("a"))
    assert world.start() == []
    assert turn.since is None
    world.end(world.running[0])
    assert world.start() == ["a"]
    assert turn.since is not None


def test_request_that_is_withdrawn_gets_no_slot() -> None:
    world = World({"a": 1})
    turn = world.backlog.request(request("a"))
    world.backlog.end(turn, None, world.now)
    assert world.backlog.is_empty
    assert world.start() == []


def test_interrupted_date_waits_a_minute_or_for_a_tick() -> None:
    world = World({"a": 1})
    world.plan()
    world.start()
    assert world.backlog.pause_ends_at == math.inf
    world.end(world.running[0], RunState.INTERRUPTED)
    world.plan()
    assert world.start() == []
    assert world.backlog.pause_ends_at == INTERRUPTED_PAUSE
    world.now = INTERRUPTED_PAUSE
    world.plan()
    assert world.start() == ["a"]
    world.end(world.running[0], RunState.INTERRUPTED)
    world.backlog.end_pauses()
    world.plan()
    assert world.start() == ["a"]


def test_hanging_runs_of_one_entry_do_not_keep_others_waiting() -> None:
    """Three entries, two slots: every date of one hangs, and it has both slots before the others have anything due."""
    world = World({"hangs": 30, "b": 0, "c": 0})
    world.plan()
    assert world.start() == ["hangs", "hangs"]
    world.now = 10.0
    world.dates |= {"b": 3, "c": 3}
    most, first_other = 2, math.inf
    while len(world.done) < 6:
        world.now += 1
        world.plan()
        if world.start():
            first_other = min(first_other, world.now)
        most = max(most, len(world.running))
        for turn in [
            each for each in world.running if name_of(each)[0] != "hangs" and world.now > (each.since or 0) + 5
        ]:
            world.end(turn)
        assert world.now < 300, "the others wait"
    assert first_other <= 120
    assert most == 3
    assert [name_of(turn)[0] for turn in world.running] == ["hangs", "hangs"]

    # The timeout ends the first one. With something due elsewhere, the entry gets no further slot.
    world.stuck = frozenset({"hangs"})
    world.dates |= {"b": 4}
    world.end(world.running[0], RunState.FAILED)
    world.plan()
    assert world.start() == ["b"]


@settings(max_examples=50)
@given(st.data())
def test_whatever_happens_no_date_runs_twice_and_all_are_done_in_the_end(data: st.DataObject) -> None:
    world = World({"a": 4, "b": 3, "c": 2}, slots=data.draw(st.integers(1, 3)), kept=data.draw(st.integers(1, 4)))
    started: list[tuple[str, int]] = []
    for _ in range(200):
        world.plan()
        before = len(world.running)
        world.stuck = data.draw(st.frozensets(st.sampled_from("abc")))
        world.start()
        started += [name_of(turn) for turn in world.running[before:]]
        assert len({name_of(turn) for turn in world.running}) == len(world.running)
        assert len(world.running) <= world.slots + (world.slots > 1)
        if not world.running:
            break
        world.now += data.draw(st.sampled_from([1.0, 70.0]))
        world.end(data.draw(st.sampled_from(world.running)))
    assert sorted(world.done) == sorted((name, day) for name, count in world.dates.items() for day in range(count))
    for name in "abc":
        days = [day for each, day in started if each == name]
        assert days == sorted(days)

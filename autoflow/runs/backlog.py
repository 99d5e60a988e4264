"""The runs that wait for a slot or have one, due or requested by people; without threads or a database."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from autoflow.runs.plan import DueWork
from autoflow.runs.records import RunKey, RunState, WorkflowKey
from autoflow.runs.run import WorkflowRun
from autoflow.runs.slots import HeldSlot, Slots

INTERRUPTED_PAUSE = 60.0
"""How long a date waits after its run was interrupted, or could not start, unless a tick comes first; in seconds."""


@dataclass(eq=False)
class Turn:
    """A run that waits for a slot or has one. `is_requested`: a person asked for it. `since` is None while it waits."""

    run: WorkflowRun
    is_requested: bool = False
    since: float | None = None

    @property
    def entry(self) -> WorkflowKey:
        """The entry of the sensor that the run belongs to; also if it is only a workflow with its parameters."""
        return self.run.key.workflow_key


class Backlog:
    """Gives slots to what waits for them; `slots` returns how many there are at present.

    Times are in seconds of a timer that does not jump.

    Due runs come from a plan, which is made again whenever it `is_stale`: after a run has ended, and when only the
    first of many due dates were kept and have been used up. In the meantime, the rest of the plan counts.
    """

    def __init__(self, slots: Callable[[], int]) -> None:
        self._slots = slots
        self._due: dict[WorkflowKey, deque[WorkflowRun]] = {}
        self._requests: deque[Turn] = deque()
        self._held: list[Turn] = []
        self._served_at: dict[WorkflowKey, float] = {}
        self._paused: dict[RunKey, float] = {}
        self._left_out: AbstractSet[WorkflowKey] = frozenset()
        self.is_stale = False

    @property
    def running(self) -> int:
        """How many runs have a slot."""
        return len(self._held)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for a slot, as far as the plan knows."""
        return not self._requests and not self.has_due

    @property
    def has_due(self) -> bool:
        """Whether a run is due."""
        return any(self._due.values()) or bool(self._left_out)

    def plan(self, work: DueWork, now: float) -> None:
        """Replace what is due."""
        self._paused = {key: until for key, until in self._paused.items() if until > now}
        taken = {turn.run.key for turn in self._held} | self._paused.keys()
        self._due = {
            entry: deque(run for run in runs if run.key not in taken) for entry, runs in work.runs.items() if runs
        }
        # An entry whose kept runs all have slots needs no new plan: one of them ends first.
        self._left_out = frozenset(entry for entry in work.cut if self._due.get(entry))
        known = work.runs.keys() | {turn.entry for turn in self._held}
        self._served_at = {entry: at for entry, at in self._served_at.items() if entry in known}
        self.is_stale = False

    def hold(self) -> None:
        """Forget what is due; requests remain."""
        self._due.clear()
        self._left_out = frozenset()
        self.is_stale = False

    def end_pauses(self) -> None:
        """Make dates whose runs were interrupted due again."""
        self._paused.clear()

    def request(self, run: WorkflowRun) -> Turn:
        """Queue a run that a person asked for."""
        turn = Turn(run, is_requested=True)
        self._requests.append(turn)
        return turn

    def take(self, *, stuck: AbstractSet[WorkflowKey], now: float) -> Turn | None:
        """Give the next slot; return the run that got it, or None if there is no free slot or nothing to run."""
        entry = self._state().next_entry(self._waiting(), stuck=stuck, now=now)
        if entry is None:
            return None
        turn = self._pop(entry)
        turn.since = self._served_at[entry] = now
        self._held.append(turn)
        return turn

    def end(self, turn: Turn, state: RunState | None, now: float) -> None:
        """Take back the slot, or the request if it has no slot; `state` is None if the run did not run."""
        if turn in self._requests:
            self._requests.remove(turn)
        if turn in self._held:
            self._held.remove(turn)
            self.is_stale = True
        if state is RunState.INTERRUPTED and not turn.is_requested:
            self._paused[turn.run.key] = now + INTERRUPTED_PAUSE

    @property
    def pause_ends_at(self) -> float:
        """When the first date that waits after an interruption is due again; infinity if there is none."""
        return min(self._paused.values(), default=math.inf)

    def _state(self) -> Slots:
        held = [HeldSlot(turn.entry, turn.since) for turn in self._held if turn.since is not None]
        return Slots(number=self._slots(), held=held, served_at=self._served_at)

    def _waiting(self) -> Iterator[WorkflowKey]:
        yield from dict.fromkeys(turn.entry for turn in self._requests)
        yield from (entry for entry, runs in self._due.items() if runs)

    def _pop(self, entry: WorkflowKey) -> Turn:
        for turn in self._requests:
            if turn.entry == entry:
                self._requests.remove(turn)
                return turn
        turn = Turn(self._due[entry].popleft())
        if not self._due[entry] and entry in self._left_out:
            self._left_out -= {entry}
            self.is_stale = True
        return turn

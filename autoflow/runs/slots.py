"""Which entry of the sensor gets the next slot, so that no entry keeps others waiting."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from autoflow.runs.records import WorkflowKey

EXTRA_AFTER = 60.0
"""How long the runs of one entry may hold all slots before another entry gets one beyond the number, in seconds."""


@dataclass(frozen=True)
class HeldSlot:
    """A slot with a run in progress: the entry of the run, and since when it has the slot, in seconds of a timer."""

    entry: WorkflowKey
    since: float


@dataclass(frozen=True, kw_only=True)
class Slots:
    """The slots of this process: their number, those that are held, and when each entry last got one."""

    number: int
    held: Sequence[HeldSlot] = ()
    served_at: Mapping[WorkflowKey, float]

    def next_entry(
        self, due: Iterable[WorkflowKey], *, stuck: AbstractSet[WorkflowKey], now: float
    ) -> WorkflowKey | None:
        """Return the entry that gets the next slot at `now`; None if there is no free slot, or nothing is due.

        `due` are the entries with something due, in their order; `stuck` are those with a stuck run.
        """
        fair = _without_stuck(list(due), stuck)
        if len(self.held) >= self.number:
            alone = self._monopolist(now) if len(self.held) == self.number else None
            fair = [entry for entry in fair if alone and entry != alone]
        running = Counter(each.entry for each in self.held)
        return min(fair, key=lambda entry: (running[entry], self.served_at.get(entry, float("-inf"))), default=None)

    def _monopolist(self, now: float) -> WorkflowKey | None:
        """Return the entry whose runs have held all slots for `EXTRA_AFTER` seconds, if there is one."""
        entries = {each.entry for each in self.held}
        if self.number < 2 or len(entries) != 1 or now < max(each.since for each in self.held) + EXTRA_AFTER:
            return None
        return entries.pop()


def _without_stuck(due: Sequence[WorkflowKey], stuck: AbstractSet[WorkflowKey]) -> list[WorkflowKey]:
    """Return the entries in `due` without a stuck run, or all of them if each has one."""
    return [entry for entry in due if entry not in stuck] or list(due)

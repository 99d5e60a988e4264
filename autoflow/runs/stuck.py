"""Which active runs take far longer than others of the same workflow with the same parameters."""

import datetime
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoflow.runs.records import RunRecord, WorkflowKey

LAST_SUCCESSES = 10
"""How many of the last successes of a workflow count, at most."""

FEWEST_SUCCESSES = 3
"""With fewer successes, it is unknown how long a run takes."""

TIMES_THE_MEDIAN = 5
"""A run is stuck if it takes longer than `SHORTEST_LIMIT` and than this many times the median of the last successes."""

SHORTEST_LIMIT = datetime.timedelta(minutes=10)
"""A run that has not taken longer is never stuck."""

LIMIT_WITHOUT_SUCCESSES = datetime.timedelta(hours=1)
"""A run is stuck if it takes longer, where there are fewer than `FEWEST_SUCCESSES` successes."""

Durations = Mapping[WorkflowKey, Sequence[datetime.timedelta]]
"""How long the last successes of workflows took."""


@dataclass(frozen=True, kw_only=True)
class StuckRun:
    """A run that takes far longer than similar runs.

    `running_for` is how long it has taken so far. `usual` is the median of the last successes; None if there are too
    few of them.
    """

    record: RunRecord
    running_for: datetime.timedelta
    usual: datetime.timedelta | None

    @property
    def why(self) -> str:
        """Why the run counts as stuck, in a few words."""
        usual = "too few runs have succeeded to know how long one takes"
        if self.usual is not None:
            usual = f"the last successes took {in_words(self.usual)} (median)"
        return f"running for {in_words(self.running_for)}; {usual}"

    @property
    def what_to_do(self) -> str:
        """What a person can do to end the run."""
        return f"'autoflow cancel {self.record.id}' ends it"


def stuck_runs(active: Iterable[RunRecord], durations: Durations, now: datetime.datetime) -> list[StuckRun]:
    """Return the runs among `active` that are stuck at `now` (UTC), in the order of `active`.

    `durations` are those of the last successes; of each workflow, at most `LAST_SUCCESSES`.
    """
    found = []
    for record in active:
        usual = _median(durations.get(record.key.workflow_key, ()))
        running_for = now - record.started_at
        if running_for > limit(usual):
            found.append(StuckRun(record=record, running_for=running_for, usual=usual))
    return found


def limit(usual: datetime.timedelta | None) -> datetime.timedelta:
    """Return how long a run may take before it is stuck; `usual` is the median of the last successes, if known."""
    return LIMIT_WITHOUT_SUCCESSES if usual is None else max(TIMES_THE_MEDIAN * usual, SHORTEST_LIMIT)


def _median(durations: Sequence[datetime.timedelta]) -> datetime.timedelta | None:
    if len(durations) < FEWEST_SUCCESSES:
        return None
    return datetime.timedelta(seconds=statistics.median(each.total_seconds() for each in durations))


def in_words(duration: datetime.timedelta) -> str:
    """Format a duration for people, in its two largest units."""
    seconds = max(0, round(duration.total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"

"""Queries that have been run: each is queued, then executes, then has a result."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from examples.flowapi.queries import Dataset, Query, Row

Clock: TypeAlias = Callable[[], float]
"""A monotonic clock, in seconds."""

_AT_ONCE: Final = 5
"""The number of parts of a query that FlowMachine runs at the same time."""


class QueryState(enum.StrEnum):
    """The state of a query in FlowMachine."""

    KNOWN = "known"
    """The query was run once, but its state is lost."""
    QUEUED = "queued"
    EXECUTING = "executing"
    COMPLETED = "completed"
    ERRORED = "errored"


@dataclass(frozen=True)
class Pace:
    """How many seconds a query is queued and executes."""

    queued: float
    executing: float


class Job:
    """A query that has been run, and is not lost if it has a start time."""

    def __init__(self, query: Query, *, pace: Pace, clock: Clock, fails: bool) -> None:
        self.query = query
        self._pace = pace
        self._clock = clock
        self._fails = fails
        self._started: float | None = clock()
        self._rows: list[Row] | None = None

    @property
    def state(self) -> QueryState:
        """The current state."""
        if self._started is None:
            return QueryState.KNOWN
        elapsed = self._clock() - self._started
        if elapsed < self._pace.queued:
            return QueryState.QUEUED
        if elapsed < self._pace.queued + self._pace.executing:
            return QueryState.EXECUTING
        return QueryState.ERRORED if self._fails else QueryState.COMPLETED

    @property
    def progress(self) -> dict[str, int]:
        """The numbers of parts of the query that are unfinished, queued and running."""
        parts = {QueryState.QUEUED: self.query.size(), QueryState.EXECUTING: _AT_ONCE}.get(self.state, 0)
        running = min(parts, _AT_ONCE, self.query.size())
        waiting = parts - running if self.state is QueryState.QUEUED else 0
        return {"eligible": running + waiting, "queued": waiting, "running": running}

    def rows(self, dataset: Dataset) -> list[Row]:
        """Return the result, which does not change when more dates are ingested, as in FlowMachine's cache."""
        if self._rows is None:
            self._rows = self.query.rows(dataset)
        return self._rows

    def run_again(self) -> None:
        """Restart the query if it is lost; any other state stays, even an error."""
        if self._started is None:
            self._started = self._clock()

    def lose(self) -> None:
        """Forget the state of the query."""
        self._started = None

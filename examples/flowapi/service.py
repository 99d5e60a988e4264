"""The state behind FlowAPI's routes: the data, the queries that were run, and the tokens."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from examples.flowapi.answers import Refusal
from examples.flowapi.jobs import Clock, Job, Pace
from examples.flowapi.misbehaviour import Mood
from examples.flowapi.queries import Dataset, Query
from examples.flowapi.tokens import Mint


@dataclass
class Service:
    """One example FlowAPI.

    The available dates may be `cache_seconds` old. `requests` are the method and path of each request below /api,
    including those with a misbehaviour.
    """

    dataset: Dataset
    mint: Mint
    mood: Mood
    pace: Pace
    cache_seconds: float
    clock: Clock
    requests: list[tuple[str, str]] = field(default_factory=list)
    _jobs: dict[str, Job] = field(default_factory=dict)
    _cached_dates: tuple[float, dict[str, list[str]]] | None = None

    def available_dates(self) -> dict[str, list[str]]:
        """Return the available dates of each CDR type."""
        now = self.clock()
        if self._cached_dates is None or now - self._cached_dates[0] >= self.cache_seconds:
            self._cached_dates = (now, self.dataset.available_dates())
        return self._cached_dates[1]

    def run(self, query: Query, *, fails: bool) -> Job:
        """Start a query, unless it has been run before; NoDataError if a day that it needs is not available."""
        job = self._jobs.get(query.query_id)
        if job is None:
            query.check_available(self.dataset)
            job = self._jobs[query.query_id] = Job(query, pace=self.pace, clock=self.clock, fails=fails)
        job.run_again()
        return job

    def job(self, query_id: str) -> Job:
        """Return a query that has been run; Refusal if there is none with this id."""
        if query_id not in self._jobs:
            raise Refusal(404, f"Unknown query ID '{query_id}'")
        return self._jobs[query_id]

    def lose_queries(self) -> None:
        """Forget the states of all queries, which are then known but not running."""
        for job in self._jobs.values():
            job.lose()

    def require(self, authorization: str | None, *actions: str, scopes: Iterable[str] = ()) -> None:
        """Raise Refusal unless a role of the token has one of `actions`, if there are any, and all of `scopes`."""
        roles = self.mint.roles(authorization).values()
        if not any(granted >= set(scopes) and (granted & set(actions) or not actions) for granted in roles):
            raise Refusal(403, {"msg": "User claims verification failed"})

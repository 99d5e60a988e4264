"""Measure a tick with nothing to do, after years of many entries: ``python -m benchmarks.tick``."""

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from autoflow.dates.availability import Availability
from autoflow.dates.completeness import Completeness, Enough
from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil
from autoflow.model.clocks import settle_times
from autoflow.model.store import RunStore
from autoflow.model.tables import arrivals_table, runs_table
from autoflow.runs.changes import changes, due_anew
from autoflow.runs.plan import due_work, given_up_keys, keys_with_reruns, make_plan
from autoflow.runs.records import RunState, WorkflowKey, utc_now
from autoflow.runs.statuses import DateStatus
from autoflow.specs import DEFAULT_STENCIL, NotebookSpec, OnChange, TriggerSpec, WorkflowSpec
from benchmarks.goals import Goal, add_options, judge
from tests.postgres import running_postgres

FIRST_DATE = datetime.date(2010, 1, 1)
MOST_QUERIES = 5
CPU_GOAL = 1.0
"""Seconds of CPU time that a tick with nothing to do may use."""

MOST_GROWTH = 1.2
"""How many times more than in proportion to the history a tick may take."""

TYPES = ("calls", "sms", "mds")
STENCIL = DateStencil([[-6, 0]])
NEEDS = Completeness(enough=Enough.of("60%"), wait=2, longest_gap=3)


@dataclass(frozen=True)
class Shape:
    """How many entries of which kind there are, and how many days of data."""

    name: str
    entries: int
    days: int
    make: Callable[[int], TriggerSpec]

    @property
    def triggers(self) -> list[TriggerSpec]:
        """The entries."""
        return [self.make(number) for number in range(self.entries)]

    @property
    def dates(self) -> list[datetime.date]:
        """The available dates: one in forty is missing."""
        days = (FIRST_DATE + datetime.timedelta(days=number) for number in range(self.days))
        return [day for number, day in enumerate(days) if number % 40 != 20]


def plain(number: int) -> TriggerSpec:
    """Return an entry for dates whose whole week is available."""
    return TriggerSpec(workflow=_workflow(number), date_stencil=STENCIL)


def with_all_keys(number: int) -> TriggerSpec:
    """Return an entry with the keys that cost most: days, weeks and months in turn."""
    every = (Every.DAY, Every.DAY, Every.WEEK, Every.MONTH)[number % 4]
    stencil = STENCIL if every is Every.DAY else DateStencil(DEFAULT_STENCIL, every=every)
    return TriggerSpec(
        workflow=_workflow(number),
        every=every,
        date_stencil=stencil,
        needs=NEEDS,
        requires_all_of=TYPES[:2] if number % 3 else None,
        on_change=OnChange.RERUN if number % 5 else OnChange.NOTIFY,
        after_previous=number % 2 == 0,
    )


def _workflow(number: int) -> WorkflowSpec:
    return WorkflowSpec(name=f"workflow {number}", notebooks=(NotebookSpec(label="n", path=Path("/inputs/n.ipynb")),))


def fill(uri: str, shape: Shape) -> int:
    """Record when the dates arrived, and a success of each entry for each date that it could run; count these."""
    with closing(RunStore(uri)) as store:
        store.migrate()
        store.note_dates({})
    url = sa.make_url(uri)
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url)
    total = 0
    with engine.begin() as connection:
        arrivals = [{"date": date, "first_seen": _noon_after(date, 1)} for date in shape.dates]
        for name in TYPES:
            connection.execute(sa.insert(arrivals_table), [{"cdr_type": name, **row} for row in arrivals])
        for plan in make_plan(shape.triggers, _availability(shape), {}, utc_now()):
            rows = [
                _row(WorkflowKey.of_trigger(plan.trigger), each.date)
                for each in plan.dates
                if each.status in {DateStatus.DUE, DateStatus.BLOCKED}
            ]
            connection.execute(sa.insert(runs_table), rows)
            total += len(rows)
    engine.dispose()
    return total


def _availability(shape: Shape) -> Availability:
    return Availability(types=dict.fromkeys(TYPES, frozenset(shape.dates)))


def _row(key: WorkflowKey, date: datetime.date) -> dict[str, object]:
    times = dict.fromkeys(("started_at", "heartbeat_at", "finished_at"), _noon_after(date, 2))
    return {
        "workflow": key.workflow,
        "parameters_hash": key.parameters_hash,
        "parameters": key.parameters,
        "every": key.every.value,
        "reference_date": date,
        "attempt": 1,
        "state": RunState.SUCCEEDED.value,
        "holder": "benchmark",
        **times,
    }


def _noon_after(date: datetime.date, days: int) -> datetime.datetime:
    return datetime.datetime.combine(date + datetime.timedelta(days=days), datetime.time(12))


@contextmanager
def counting_queries() -> Iterator[list[str]]:
    """Yield a list that collects the statements executed in the block, except BEGIN and PRAGMA."""
    statements: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", count)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", count)


def measure(uri: str, shape: Shape, rounds: int) -> tuple[float, float, int]:
    """Return the median CPU and wall time of a tick's work, in seconds, and its number of queries."""
    triggers, found = shape.triggers, _availability(shape)
    times: list[tuple[float, float]] = []
    queries = 0
    with closing(RunStore(uri)) as store:
        for _ in range(rounds):
            with counting_queries() as statements:
                cpu, wall = time.process_time(), time.perf_counter()
                tick(store, triggers, found)
                times.append((time.process_time() - cpu, time.perf_counter() - wall))
            queries = len(statements)
    return sorted(times)[rounds // 2][0], sorted(wall for _, wall in times)[rounds // 2], queries


def tick(store: RunStore, triggers: Sequence[TriggerSpec], found: Availability) -> None:
    """Do what a tick does between FlowAPI's answer and the dispatcher."""
    settle_times(store, time.sleep)
    store.give_up_crashed()
    available = Availability(types=dict(found.types)).with_arrivals(store.note_dates(found.types))
    histories = store.histories(keys_with_reruns(triggers))
    now = utc_now()
    assert not due_anew(triggers, available, histories, now).counts
    due = due_work(triggers, available, histories, now)
    assert not due.total, due
    assert not given_up_keys(triggers, histories)
    assert not changes(triggers, available, histories, now)


def main() -> int:
    """Measure, and print a table and the goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=3650, help="of the entries with a long history")
    parser.add_argument("--entries", type=int, default=20, help="with a long history")
    parser.add_argument("--many", type=int, default=500, help="number of entries with a history of a year")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--times", type=int, default=10, help="how much longer the longest history is")
    add_options(parser)
    options = parser.parse_args()
    print(f"{'database':<12}{'entries':<22}{'successes':>10}{'CPU s':>9}{'wall s':>9}{'queries':>9}")
    with running_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        sqlite = (f"sqlite:///{folder}/{number}.db" for number in range(100))
        goals = [
            *compare("SQLite", lambda: next(sqlite), options),
            *compare("PostgreSQL", postgres.uri, options),
        ]
    return judge(goals, check=options.check, figures=options.figures)


def compare(name: str, new_database: Callable[[], str], options: argparse.Namespace) -> list[Goal]:
    """Measure histories of several shapes; return their goals."""
    # Ten times the history means ten times the entries: no country has data of a hundred years.
    shapes = [
        Shape("long", options.entries, options.days, plain),
        Shape("longest", options.entries * options.times, options.days, plain),
        Shape("long, all keys", options.entries, options.days, with_all_keys),
        Shape("many", options.many, 365, plain),
        Shape("many, all keys", options.many, 365, with_all_keys),
    ]
    figures = {}
    for shape in shapes:
        uri = new_database()
        successes = fill(uri, shape)
        cpu, wall, queries = figures[shape.name] = measure(uri, shape, options.rounds)
        print(f"{name:<12}{shape.name:<22}{successes:>10}{cpu:>9.3f}{wall:>9.3f}{queries:>9}", flush=True)
    growth = figures["longest"][0] / figures["long"][0]
    return [
        Goal(f"{name}: queries", max(queries for *_, queries in figures.values()), MOST_QUERIES, unit=""),
        *(
            Goal(f"{name}: CPU of a tick, {each}", cpu, CPU_GOAL, unit="s")
            for each, (cpu, *_) in figures.items()
            if each != "longest"
        ),
        Goal(f"{name}: CPU with {options.times} times the history", growth, options.times * MOST_GROWTH),
    ]


if __name__ == "__main__":
    sys.exit(main())

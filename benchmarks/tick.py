"""Measure a tick with nothing to do, after ten years of twenty workflows: ``python -m benchmarks.tick``."""

import argparse
import datetime
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from autoflow.dates.availability import Availability
from autoflow.dates.stencil import DateStencil
from autoflow.model.store import RunStore
from autoflow.model.tables import runs_table
from autoflow.runs.plan import due_work
from autoflow.runs.records import RunKey, RunState, utc_now
from autoflow.specs import NotebookSpec, TriggerSpec, WorkflowSpec
from benchmarks.goals import Goal, add_check, judge
from tests.postgres import running_postgres

FIRST_DATE = datetime.date(2010, 1, 1)
MOST_QUERIES = 4
CPU_GOAL = 1.0
"""Seconds of CPU time that a tick with nothing to do may use."""

MOST_GROWTH = 1.2
"""How many times more than in proportion to the history a tick may take."""

STENCIL = DateStencil([[-6, 0]])


def triggers(count: int) -> list[TriggerSpec]:
    """Return a number of workflows, each for dates whose whole week is available."""
    notebook = NotebookSpec(label="n", path=Path("/inputs/n.ipynb"))
    return [
        TriggerSpec(workflow=WorkflowSpec(name=f"workflow {number}", notebooks=(notebook,)), date_stencil=STENCIL)
        for number in range(count)
    ]


def fill(uri: str, workflows: list[TriggerSpec], dates: list[datetime.date]) -> None:
    """Record a success of each workflow for each date."""
    store = RunStore(uri)
    store.migrate()
    store.close()
    now = utc_now()
    url = sa.make_url(uri)
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url)
    with engine.begin() as connection:
        for trigger in workflows:
            key = RunKey.of(trigger.workflow.name, trigger.parameters, FIRST_DATE)
            row = {
                "workflow": key.workflow,
                "parameters_hash": key.parameters_hash,
                "parameters": key.parameters,
                "attempt": 1,
                "state": RunState.SUCCEEDED.value,
                "holder": "benchmark",
                "started_at": now,
                "heartbeat_at": now,
                "finished_at": now,
            }
            connection.execute(sa.insert(runs_table), [{**row, "reference_date": date} for date in dates])
    engine.dispose()


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


def measure(
    uri: str, workflows: list[TriggerSpec], dates: list[datetime.date], rounds: int
) -> tuple[float, float, int]:
    """Return the median CPU and wall time of a tick's work, in seconds, and its number of queries."""
    available = Availability.of(dates)
    store = RunStore(uri)
    times: list[tuple[float, float]] = []
    queries = 0
    for _ in range(rounds):
        with counting_queries() as statements:
            cpu, wall = time.process_time(), time.perf_counter()
            store.give_up_crashed()
            seen = available.with_arrivals(store.note_dates(available.types))
            due = due_work(workflows, seen, store.histories(), utc_now())
            times.append((time.process_time() - cpu, time.perf_counter() - wall))
        # The first week has no whole week before it.
        assert not due.total, due
        queries = len(statements)
    store.close()
    return sorted(times)[rounds // 2][0], sorted(wall for _, wall in times)[rounds // 2], queries


def main() -> int:
    """Measure, and print a table and the goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dates", type=int, default=3650)
    parser.add_argument("--workflows", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--times", type=int, default=10, help="how much longer the long history is")
    add_check(parser)
    options = parser.parse_args()
    print(f"{'database':<12}{'successes':>10}{'CPU s':>9}{'wall s':>9}{'queries':>9}{'ratio':>8}")
    with running_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        sqlite = (f"sqlite:///{folder}/{number}.db" for number in range(2))
        goals = [
            *compare("SQLite", [next(sqlite), next(sqlite)], options),
            *compare("PostgreSQL", [postgres.uri(), postgres.uri()], options),
        ]
    return judge(goals, check=options.check)


def compare(name: str, uris: list[str], options: argparse.Namespace) -> list[Goal]:
    """Measure a history and a longer one; return their goals."""
    cpu_times = []
    most_queries = 0
    # Ten times the history means ten times the workflows: no country has data of a hundred years.
    for uri, factor in zip(uris, (1, options.times), strict=True):
        workflows = triggers(options.workflows * factor)
        dates = [FIRST_DATE + datetime.timedelta(days=day) for day in range(options.dates)]
        fill(uri, workflows, dates)
        cpu, wall, queries = measure(uri, workflows, dates, options.rounds)
        cpu_times.append(cpu)
        most_queries = max(most_queries, queries)
        ratio = cpu / cpu_times[0]
        print(
            f"{name:<12}{len(workflows) * len(dates):>10}{cpu:>9.3f}{wall:>9.3f}{queries:>9}{ratio:>8.1f}", flush=True
        )
    growth = cpu_times[1] / cpu_times[0]
    return [
        Goal(f"{name}: queries", most_queries, MOST_QUERIES, unit=""),
        Goal(f"{name}: CPU of a tick with nothing to do", cpu_times[0], CPU_GOAL, unit="s"),
        Goal(f"{name}: CPU with {options.times} times the history", growth, options.times * MOST_GROWTH),
    ]


if __name__ == "__main__":
    sys.exit(main())

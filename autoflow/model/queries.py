"""Queries of the run store: histories of workflows, and records of runs."""

import datetime
import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

import sqlalchemy as sa

from autoflow.dates.periods import Every
from autoflow.model.output_paths import OutputFinder
from autoflow.model.tables import is_claimed, runs_table
from autoflow.runs.records import (
    Attempt,
    Histories,
    History,
    RunError,
    RunRecord,
    RunState,
    WorkflowKey,
    count_failures,
)
from autoflow.runs.stuck import Durations

_Name: TypeAlias = tuple[str, str, str]
"""Workflow, parameters and `every` as in the table."""


def read_histories(connection: sa.Connection, with_starts: Collection[WorkflowKey] = ()) -> Histories:
    """Return the histories of all workflows; it takes two queries, however long they are.

    Those of `with_starts` say when the successes started, too; it takes one more query.
    """
    of_run = runs_table.c
    columns = (of_run.workflow, of_run.parameters, of_run.every, of_run.reference_date, of_run.state)
    dates: dict[tuple[_Name, str], set[datetime.date]] = defaultdict(set)
    attempts: dict[_Name, dict[datetime.date, list[Attempt]]] = defaultdict(lambda: defaultdict(list))
    for workflow, parameters, every, date, state in connection.execute(sa.select(*columns).where(is_claimed)):
        dates[(workflow, parameters, every), state].add(date)
    unforgiven = ~is_claimed & of_run.forgiven_at.is_(None)
    statement = sa.select(*columns, of_run.started_at, of_run.finished_at).where(unforgiven).order_by(of_run.id)
    for workflow, parameters, every, date, state, started_at, finished_at in connection.execute(statement):
        name = (workflow, parameters, every)
        if state == RunState.RERUNNING:
            dates[name, RunState.RUNNING].add(date)
        attempts[name][date].append(Attempt(RunState(state), started_at, finished_at))
    starts = _read_starts(connection, with_starts)
    found = {}
    for name in {name for name, _ in dates} | attempts.keys():
        key = WorkflowKey(name[0], name[1], Every(name[2]))
        done = frozenset(dates[name, RunState.SUCCEEDED])
        found[key] = History(
            done=done,
            running=frozenset(dates[name, RunState.RUNNING]),
            failures={date: count_failures(of_date) for date, of_date in attempts[name].items()},
            started=starts.get(key, {}),
            attempts={date: attempts[name][date] for date in done & attempts[name].keys()} if key in starts else {},
        )
    return found


def _read_starts(
    connection: sa.Connection, keys: Collection[WorkflowKey]
) -> dict[WorkflowKey, dict[datetime.date, datetime.datetime]]:
    """Return when the runs started that have done the dates of `keys`."""
    found: dict[WorkflowKey, dict[datetime.date, datetime.datetime]] = {key: {} for key in keys}
    if not found:
        return found
    of_run = runs_table.c
    is_wanted = of_run.workflow.in_({key.workflow for key in keys}) & (of_run.state == RunState.SUCCEEDED.value)
    columns = (of_run.workflow, of_run.parameters, of_run.every, of_run.reference_date, of_run.started_at)
    for workflow, parameters, every, date, started_at in connection.execute(sa.select(*columns).where(is_wanted)):
        if (key := WorkflowKey(workflow, parameters, Every(every))) in found:
            found[key][date] = started_at
    return found


def read_durations(connection: sa.Connection, keys: Iterable[WorkflowKey], *, limit: int) -> Durations:
    """Return how long the last successes of workflows took, at most `limit` of each."""
    columns = runs_table.c
    durations = {}
    for key in keys:
        successes = (
            sa.select(columns.started_at, columns.finished_at)
            .where(
                columns.workflow == key.workflow,
                columns.parameters_hash == key.parameters_hash,
                columns.every == key.every.value,
                columns.state == RunState.SUCCEEDED.value,
                columns.finished_at.is_not(None),
            )
            .order_by(columns.finished_at.desc())
            .limit(limit)
        )
        durations[key] = [finished - started for started, finished in connection.execute(successes)]
    return durations


def read_runs(
    connection: sa.Connection,
    *conditions: sa.ColumnElement[bool],
    finder: OutputFinder,
    limit: int | None = None,
) -> list[RunRecord]:
    """Return the runs that meet all of `conditions`, newest first, at most `limit`; `finder` finds their outputs."""
    statement = sa.select(runs_table).where(*conditions).order_by(runs_table.c.id.desc()).limit(limit)
    return [_record(row, finder) for row in connection.execute(statement)]


def _record(row: Any, finder: OutputFinder) -> RunRecord:
    error = RunError(row.error_class, row.error_message or "", row.error_notebook, row.error_cell, row.error_code)
    return RunRecord(
        id=row.id,
        key=WorkflowKey(row.workflow, row.parameters, Every(row.every)).on(row.reference_date),
        attempt=row.attempt,
        state=RunState(row.state),
        holder=row.holder,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        finished_at=row.finished_at,
        error=error if row.error_class else None,
        outputs=finder.found(json.loads(row.outputs or "{}"), row.outputs_dir),
        flow_run_id=row.flow_run_id,
        forgiven_at=row.forgiven_at,
        pruned_at=row.pruned_at,
        cancel_asked_at=row.cancel_asked_at,
        label=row.label,
        missing_days=row.missing_days,
        is_try_out=row.is_try_out,
    )

"""Queries of the run store: histories of workflows, and records of runs."""

import datetime
import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from autoflow.model.output_paths import OutputFinder
from autoflow.model.tables import is_claimed, runs_table
from autoflow.runs.records import Failures, Histories, History, RunError, RunRecord, RunState, WorkflowKey
from autoflow.runs.stuck import Durations

CRASHES_PER_FAILURE = 3
"""This many crashes in a row count as one failure: a notebook that brings down the machine is not retried for ever."""


def read_histories(connection: sa.Connection) -> Histories:
    """Return the histories of all workflows; it takes two queries, however long they are."""
    columns = (runs_table.c.workflow, runs_table.c.parameters, runs_table.c.reference_date, runs_table.c.state)
    dates: dict[tuple[str, str, str], set[datetime.date]] = defaultdict(set)
    attempts: dict[tuple[str, str], dict[datetime.date, list[tuple[str, datetime.datetime]]]]
    attempts = defaultdict(lambda: defaultdict(list))
    for workflow, parameters, date, state in connection.execute(sa.select(*columns).where(is_claimed)):
        dates[workflow, parameters, state].add(date)
    unforgiven = ~is_claimed & runs_table.c.forgiven_at.is_(None)
    statement = sa.select(*columns, runs_table.c.finished_at).where(unforgiven).order_by(runs_table.c.id)
    for workflow, parameters, date, state, finished_at in connection.execute(statement):
        if state == RunState.RERUNNING:
            dates[workflow, parameters, RunState.RUNNING].add(date)
        attempts[workflow, parameters][date].append((state, finished_at))
    names = {(workflow, parameters) for workflow, parameters, _ in dates} | attempts.keys()
    return {
        WorkflowKey(*name): History(
            done=frozenset(dates[*name, RunState.SUCCEEDED]),
            running=frozenset(dates[*name, RunState.RUNNING]),
            failures={date: _failures(of_date) for date, of_date in attempts[name].items()},
        )
        for name in names
    }


def _failures(attempts: Iterable[tuple[str, datetime.datetime]]) -> Failures:
    """Return the failures among `attempts`, which are the states and ends of a date's runs, oldest first."""
    count = crashes = 0
    last = None
    state = ""
    for state, finished_at in attempts:
        crashes = crashes + 1 if state == RunState.CRASHED else 0
        if state == RunState.FAILED or (crashes and crashes % CRASHES_PER_FAILURE == 0):
            count += 1
            last = finished_at
    return Failures(count=count, last=last, cancelled=state == RunState.CANCELLED)


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
        key=WorkflowKey(row.workflow, row.parameters).on(row.reference_date),
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
    )

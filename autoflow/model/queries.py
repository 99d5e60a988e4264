"""Queries of the run store: histories of workflows, and records of runs."""

import json
import operator
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import sqlalchemy as sa

from autoflow.dates.periods import Every
from autoflow.model.output_paths import OutputFinder
from autoflow.model.tables import is_claimed, is_done, runs_table
from autoflow.runs.finished import FinishedNotebook
from autoflow.runs.records import (
    CLAIMED_STATES,
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

if TYPE_CHECKING:
    import datetime

_Name: TypeAlias = tuple[str, str, str]
"""Workflow, parameters and `every` as in the table."""


def read_histories(
    connection: sa.Connection,
    with_starts: Collection[WorkflowKey] = (),
    *conditions: sa.ColumnElement[bool],
    workflow: str | None = None,
) -> Histories:
    """Return the histories of all workflows, or of one `workflow`; it takes one query, however long they are.

    Those of `with_starts` say when the successes started, too. Only runs that meet all `conditions` count.
    """
    dates: dict[_Name, dict[str, set[datetime.date]]] = defaultdict(lambda: defaultdict(set))
    attempts: dict[_Name, dict[datetime.date, list[Attempt]]] = defaultdict(lambda: defaultdict(list))
    starts: dict[_Name, dict[datetime.date, datetime.datetime]] = {_name(key): {} for key in with_starts}
    unclaimed = []
    statement = _of_histories(with_starts).where(*conditions)
    statement = statement if workflow is None else statement.where(runs_table.c.workflow == workflow)
    for name_of_workflow, parameters, every, date, state, started, *more in connection.execute(statement):
        name = (name_of_workflow, parameters, every)
        if state not in CLAIMED_STATES:
            unclaimed.append((more, name, date, state, started))
            continue
        dates[name][state].add(date)
        if started and name in starts:
            starts[name][date] = started
    for (_, finished), name, date, state, started in sorted(unclaimed, key=operator.itemgetter(0)):
        if state == RunState.RERUNNING:
            dates[name][RunState.RUNNING].add(date)
        attempts[name][date].append(Attempt(RunState(state), started, finished))
    return {
        WorkflowKey(name[0], name[1], Every(name[2])): History(
            done=frozenset(dates[name][RunState.SUCCEEDED] | dates[name][RunState.SKIPPED]),
            skipped=frozenset(dates[name][RunState.SKIPPED]),
            running=frozenset(dates[name][RunState.RUNNING]),
            failures={date: count_failures(of_date) for date, of_date in attempts[name].items()},
            started=starts.get(name, {}),
            attempts={date: attempts[name][date] for date in starts.get(name, {}).keys() & attempts[name].keys()},
        )
        for name in dates.keys() | attempts.keys()
    }


def _name(key: WorkflowKey) -> _Name:
    return key.workflow, key.parameters, key.every.value


def _of_histories(with_starts: Collection[WorkflowKey]) -> sa.Select[Any]:
    """Return the query for all runs that count; times only where they are needed, because they are slow to read."""
    of_run = runs_table.c
    is_wanted = of_run.workflow.in_({key.workflow for key in with_starts}) & is_done
    started = sa.case((~is_claimed | is_wanted if with_starts else ~is_claimed, of_run.started_at))
    finished = sa.case((~is_claimed, of_run.finished_at))
    columns = (of_run.workflow, of_run.parameters, of_run.every, of_run.reference_date, of_run.state)
    return sa.select(*columns, started, of_run.id, finished).where(is_claimed | of_run.forgiven_at.is_(None))


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
    found = finder.found(json.loads(row.finished_notebooks or "{}"), row.outputs_dir)
    finished = {label: FinishedNotebook.from_json(each) for label, each in found.items()}
    outputs = finder.found(json.loads(row.outputs or "{}"), row.outputs_dir)
    if RunState(row.state).is_crash and not (row.outputs or row.pruned_at):
        # The end of the run was not recorded, but that of each notebook was.
        outputs = {label: each.as_outputs() for label, each in finished.items()}
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
        outputs=outputs,
        flow_run_id=row.flow_run_id,
        forgiven_at=row.forgiven_at,
        pruned_at=row.pruned_at,
        cancel_asked_at=row.cancel_asked_at,
        label=row.label,
        missing_days=row.missing_days,
        is_try_out=row.is_try_out,
        made_from=json.loads(row.made_from) if row.made_from else None,
        checks=json.loads(row.checks) if row.checks else None,
        finished=finished,
        run_dir=row.run_dir,
        is_resume_asked=row.resume_asked_at is not None,
    )

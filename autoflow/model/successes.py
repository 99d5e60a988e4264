"""The last success of each workflow with its parameters."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from autoflow.dates.periods import Every
from autoflow.model.tables import is_done, runs_table
from autoflow.model.transactions import Database
from autoflow.runs.records import WorkflowKey


@dataclass(frozen=True)
class Success:
    """A run that has succeeded or was skipped: when it ended, in UTC, and its reference date."""

    finished_at: datetime.datetime
    reference_date: datetime.date


def last_successes(database: Database) -> Mapping[WorkflowKey, Success]:
    """Return the success that ended last, of each workflow with its parameters; it takes one query.

    Raises
    ------
    RunStoreError
        If the database fails.

    """
    of_run = runs_table.c
    has_ended = is_done & of_run.finished_at.is_not(None)
    columns = (of_run.workflow, of_run.parameters, of_run.every)
    last = sa.select(*columns, sa.func.max(of_run.finished_at).label("finished_at")).where(has_ended).group_by(*columns)
    newest = last.subquery()
    is_last = sa.and_(*(of_run[column.name] == newest.c[column.name] for column in newest.c))
    statement = sa.select(*columns, of_run.finished_at, of_run.reference_date).join(newest, is_last).where(has_ended)
    with database.reading() as connection:
        # Of several that ended at the same moment, the one with the newest date counts.
        rows = sorted(connection.execute(statement), key=lambda row: row.reference_date)
    return {
        WorkflowKey(row.workflow, row.parameters, Every(row.every)): Success(row.finished_at, row.reference_date)
        for row in rows
    }

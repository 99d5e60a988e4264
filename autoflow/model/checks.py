"""The checks of runs, as the run store keeps them."""

import json
from collections.abc import Mapping

import sqlalchemy as sa

from autoflow.model.tables import runs_table
from autoflow.model.transactions import Database
from autoflow.runs.checks import Checks


def record_run_checks(database: Database, run_id: int, checks: Mapping[str, Checks]) -> None:
    """Record the checks of a run, by the labels of its notebooks.

    Raises
    ------
    RunStoreError
        If the database fails.

    """
    content = {label: each.as_json() for label, each in checks.items() if each}
    if content:
        statement = sa.update(runs_table).where(runs_table.c.id == run_id)
        with database.writing("cannot record checks") as connection:
            connection.execute(statement.values(checks=json.dumps(content, ensure_ascii=False)))

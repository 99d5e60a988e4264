"""What runs were made from, as the run store keeps it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from autoflow.dates.periods import Every
from autoflow.model.tables import is_done, package_lists_table, runs_table
from autoflow.model.transactions import Database
from autoflow.runs.records import RunKey, RunState, WorkflowKey


class Provenance:
    """What each run was made from. Every method raises RunStoreError if the database cannot be reached."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()

    def record(self, run_id: int, made_from: Mapping[str, Any], packages: Sequence[str]) -> None:
        """Record what a run is made from, see `RunRecord`; `packages` are the lines of its list of packages."""
        digest = made_from["packages"]
        with self._database.writing("cannot be written") as connection:
            if digest not in self._known:
                # Other runs may record the same list at the same time.
                insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
                row = {"digest": digest, "packages": "\n".join(packages)}
                connection.execute(insert(package_lists_table).values(row).on_conflict_do_nothing())
            values = {"made_from": json.dumps(made_from)}
            connection.execute(sa.update(runs_table).where(runs_table.c.id == run_id).values(values))
        self._known.add(digest)

    def packages(self, digest: str) -> list[str]:
        """Return the lines of a list of packages; empty if there is no such list."""
        with self._database.reading() as connection:
            found: str | None = connection.execute(_list(digest)).scalar()
        return (found or "").splitlines()

    def of_done_dates(self, workflow: str) -> dict[RunKey, Mapping[str, Any] | None]:
        """Return what the run that has done each date of a workflow was made from; None if that is unknown.

        If a date was skipped, ``skipped`` in it is true.
        """
        of_run = runs_table.c
        columns = (of_run.parameters, of_run.every, of_run.reference_date, of_run.made_from, of_run.state)
        is_wanted = (of_run.workflow == workflow) & is_done
        with self._database.reading() as connection:
            return {
                WorkflowKey(workflow, parameters, Every(every)).on(date): (
                    {**json.loads(text), "skipped": RunState(state).is_skip} if text else None
                )
                for parameters, every, date, text, state in connection.execute(sa.select(*columns).where(is_wanted))
            }


def _list(digest: str) -> sa.Select[Any]:
    return sa.select(package_lists_table.c.packages).where(package_lists_table.c.digest == digest)

"""What has changed in the run store, by entry and calendar year, for those that follow all runs of all processes."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import sqlalchemy as sa

from autoflow.dates.availability import Arrivals
from autoflow.dates.periods import Every
from autoflow.model.arrivals import arrivals_stamp, known_arrivals
from autoflow.model.output_paths import OutputFinder, OutputFolders
from autoflow.model.queries import read_histories, read_runs
from autoflow.model.tables import revisions_table, runs_table
from autoflow.model.transactions import Database
from autoflow.runs.records import Histories, RunKey, RunRecord, WorkflowKey


@dataclass(frozen=True)
class EntryYear:
    """The dates of an entry in a calendar year."""

    key: WorkflowKey
    year: int


Revisions: TypeAlias = Mapping[EntryYear, int]
"""For each entry and year with runs, a number that is another one after each change of its runs."""


class RunsByYear:
    """The runs in a database, by entry and year. Paths of outputs are found in `folders`.

    Every method raises RunStoreError if the database cannot be reached.
    """

    def __init__(self, database: Database, folders: OutputFolders) -> None:
        self._database = database
        self._folders = folders

    def revisions(self) -> Revisions:
        """Return the present revisions; it takes one short query, however many runs there are."""
        columns = revisions_table.c
        statement = sa.select(columns.workflow, columns.parameters, columns.every, columns.year, columns.revision)
        with self._database.reading() as connection:
            return {
                EntryYear(WorkflowKey(workflow, parameters, Every(every)), year): revision
                for workflow, parameters, every, year, revision in connection.execute(statement)
            }

    def runs(self, entry_year: EntryYear) -> list[RunRecord]:
        """Return the runs of an entry in a year, newest first."""
        with self._database.reading() as connection:
            return read_runs(connection, *_is_of(entry_year), finder=OutputFinder(self._folders))

    def histories(self, entry_year: EntryYear, *, with_starts: bool) -> Histories:
        """Return the history of an entry in a year; with the starts of the runs that succeeded if that is wanted."""
        keys = [entry_year.key] if with_starts else []
        with self._database.reading() as connection:
            return read_histories(connection, keys, *_is_of(entry_year))

    def try_outs(self) -> Sequence[RunKey]:
        """Return the dates with runs that users have started to try something out, that of the newest run first."""
        columns = runs_table.c
        statement = sa.select(columns.workflow, columns.parameters, columns.every, columns.reference_date)
        with self._database.reading() as connection:
            found = connection.execute(statement.where(columns.is_try_out).order_by(columns.id.desc()))
            keys = (WorkflowKey(row.workflow, row.parameters, Every(row.every)).on(row.reference_date) for row in found)
            return list(dict.fromkeys(keys))

    def arrivals_stamp(self) -> str:
        """Return a text that is another one once a date has arrived, vanished or returned."""
        with self._database.reading() as connection:
            return arrivals_stamp(connection)

    def arrivals(self) -> Arrivals:
        """Return when each date arrived, as the last tick found it."""
        with self._database.reading() as connection:
            return known_arrivals(connection)


def _is_of(entry_year: EntryYear) -> tuple[sa.ColumnElement[bool], ...]:
    key, columns = entry_year.key, runs_table.c
    first, last = datetime.date(entry_year.year, 1, 1), datetime.date(entry_year.year, 12, 31)
    return (
        columns.workflow == key.workflow,
        columns.parameters_hash == key.parameters_hash,
        columns.every == key.every.value,
        columns.reference_date.between(first, last),
    )

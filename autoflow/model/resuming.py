"""What one attempt at a run leaves to the next: the notebooks that it has executed, and its folder."""

import json
from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from autoflow.model.output_paths import OutputFinder
from autoflow.model.queries import read_runs
from autoflow.model.store import RunStore
from autoflow.model.tables import is_run, runs_table
from autoflow.runs.finished import FinishedNotebook
from autoflow.runs.records import Claim, RunKey, RunRecord

UNWRITABLE = "cannot be written"


class Resuming:
    """What attempts leave to each other. Every method raises RunStoreError if the database cannot be reached."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._database = store.database

    def record(self, run_id: int, finished: Mapping[str, FinishedNotebook]) -> None:
        """Record the notebooks of a run that were executed to their ends so far."""
        content = {label: each.as_json() for label, each in finished.items()}
        stored = self._store.folders.to_store(content) if self._store.folders else content
        self._set(run_id, finished_notebooks=json.dumps(stored, ensure_ascii=False))

    def take_folder(self, run_id: int, folder: str, *, of_run: int | None) -> None:
        """Record the folder of a run, from the outputs folder on; it was that of another run if `of_run` is given."""
        with self._database.writing(UNWRITABLE) as connection:
            for number, value in ((of_run, None), (run_id, folder)):
                statement = sa.update(runs_table).where(runs_table.c.id == number)
                connection.execute(statement.values(run_dir=value))

    def ask(self, run_id: int) -> None:
        """Have the next attempt at the date of a run take over its notebooks."""
        self._set(run_id, resume_asked_at=self._store.now)

    def withdraw(self, keys: Iterable[RunKey]) -> None:
        """Have the next attempts at `keys` run everything, unless their entries say otherwise."""
        with self._database.writing(UNWRITABLE) as connection:
            for key in keys:
                is_asked = runs_table.c.resume_asked_at.is_not(None)
                connection.execute(sa.update(runs_table).where(*is_run(key), is_asked).values(resume_asked_at=None))

    def attempts(self, key: RunKey) -> Sequence[RunRecord]:
        """Return all attempts at a run, newest first."""
        with self._database.reading() as connection:
            return read_runs(connection, *is_run(key), finder=OutputFinder(self._store.folders))

    def predecessor(self, claim: Claim, *, is_wanted: bool) -> RunRecord | None:
        """Return the attempt whose notebooks the run with this claim may take over; None if there is none.

        A user has asked for it; or, if it is `is_wanted`, it is the last one. A request counts for one attempt.
        """
        before = [each for each in self.attempts(claim.key) if each.id < claim.id]
        asked = next((each for each in before if each.is_resume_asked), None)
        if asked:
            self.withdraw([claim.key])
        if not before or has_resumed_in_vain(before[0]):
            return None
        return asked or (last_of(before) if is_wanted else None)

    def _set(self, run_id: int, **values: object) -> None:
        with self._database.writing(UNWRITABLE) as connection:
            connection.execute(sa.update(runs_table).where(runs_table.c.id == run_id).values(values))


def has_resumed_in_vain(record: RunRecord) -> bool:
    """Return whether a run has failed although, or because, it took over notebooks: the next one runs everything."""
    return record.state.is_failure and bool(record.taken_over)


def last_of(attempts: Iterable[RunRecord]) -> RunRecord | None:
    """Return the attempt among `attempts`, newest first, that the next one continues; None if there is none.

    Those that ended early for reasons of their own, before any notebook had ended, do not count.
    """
    for each in attempts:
        if each.state.has_succeeded:
            return None
        if each.finished or each.state.is_failure:
            return each
    return None

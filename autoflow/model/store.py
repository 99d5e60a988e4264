"""The run store: which workflow was run for which date, how each run ended, and which runs are in progress."""

import datetime
import json
import operator
import os
import socket
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from autoflow.dates.availability import Arrivals
from autoflow.model import migration
from autoflow.model.arrivals import note_dates, preview_arrivals
from autoflow.model.output_paths import OutputFinder, OutputFolders
from autoflow.model.queries import read_durations, read_histories, read_runs
from autoflow.model.tables import is_claimed, is_done, is_rerunning, is_run, runs_table
from autoflow.model.transactions import Database
from autoflow.runs.records import (
    ACTIVE_STATES,
    CANCELLED_FROM_COMMAND_LINE,
    CRASHED_AFTER,
    Claim,
    Histories,
    RunError,
    RunKey,
    RunRecord,
    RunState,
    WorkflowKey,
    utc_now,
)
from autoflow.runs.stuck import LAST_SUCCESSES, SHORTEST_LIMIT, StuckRun, in_words, stuck_runs
from autoflow.specs import Json


class RunStore:
    """AutoFlow's own database, with one row for each attempt at a run. Safe to use from several threads.

    `uri` is a database URL of SQLAlchemy, for SQLite or PostgreSQL; the path of an SQLite file is taken literally. A
    run has crashed if its heartbeat is older than `crashed_after`; all daemons that share a database should use the
    same value. `clock` returns the time in UTC without a time zone. Without it, PostgreSQL's own clock counts, because
    the clocks of several machines may differ. `holder` names this process in its runs; `database` has the tables.

    Outputs are stored with paths relative to the outputs folder, and returned with absolute ones: those in `folders`,
    wherever they were when the run ended. Without `folders`, paths are as they were then.

    Every method raises RunStoreError if the database cannot be reached.
    """

    def __init__(
        self,
        uri: str,
        *,
        folders: OutputFolders | None = None,
        crashed_after: datetime.timedelta = CRASHED_AFTER,
        clock: Callable[[], datetime.datetime] | None = None,
    ) -> None:
        self.database = Database(uri)
        self.crashed_after = crashed_after
        self._clock = clock
        self.folders = folders
        self.holder = f"{socket.gethostname()} pid {os.getpid()} {uuid.uuid4().hex[:8]}"

    @property
    def now(self) -> Any:
        """The time in UTC; of PostgreSQL, an expression for its own time."""
        return self._clock() if self._clock else self.database.now

    def close(self) -> None:
        """Close the connections to the database."""
        self.database.close()

    @property
    def exists(self) -> bool:
        """Whether there is a database to connect to: PostgreSQL, or the file of SQLite."""
        return self.database.exists

    def check_file(self) -> None:
        """Raise RunStoreGoneError if the file of SQLite was deleted or replaced since it was opened; it is quick."""
        self.database.check_file()

    def migrate(self, *, traces: Iterable[Path] = ()) -> None:
        """Create or upgrade the tables to the version that this AutoFlow needs; keep their rows.

        `traces` are files that show that AutoFlow has run here before: with one, RunStoreGoneError is raised rather
        than creating a missing SQLite file.
        """
        migration.migrate(self.database, self.folders, traces=traces)

    def refuse_if_lost(self, traces: Iterable[Path]) -> None:
        """Raise RunStoreGoneError if one of `traces` shows that the missing file of SQLite has existed."""
        migration.refuse_if_lost(self.database, traces)

    def look(self, *, made_at_start: Iterable[Path] = (), traces: Iterable[Path] = ()) -> str:
        """Return where the database is and which version its tables have; change nothing.

        `made_at_start` are folders that need not exist yet, `traces` as for `migrate`.
        """
        return migration.describe(self.database, made_at_start=made_at_start, traces=traces)

    def claim(
        self,
        key: RunKey,
        *,
        again: bool = False,
        label: str | None = None,
        missing_days: int | None = None,
        is_try_out: bool = False,
        is_requested: bool = False,
    ) -> Claim | None:
        """Claim the run with this `key`, of an entry with this `label`; return None if it is done or running anywhere.

        With `again`, claim it even if it is done; the date then stays done, however the new run ends. For the others
        see `RunRecord`.
        """
        about = {"missing_days": missing_days, "is_try_out": is_try_out, "is_requested": is_requested}
        row = _values_of_start(key, self.now) | about | {"label": label, "holder": self.holder}
        try:
            with self.database.writing("cannot take a claim") as connection:
                is_rerun = again and connection.execute(_done(key)).first() is not None
                row["state"] = (RunState.RERUNNING if is_rerun else RunState.RUNNING).value
                statement = sa.insert(runs_table).values(row).returning(runs_table.c.id, runs_table.c.attempt)
                run_id, attempt = connection.execute(statement).one()
        except IntegrityError:
            return None
        return Claim(id=run_id, key=key, attempt=attempt, is_rerun=is_rerun)

    def renew(self, claims: Iterable[Claim]) -> frozenset[Claim]:
        """Renew the heartbeat of `claims`; return those that are still valid. The others were marked as crashed."""
        by_id = {claim.id: claim for claim in claims}
        with self.database.writing("cannot renew claims") as connection:
            is_valid = runs_table.c.id.in_(by_id) & runs_table.c.state.in_(ACTIVE_STATES)
            statement = sa.update(runs_table).where(is_valid).values(heartbeat_at=self.now).returning(runs_table.c.id)
            return frozenset(by_id[run_id] for run_id in connection.execute(statement).scalars())

    def name_flow_run(self, claim: Claim, flow_run_id: str) -> None:
        """Record the id of the run's flow run in Prefect."""
        with self.database.writing("cannot be written") as connection:
            connection.execute(sa.update(runs_table).where(runs_table.c.id == claim.id).values(flow_run_id=flow_run_id))

    def finish(
        self,
        claim: Claim,
        state: RunState,
        *,
        outputs: Mapping[str, Json] | None = None,
        error: RunError | None = None,
    ) -> bool:
        """Record how a run ended; `outputs` are the files that it produced.

        Return False and change nothing if the run was marked as crashed in the meantime. A success is recorded even
        then, unless another run has been started. A run that stopped on a request to cancel it has been cancelled.
        """
        values = _values_of_end(state, error) | _stored(outputs, self.folders)
        values |= dict.fromkeys(("finished_at", "heartbeat_at"), self.now)
        before = [*ACTIVE_STATES, RunState.CRASHED] if state.is_success else [*ACTIVE_STATES]
        statement = sa.update(runs_table).where(runs_table.c.id == claim.id, runs_table.c.state.in_(before))
        try:
            with self.database.writing("cannot record the end of a run") as connection:
                if claim.is_rerun and state.is_success:
                    _supersede(connection, claim)
                return connection.execute(statement.values(values)).rowcount == 1
        except IntegrityError:
            return False

    def ask_to_cancel(self, run_id: int) -> bool:
        """Ask the process that executes a run to cancel it; return False if the run is not active."""
        columns = runs_table.c
        asked_at = sa.func.coalesce(columns.cancel_asked_at, self.now)  # the first request counts
        statement = sa.update(runs_table).where(columns.id == run_id, columns.state.in_(ACTIVE_STATES))
        with self.database.writing("cannot be written") as connection:
            return connection.execute(statement.values(cancel_asked_at=asked_at)).rowcount == 1

    def asked_to_cancel(self, claims: Iterable[Claim]) -> frozenset[Claim]:
        """Return those of `claims` with a request to cancel them."""
        by_id = {claim.id: claim for claim in claims}
        is_asked = runs_table.c.cancel_asked_at.is_not(None)
        with self.database.reading() as connection:
            found = connection.execute(sa.select(runs_table.c.id).where(runs_table.c.id.in_(by_id), is_asked))
            return frozenset(by_id[run_id] for run_id in found.scalars())

    def give_up_crashed(self) -> int:
        """Mark runs whose heartbeat has stopped as crashed, so that their dates are due again; return how many.

        Those with a request to cancel them are cancelled instead, and not counted.

        A time in the future, recorded while a clock was ahead, counts as the current time from here on: a run with such
        a heartbeat has crashed unless it renews it in time, and retry delays start.
        """
        now = self.now
        is_overdue = runs_table.c.heartbeat_at < now - self.crashed_after
        with self.database.writing("cannot look for crashed runs") as connection:
            _pull_back_times(connection, now)
            return _mark_crashed(connection, is_overdue, now=now, silence=in_words(self.crashed_after))

    def pull_back_times(self) -> Mapping[int, datetime.datetime]:
        """Replace future times with the current time; return the new heartbeats of the active runs affected, by id.

        They are alive if they renew their heartbeat from now on.
        """
        with self.database.writing("cannot be written") as connection:
            return _pull_back_times(connection, self.now)

    def heartbeats(self) -> Mapping[int, datetime.datetime]:
        """Return when each active run, by id, last renewed its heartbeat."""
        statement = sa.select(runs_table.c.id, runs_table.c.heartbeat_at).where(runs_table.c.state.in_(ACTIVE_STATES))
        with self.database.reading() as connection:
            return {row.id: row.heartbeat_at for row in connection.execute(statement)}

    def histories(self, with_starts: Collection[WorkflowKey] = ()) -> Histories:
        """Return the histories of all workflows, those of `with_starts` with the starts of the runs that succeeded."""
        with self.database.reading() as connection:
            return read_histories(connection, with_starts)

    def preview_arrivals(self, dates: Mapping[str, frozenset[datetime.date]]) -> Arrivals:
        """Return when each date arrived, as `note_dates` would, but record nothing."""
        return preview_arrivals(self.database, dates, self._clock() if self._clock else utc_now())

    def note_dates(self, dates: Mapping[str, frozenset[datetime.date]]) -> Arrivals:
        """Record the dates that FlowAPI has now, by type of CDR; return when each arrived."""
        return note_dates(self.database, dates, self.now)

    def stuck_runs(self) -> list[StuckRun]:
        """Return the active runs, of any process, that take far longer than similar runs, newest first."""
        with self.database.reading() as connection:
            return _stuck_runs(connection, self.now, OutputFinder(self.folders))

    def runs(
        self,
        *,
        workflow: str | WorkflowKey | None = None,
        label: str | None = None,
        state: RunState | None = None,
        first: datetime.date | None = None,
        last: datetime.date | None = None,
        limit: int | None = None,
    ) -> list[RunRecord]:
        """Return the runs that match, newest first.

        `workflow` is a name or the key of an entry, `label` is as recorded. `first` and `last` are included.
        """
        wanted = (
            (runs_table.c.label, operator.eq, label),
            (runs_table.c.state, operator.eq, state),
            (runs_table.c.reference_date, operator.ge, first),
            (runs_table.c.reference_date, operator.le, last),
        )
        conditions = [compare(column, value) for column, compare, value in wanted if value is not None]
        conditions += _is_of(workflow)
        with self.database.reading() as connection:
            return read_runs(connection, *conditions, finder=OutputFinder(self.folders), limit=limit)

    def runs_ended_before(self, time: datetime.datetime) -> list[RunRecord]:
        """Return the runs that ended before `time` (UTC), newest first."""
        with self.database.reading() as connection:
            return read_runs(connection, runs_table.c.finished_at < time, finder=OutputFinder(self.folders))

    def run(self, run_id: int) -> RunRecord | None:
        """Return the run with this number, None if there is none."""
        with self.database.reading() as connection:
            found = read_runs(connection, runs_table.c.id == run_id, finder=OutputFinder(self.folders))
        return next(iter(found), None)

    def forgive(self, keys: Iterable[RunKey]) -> None:
        """Stop counting past failures and cancellations of `keys`, so that their dates are due again."""
        with self.database.writing("cannot be written") as connection:
            for key in keys:
                unforgiven = (*is_run(key), ~is_claimed, ~is_rerunning, runs_table.c.forgiven_at.is_(None))
                connection.execute(sa.update(runs_table).where(*unforgiven).values(forgiven_at=self.now))

    def delete(self, run_id: int) -> None:
        """Delete a run."""
        with self.database.writing("cannot be written") as connection:
            connection.execute(sa.delete(runs_table).where(runs_table.c.id == run_id))

    def forget_outputs(self, run_id: int, *, left: Mapping[str, Json], with_flow_run: bool) -> None:
        """Record that outputs of a run, all but `left`, and perhaps its flow run in Prefect were deleted."""
        with self.database.writing("cannot be written") as connection:
            values = {"pruned_at": self.now} | _stored(left or None, self.folders)
            values |= {"flow_run_id": None} if with_flow_run else {}
            connection.execute(sa.update(runs_table).where(runs_table.c.id == run_id).values(values))


def _is_of(workflow: str | WorkflowKey | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for runs of a workflow or, with a key, of one entry; none for all runs."""
    columns = runs_table.c
    if isinstance(workflow, WorkflowKey):
        is_same = columns.parameters_hash == workflow.parameters_hash
        return [columns.workflow == workflow.workflow, is_same, columns.every == workflow.every.value]
    return [] if workflow is None else [columns.workflow == workflow]


def _stuck_runs(connection: sa.Connection, now: Any, finder: OutputFinder) -> list[StuckRun]:
    if not isinstance(now, datetime.datetime):
        now = connection.execute(sa.select(now)).scalar_one()
    is_old = runs_table.c.started_at < now - SHORTEST_LIMIT
    active = read_runs(connection, runs_table.c.state.in_(ACTIVE_STATES), is_old, finder=finder)
    keys = {record.key.workflow_key for record in active}
    return stuck_runs(active, read_durations(connection, keys, limit=LAST_SUCCESSES), now)


def _mark_crashed(connection: sa.Connection, is_overdue: sa.ColumnElement[bool], *, now: Any, silence: str) -> int:
    """Mark the active runs that are overdue as crashed, or as cancelled if that was requested."""
    was_asked = runs_table.c.cancel_asked_at.is_not(None)
    cancelled = {
        "state": RunState.CANCELLED.value,
        "error_class": "Cancelled",
        "error_message": CANCELLED_FROM_COMMAND_LINE,
    }
    crashed = {
        "state": RunState.CRASHED.value,
        "error_class": "Crashed",
        "error_message": (
            f"its heartbeat stopped: no sign of life for {silence}; the process or the machine that ran it is gone"
        ),
    }
    values = {name: sa.case((was_asked, cancelled[name]), else_=crashed[name]) for name in crashed}
    statement = (
        sa.update(runs_table)
        .where(runs_table.c.state.in_(ACTIVE_STATES), is_overdue)
        .values(**values, finished_at=now)
        .returning(runs_table.c.state)
    )
    return sum(state == RunState.CRASHED for state in connection.execute(statement).scalars())


def _pull_back_times(connection: sa.Connection, now: Any) -> Mapping[int, datetime.datetime]:
    times = (runs_table.c.started_at, runs_table.c.heartbeat_at, runs_table.c.finished_at)
    statement = (
        sa.update(runs_table)
        .where(sa.or_(*(time > now for time in times)))
        .values({time.name: sa.case((time > now, now), else_=time) for time in times})
        .returning(runs_table.c.id, runs_table.c.heartbeat_at, runs_table.c.state)
    )
    return {run_id: heartbeat for run_id, heartbeat, state in connection.execute(statement) if state in ACTIVE_STATES}


def _done(key: RunKey) -> sa.Select[tuple[int]]:
    """Return a query for the run that has done `key`."""
    return sa.select(runs_table.c.id).where(*is_run(key), is_done)


def _supersede(connection: sa.Connection, claim: Claim) -> None:
    """Make room for the success of a rerun, if it is still active, in the same transaction: no success is lost."""
    table = runs_table
    own = sa.update(table).where(table.c.id == claim.id, table.c.state == RunState.RERUNNING.value)
    if connection.execute(own.values(state=RunState.RERUNNING.value)).rowcount:
        old = sa.update(table).where(*is_run(claim.key), is_done)
        connection.execute(old.values(state=RunState.SUPERSEDED.value))


def _values_of_start(key: RunKey, now: Any) -> dict[str, object]:
    """Return the values of the columns for a new run with this `key`."""
    return {
        "workflow": key.workflow,
        "parameters_hash": key.parameters_hash,
        "parameters": key.parameters,
        "reference_date": key.reference_date,
        "every": key.every.value,
        "attempt": sa.select(sa.func.count() + 1).where(*is_run(key)).scalar_subquery(),
        "started_at": now,
        "heartbeat_at": now,
    }


def _values_of_end(state: RunState, error: RunError | None) -> dict[str, object]:
    """Return the values of the columns for the end of a run, except for the time and the outputs."""
    values: dict[str, object] = {"state": _or_cancelled(state) if state is RunState.INTERRUPTED else state.value}
    if error:
        values |= {
            "error_class": _storable(error.error_class),
            "error_message": _storable(error.message),
            "error_notebook": error.notebook,
            "error_cell": error.cell,
            "error_code": _storable(error.code) if error.code else None,
        }
    elif state is RunState.SUCCEEDED:
        values |= {"error_class": None, "error_message": None}
    return values


def _stored(outputs: Mapping[str, Json] | None, folders: OutputFolders | None) -> dict[str, object]:
    """Return the values of the columns for `outputs`, which have absolute paths."""
    if outputs is None:
        return {"outputs": None, "outputs_dir": None}
    return {
        "outputs": _storable(json.dumps(folders.to_store(outputs) if folders else outputs, ensure_ascii=False)),
        "outputs_dir": _storable(str(folders.outputs)) if folders else None,
    }


def _or_cancelled(state: RunState) -> sa.ColumnElement[str]:
    """Return the state of a run that was stopped: a cancellation may have been requested just before."""
    return sa.case((runs_table.c.cancel_asked_at.is_not(None), RunState.CANCELLED.value), else_=state.value)


def _storable(text: str) -> str:
    """Return `text`, which may come from a notebook's error, without characters that a database refuses."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")

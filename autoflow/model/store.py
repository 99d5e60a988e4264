"""The run store: which workflow has run for which date, how it went, and who is running what now."""

import datetime
import json
import operator
import os
import socket
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.script
import alembic.util
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from autoflow.errors import RunStoreError
from autoflow.model.database import alembic_config, make_engine, place_of, reason_of
from autoflow.model.tables import is_claimed, is_rerunning, runs_table
from autoflow.runs.records import (
    CRASHED_AFTER,
    GOING_ON,
    Claim,
    Failures,
    History,
    RunError,
    RunKey,
    RunRecord,
    RunState,
    utc_now,
)
from autoflow.specs import Json

CRASHES_PER_FAILURE = 3
"""So many crashes in a row count as a failure: a notebook that brings the machine down must not do so for ever."""


class RunStore:
    """AutoFlow's own database, with a row for each attempt at a run. Safe to use from several threads.

    `uri` is one of SQLAlchemy's, for SQLite or PostgreSQL; the path of an SQLite file is taken as it is written. A run
    whose heartbeat is older than `crashed_after` has crashed; all daemons on one database should agree on it. `clock`
    gives the time in UTC without a time zone; left out, that is the database's where it has one, because the clocks of
    two daemons' machines may differ.

    Every method raises RunStoreError if the database cannot be reached.
    """

    def __init__(
        self,
        uri: str,
        *,
        crashed_after: datetime.timedelta = CRASHED_AFTER,
        clock: Callable[[], datetime.datetime] | None = None,
    ) -> None:
        self._engine = make_engine(uri)
        self._place = place_of(self._engine.url)
        self.crashed_after = crashed_after
        self._clock = clock
        self._holder = f"{socket.gethostname()} pid {os.getpid()} {uuid.uuid4().hex[:8]}"

    def _now(self) -> Any:
        if self._clock:
            return self._clock()
        if self._engine.dialect.name == "postgresql":
            return sa.func.timezone("utc", sa.func.clock_timestamp(), type_=sa.DateTime)
        return utc_now()

    def close(self) -> None:
        """Give back the connections to the database."""
        self._engine.dispose()

    def migrate(self) -> None:
        """Bring the tables to what this version of AutoFlow needs; keep what is in them."""
        config = alembic_config()
        with self._writing("cannot be prepared") as connection, self._refusing_newer_versions():
            if connection.dialect.name == "postgresql":
                # Two daemons that start at once migrate one after the other.
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(7236401)"))
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    def look(self, *, made_at_start: Iterable[Path] = ()) -> str:
        """Return where the database is and which version its tables have, changing nothing.

        `made_at_start` are folders that may not be there yet.
        """
        file = Path((self._engine.url.database or "").removeprefix("file:"))
        if self._engine.dialect.name == "sqlite" and not file.exists():
            folder = file.parent.absolute()
            if not folder.is_dir() and not any(made.is_relative_to(folder) for made in made_at_start):
                raise RunStoreError(
                    f"the database of runs at {self._place} cannot be made: there is no folder {folder}; make it, or "
                    "check AUTOFLOW_DB_URI"
                )
            return f"{self._place}, made at the first start"
        with self._reading() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return f"{self._place}, empty so far"
            version = str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar())
        with self._refusing_newer_versions():
            alembic.script.ScriptDirectory.from_config(alembic_config()).get_revision(version)
        return f"{self._place}, version {version}"

    def claim(self, key: RunKey, *, again: bool = False) -> Claim | None:
        """Take the run called `key`, if it is neither done nor running anywhere; else return None.

        With `again`, what is done is taken as well. Its date stays done whatever becomes of the new run.
        """
        now = self._now()
        attempts = sa.select(sa.func.count() + 1).where(*_is(key)).scalar_subquery()
        row = {
            "workflow": key.workflow,
            "parameters_hash": key.parameters_hash,
            "parameters": key.parameters,
            "reference_date": key.reference_date,
            "attempt": attempts,
            "holder": self._holder,
            "started_at": now,
            "heartbeat_at": now,
        }
        try:
            with self._writing("cannot take a claim") as connection:
                is_rerun = again and connection.execute(_done(key)).first() is not None
                row["state"] = (RunState.RERUNNING if is_rerun else RunState.RUNNING).value
                statement = sa.insert(runs_table).values(row).returning(runs_table.c.id, runs_table.c.attempt)
                run_id, attempt = connection.execute(statement).one()
        except IntegrityError:
            return None
        return Claim(id=run_id, key=key, attempt=attempt, is_rerun=is_rerun)

    def renew(self, claims: Iterable[Claim]) -> frozenset[Claim]:
        """Renew the heartbeat of `claims`; return those still ours: others were given up as crashed."""
        by_id = {claim.id: claim for claim in claims}
        with self._writing("cannot renew claims") as connection:
            statement = (
                sa.update(runs_table)
                .where(runs_table.c.id.in_(by_id), runs_table.c.state.in_(GOING_ON))
                .values(heartbeat_at=self._now())
                .returning(runs_table.c.id)
            )
            return frozenset(by_id[run_id] for run_id in connection.execute(statement).scalars())

    def name_flow_run(self, claim: Claim, flow_run_id: str) -> None:
        """Record where Prefect shows the run."""
        with self._writing("cannot be written") as connection:
            connection.execute(sa.update(runs_table).where(runs_table.c.id == claim.id).values(flow_run_id=flow_run_id))

    def finish(
        self,
        claim: Claim,
        state: RunState,
        *,
        outputs: Mapping[str, Json] | None = None,
        error: RunError | None = None,
    ) -> bool:
        """Record how a run ended; `outputs` is what it left, for people to find.

        Returns False, and changes nothing, if the claim has been given up as crashed in the meantime; a success counts
        all the same, unless another run has been begun.
        """
        now = self._now()
        values: dict[str, object] = {"state": state.value, "finished_at": now, "heartbeat_at": now}
        values["outputs"] = _storable(json.dumps(outputs, ensure_ascii=False)) if outputs is not None else None
        if error:
            values |= {
                "error_class": _storable(error.error_class),
                "error_message": _storable(error.message),
                "error_notebook": error.notebook,
                "error_cell": error.cell,
            }
        elif state is RunState.SUCCEEDED:
            values |= {"error_class": None, "error_message": None}
        before = [*GOING_ON, RunState.CRASHED] if state is RunState.SUCCEEDED else [*GOING_ON]
        statement = sa.update(runs_table).where(runs_table.c.id == claim.id, runs_table.c.state.in_(before))
        try:
            with self._writing("cannot record the end of a run") as connection:
                if claim.is_rerun and state is RunState.SUCCEEDED:
                    _supersede(connection, claim)
                return connection.execute(statement.values(values)).rowcount == 1
        except IntegrityError:
            return False

    def give_up_crashed(self) -> int:
        """Mark runs whose heartbeat has stopped as crashed, so that their dates are due again; return how many."""
        now = self._now()
        with self._writing("cannot look for crashed runs") as connection:
            statement = (
                sa.update(runs_table)
                .where(runs_table.c.state.in_(GOING_ON), runs_table.c.heartbeat_at < now - self.crashed_after)
                .values(
                    state=RunState.CRASHED.value,
                    finished_at=now,
                    error_class="Crashed",
                    error_message="its heartbeat stopped: the process or the machine that ran it is gone",
                )
            )
            return connection.execute(statement).rowcount

    def histories(self) -> Mapping[tuple[str, str], History]:
        """Return what has happened so far, by name of the workflow and hash of its parameters.

        It takes two queries however long the history is.
        """
        columns = (runs_table.c.workflow, runs_table.c.parameters_hash, runs_table.c.reference_date, runs_table.c.state)
        dates: dict[tuple[str, str, str], set[datetime.date]] = defaultdict(set)
        attempts: dict[tuple[str, str], dict[datetime.date, list[tuple[str, datetime.datetime]]]]
        attempts = defaultdict(lambda: defaultdict(list))
        unforgiven = ~is_claimed & runs_table.c.forgiven_at.is_(None)
        with self._reading() as connection:
            for workflow, parameters_hash, date, state in connection.execute(sa.select(*columns).where(is_claimed)):
                dates[workflow, parameters_hash, state].add(date)
            statement = sa.select(*columns, runs_table.c.finished_at).where(unforgiven).order_by(runs_table.c.id)
            for workflow, parameters_hash, date, state, finished_at in connection.execute(statement):
                if state == RunState.RERUNNING:
                    dates[workflow, parameters_hash, RunState.RUNNING].add(date)
                attempts[workflow, parameters_hash][date].append((state, finished_at))
        keys = {(workflow, parameters_hash) for workflow, parameters_hash, _ in dates} | attempts.keys()
        return {
            (workflow, parameters_hash): History(
                done=frozenset(dates[workflow, parameters_hash, RunState.SUCCEEDED]),
                running=frozenset(dates[workflow, parameters_hash, RunState.RUNNING]),
                failures={date: _failures(of_date) for date, of_date in attempts[workflow, parameters_hash].items()},
            )
            for workflow, parameters_hash in keys
        }

    def runs(
        self,
        *,
        workflow: str | None = None,
        state: RunState | None = None,
        first: datetime.date | None = None,
        last: datetime.date | None = None,
        ended_before: datetime.datetime | None = None,
        limit: int | None = None,
    ) -> list[RunRecord]:
        """Return the runs that are so, newest first; `first` and `last` bound the reference date, both included."""
        columns = runs_table.c
        conditions = [
            compare(column, value)
            for column, compare, value in (
                (columns.workflow, operator.eq, workflow),
                (columns.state, operator.eq, state),
                (columns.reference_date, operator.ge, first),
                (columns.reference_date, operator.le, last),
                (columns.finished_at, operator.lt, ended_before),
            )
            if value is not None
        ]
        statement = sa.select(runs_table).where(*conditions).order_by(runs_table.c.id.desc()).limit(limit)
        with self._reading() as connection:
            return [_record(row) for row in connection.execute(statement)]

    def run(self, run_id: int) -> RunRecord | None:
        """Return the run with this number, None if there is none."""
        with self._reading() as connection:
            row = connection.execute(sa.select(runs_table).where(runs_table.c.id == run_id)).first()
        return _record(row) if row else None

    def forgive(self, keys: Iterable[RunKey]) -> None:
        """Have past failures of `keys`, and that somebody cancelled them, no longer count."""
        with self._writing("cannot be written") as connection:
            for key in keys:
                unforgiven = (*_is(key), ~is_claimed, ~is_rerunning, runs_table.c.forgiven_at.is_(None))
                connection.execute(sa.update(runs_table).where(*unforgiven).values(forgiven_at=self._now()))

    def forget_outputs(self, run_id: int) -> None:
        """Record that the outputs of a run, and Prefect's record of it, were deleted."""
        with self._writing("cannot be written") as connection:
            values = {"outputs": None, "flow_run_id": None, "pruned_at": self._now()}
            connection.execute(sa.update(runs_table).where(runs_table.c.id == run_id).values(values))

    @contextmanager
    def _writing(self, what: str) -> Iterator[sa.Connection]:
        """Yield a connection in a transaction that writes; what goes wrong is told as that the store `what`."""
        try:
            with self._engine.connect().execution_options(autoflow_writes=True) as connection, connection.begin():
                yield connection
        except IntegrityError:
            raise  # somebody else has the claim
        except SQLAlchemyError as error:
            raise RunStoreError(f"the database of runs at {self._place} {what}: {reason_of(error)}") from error

    @contextmanager
    def _refusing_newer_versions(self) -> Iterator[None]:
        try:
            yield
        except alembic.util.CommandError as error:
            raise RunStoreError(
                f"the database of runs at {self._place} was made by a newer version of AutoFlow: {error}"
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise RunStoreError(f"the database of runs at {self._place} cannot be read: {reason_of(error)}") from error


def _failures(attempts: Iterable[tuple[str, datetime.datetime]]) -> Failures:
    """Return what `attempts`, oldest first, amount to."""
    count = crashes = 0
    last = None
    state = ""
    for state, finished_at in attempts:
        crashes = crashes + 1 if state == RunState.CRASHED else 0
        if state == RunState.FAILED or (crashes and crashes % CRASHES_PER_FAILURE == 0):
            count += 1
            last = finished_at
    return Failures(count=count, last=last, cancelled=state == RunState.CANCELLED)


def _is(key: RunKey) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        runs_table.c.workflow == key.workflow,
        runs_table.c.parameters_hash == key.parameters_hash,
        runs_table.c.reference_date == key.reference_date,
    )


def _done(key: RunKey) -> sa.Select[tuple[int]]:
    """Return a query for the run by which `key` is done."""
    return sa.select(runs_table.c.id).where(*_is(key), runs_table.c.state == RunState.SUCCEEDED.value)


def _supersede(connection: sa.Connection, claim: Claim) -> None:
    """Make room for the success of a rerun, if that still goes on; in its transaction, so that no success is lost."""
    table = runs_table
    own = sa.update(table).where(table.c.id == claim.id, table.c.state == RunState.RERUNNING.value)
    if connection.execute(own.values(state=RunState.RERUNNING.value)).rowcount:
        old = sa.update(table).where(*_is(claim.key), table.c.state == RunState.SUCCEEDED.value)
        connection.execute(old.values(state=RunState.SUPERSEDED.value))


def _record(row: Any) -> RunRecord:
    error = RunError(row.error_class, row.error_message or "", row.error_notebook, row.error_cell)
    return RunRecord(
        id=row.id,
        key=RunKey(row.workflow, row.parameters, row.reference_date),
        attempt=row.attempt,
        state=RunState(row.state),
        holder=row.holder,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        finished_at=row.finished_at,
        error=error if row.error_class else None,
        outputs=json.loads(row.outputs or "{}"),
        flow_run_id=row.flow_run_id,
        forgiven_at=row.forgiven_at,
        pruned_at=row.pruned_at,
    )


def _storable(text: str) -> str:
    """Return `text`, which may come from a notebook's error, without what a database cannot hold."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")

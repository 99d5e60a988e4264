"""The run store: which workflow has run for which date, how it went, and who is running what now."""

import contextlib
import datetime
import enum
import hashlib
import json
import operator
import os
import socket
import sqlite3
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.script
import alembic.util
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from autoflow.errors import RunStoreError
from autoflow.specs import Json
from autoflow.utils import keep_sqlite_path

CRASHED_AFTER = datetime.timedelta(seconds=60)
"""A run whose heartbeat is older than this has crashed, unless the run store is told otherwise."""

CRASHES_PER_FAILURE = 3
"""So many crashes in a row count as a failure: a notebook that brings the machine down must not do so for ever."""

SQLITE_BUSY_SECONDS = 30
"""How long a statement waits for another process that is writing to the same SQLite file."""


class RunState(enum.StrEnum):
    """What has become of a run."""

    RUNNING = "running"
    """Somebody has claimed it and says so with a heartbeat."""
    SUCCEEDED = "succeeded"
    """All notebooks ran to their end and all reports were made. Final: its date is done."""
    FAILED = "failed"
    """A notebook or a report failed. Tried again until there have been too many such attempts."""
    CRASHED = "crashed"
    """Its heartbeat stopped. Due again."""
    INTERRUPTED = "interrupted"
    """AutoFlow was stopped while it ran. Due again."""
    CANCELLED = "cancelled"
    """Somebody cancelled it. Not tried again by itself."""
    RERUNNING = "rerunning"
    """As `RUNNING`, of a date that is done and stays so, by its older run, until this one has succeeded."""
    SUPERSEDED = "superseded"
    """It succeeded, and so did a newer run, which somebody asked for. Its date is done by that one."""


GOING_ON = (RunState.RUNNING, RunState.RERUNNING)
"""States that need a heartbeat."""

CLAIMED_STATES = (RunState.RUNNING, RunState.SUCCEEDED)
"""States of which there is at most one run for each workflow, parameters and reference date."""

metadata = sa.MetaData()

runs_table = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("workflow", sa.Text, nullable=False),
    sa.Column("parameters_hash", sa.String(64), nullable=False),
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("reference_date", sa.Date, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("started_at", sa.DateTime, nullable=False),
    sa.Column("heartbeat_at", sa.DateTime, nullable=False),
    sa.Column("finished_at", sa.DateTime),
    sa.Column("error_notebook", sa.Text),
    sa.Column("error_cell", sa.Integer),
    sa.Column("error_class", sa.Text),
    sa.Column("error_message", sa.Text),
    sa.Column("outputs", sa.Text),
    sa.Column("flow_run_id", sa.String(36)),
    # When somebody asked that the run should no longer count as a failure.
    sa.Column("forgiven_at", sa.DateTime),
    # When its outputs were deleted because they were old.
    sa.Column("pruned_at", sa.DateTime),
)

_claimed = runs_table.c.state.in_([str(state) for state in CLAIMED_STATES])
sa.Index(
    "one_claim_per_date",
    runs_table.c.workflow,
    runs_table.c.parameters_hash,
    runs_table.c.reference_date,
    unique=True,
    sqlite_where=_claimed,
    postgresql_where=_claimed,
)
_rerunning = runs_table.c.state == str(RunState.RERUNNING)
sa.Index(
    "one_rerun_per_date",
    runs_table.c.workflow,
    runs_table.c.parameters_hash,
    runs_table.c.reference_date,
    unique=True,
    sqlite_where=_rerunning,
    postgresql_where=_rerunning,
)
sa.Index("runs_by_state", runs_table.c.state)


def utc_now() -> datetime.datetime:
    """Return the time, in UTC and, as the database has it, without a time zone."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


@dataclass(frozen=True, order=True)
class RunKey:
    """What identifies a run: of all runs with one key, one succeeds.

    `parameters` is canonical JSON, see `RunKey.of`.
    """

    workflow: str
    parameters: str
    reference_date: datetime.date

    @classmethod
    def of(cls, workflow: str, parameters: Mapping[str, Json], reference_date: datetime.date) -> "RunKey":
        """Return the key of a run with `parameters`, whose order does not matter."""
        text = json.dumps(parameters, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return cls(workflow, text, reference_date)

    @property
    def parameters_hash(self) -> str:
        """SHA-256 of the parameters, as hexadecimal digits."""
        return hashlib.sha256(self.parameters.encode()).hexdigest()

    def __str__(self) -> str:
        """Name the run for people."""
        return f"{self.workflow} {self.reference_date.isoformat()}"


@dataclass(frozen=True)
class Claim:
    """The right to do a run, for as long as its heartbeat goes on. `is_rerun` tells that its date is done already."""

    id: int
    key: RunKey
    attempt: int
    is_rerun: bool = False


@dataclass(frozen=True)
class RunError:
    """Why a run failed: `cell` counts from 1; a report, or AutoFlow itself, has no cell."""

    error_class: str
    message: str
    notebook: str | None = None
    cell: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that the run store knows of one run; times are in UTC.

    `outputs` has, by the labels of the notebooks, the paths of the executed notebook and of its reports; it is empty
    once they have been pruned. `holder` names the process that ran it.
    """

    id: int
    key: RunKey
    attempt: int
    state: RunState
    holder: str
    started_at: datetime.datetime
    heartbeat_at: datetime.datetime
    finished_at: datetime.datetime | None
    error: RunError | None
    outputs: Mapping[str, Any]
    flow_run_id: str | None
    forgiven_at: datetime.datetime | None
    pruned_at: datetime.datetime | None


@dataclass(frozen=True)
class Failures:
    """What has gone wrong for a date that is not done.

    `count` is of failures, to which crashes in a row add; `last` is when the newest of them ended, in UTC.
    `cancelled` tells that somebody cancelled the newest run.
    """

    count: int = 0
    last: datetime.datetime | None = None
    cancelled: bool = False


@dataclass(frozen=True)
class History:
    """What the run store says of one workflow with one set of parameters."""

    done: frozenset[datetime.date] = frozenset()
    running: frozenset[datetime.date] = frozenset()
    failures: Mapping[datetime.date, Failures] = field(default_factory=dict)


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
        self._engine = _engine(uri)
        self._place = _place(self._engine.url)
        self.crashed_after = crashed_after
        self._clock = clock
        self._holder = f"{socket.gethostname()} pid {os.getpid()} {uuid.uuid4().hex[:8]}"

    def _now(self) -> Any:  # noqa: ANN401 - a time, or what the database works out to be one
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
        config = _alembic_config()
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
            alembic.script.ScriptDirectory.from_config(_alembic_config()).get_revision(version)
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
        unforgiven = ~_claimed & runs_table.c.forgiven_at.is_(None)
        with self._reading() as connection:
            for workflow, parameters_hash, date, state in connection.execute(sa.select(*columns).where(_claimed)):
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

    def runs(  # noqa: PLR0913 - each narrows the list on its own
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
                unforgiven = (*_is(key), ~_claimed, ~_rerunning, runs_table.c.forgiven_at.is_(None))
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
            raise RunStoreError(f"the database of runs at {self._place} {what}: {_reason(error)}") from error

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
            raise RunStoreError(f"the database of runs at {self._place} cannot be read: {_reason(error)}") from error


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


def _record(row: Any) -> RunRecord:  # noqa: ANN401 - a row of `runs_table`
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


def _engine(uri: str) -> sa.Engine:
    """Return an engine for `uri`, with the settings that its database needs."""
    try:
        url = sa.make_url(keep_sqlite_path(uri))
        if url.get_backend_name() in {"postgres", "postgresql"}:
            url = url.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True, connect_args=_connect_args(url))
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise RunStoreError(
            "AUTOFLOW_DB_URI cannot be used: AutoFlow keeps its runs in a file of SQLite's or in PostgreSQL, for "
            "example sqlite:////outputs/autoflow.db or postgresql://user:{}@host:5432/autoflow"
        ) from error
    if url.get_backend_name() == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _connect_args(url: sa.URL) -> dict[str, object]:
    if url.get_backend_name() == "sqlite" and url.database not in {None, "", ":memory:"}:
        return {"timeout": SQLITE_BUSY_SECONDS}
    if url.get_backend_name() == "postgresql":
        return {
            "connect_timeout": 10,
            "application_name": "autoflow",
            # A server that vanishes from the network is noticed before claims run out, not after hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        }
    raise ValueError(f"{url.get_backend_name()}, or a database in memory, which would not outlive AutoFlow")


def _alembic_config() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def _place(url: sa.URL) -> str:
    """Return where a database is, for people, without user and password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"{url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}"


def _set_up_sqlite(connection: object, _record: object) -> None:
    # SQLAlchemy begins transactions itself (below); sqlite3 would begin them too late, at the first write.
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    # Readers and a writer do not block each other. The switch does not wait for others, who make it just as well.
    with contextlib.suppress(sqlite3.OperationalError):
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later fails at once when another has written in between.
    writes = connection.get_execution_options().get("autoflow_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _reason(error: SQLAlchemyError) -> str:
    """Return the first line of what the database itself said."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]

"""Connections to SQLite and PostgreSQL, with the settings that each needs."""

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import unquote

import alembic.config
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from autoflow.errors import RunStoreError
from autoflow.utils import keep_sqlite_path

SQLITE_BUSY_SECONDS = 30
"""How long a statement waits for another process that is writing to the same SQLite file."""

MOST_CONNECTIONS = 15
"""How many connections a process has to the database at a time."""

MOST_KEPT = 5
"""How many of them it keeps while it does not use them."""


def make_engine(uri: str, *, kept: int = MOST_KEPT) -> sa.Engine:
    """Return an engine for `uri`, with the settings that its database needs; it keeps up to `kept` idle connections."""
    try:
        url = sa.make_url(keep_sqlite_path(uri))
        if url.get_backend_name() in {"postgres", "postgresql"}:
            url = url.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_size=kept,
            max_overflow=MOST_CONNECTIONS - kept,
            hide_parameters=True,
            connect_args=_connect_args(url),
        )
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise RunStoreError(
            "AUTOFLOW_DB_URI cannot be used: AutoFlow needs an SQLite file or a PostgreSQL database, for "
            "example sqlite:////outputs/autoflow.db or postgresql://user:{}@host:5432/autoflow"
        ) from error
    if url.get_backend_name() == "sqlite":
        sa.event.listen(engine, "do_connect", _create_no_file)
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _connect_args(url: sa.URL) -> dict[str, object]:
    if url.get_backend_name() == "sqlite" and url.database not in {None, "", ":memory:"}:
        return {"timeout": SQLITE_BUSY_SECONDS}
    if url.get_backend_name() == "postgresql":
        return {
            # PgBouncer in transaction mode mixes up the prepared statements of its clients.
            "prepare_threshold": None,
            "connect_timeout": 10,
            "application_name": "autoflow",
            # A server that vanishes from the network is noticed before claims run out, not after hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
        }
    raise ValueError(f"{url.get_backend_name()}, or a database in memory, which would not outlive AutoFlow")


def alembic_config() -> alembic.config.Config:
    """Return Alembic's configuration, with the migrations of this package."""
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


def place_of(url: sa.URL) -> str:
    """Return where a database is, for messages, without user and password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"{url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}"


def sqlite_file(url: sa.URL) -> Path | None:
    """Return the file of a SQLite database; None for another one."""
    if url.get_backend_name() != "sqlite":
        return None
    path = url.database or ""
    return Path(unquote(path.removeprefix("file:")) if path.startswith("file:") else path).absolute()


def _create_no_file(_dialect: object, _record: object, arguments: list[str], options: dict[str, object]) -> None:
    # SQLite would create a file that is missing, in which all dates would be due.
    if not options.get("uri"):
        arguments[0], options["uri"] = Path(arguments[0]).as_uri(), True
    if "mode=" not in arguments[0]:
        arguments[0] += f"{'&' if '?' in arguments[0] else '?'}mode=rw"


def _set_up_sqlite(connection: object, _record: object) -> None:
    # SQLAlchemy begins transactions itself (below); sqlite3 would begin them too late, at the first write.
    connection.isolation_level = None  # type: ignore[attr-defined]
    cursor = connection.cursor()  # type: ignore[attr-defined]
    # Readers and a writer do not block each other. The switch does not wait for other processes: they make it as well.
    with contextlib.suppress(sqlite3.OperationalError):
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later fails at once when another has written in between.
    writes = connection.get_execution_options().get("autoflow_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def reason_of(error: SQLAlchemyError) -> str:
    """Return the first line of the database's own message."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]

"""The version of the run store's tables, and their migration to the current one."""

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import alembic.command
import alembic.script
import alembic.util
import sqlalchemy as sa

from autoflow.errors import RunStoreError, RunStoreGoneError
from autoflow.model.database import alembic_config
from autoflow.model.output_paths import OutputFolders
from autoflow.model.transactions import Database


def migrate(database: Database, folders: OutputFolders | None = None, *, traces: Iterable[Path] = ()) -> None:
    """Create or upgrade the tables to the version that this AutoFlow needs; keep their rows.

    `folders` show which part of a path in an older row was the outputs folder. `traces` are files that show that
    AutoFlow has run here before.

    Raises
    ------
    RunStoreGoneError
        If there is a trace, but the file of SQLite is missing: in a new one, all dates would be due again.

    """
    database.check_file()
    if not database.exists or database.is_emptied:
        refuse_if_lost(database, traces)
        database.create()
    config = alembic_config()
    with database.writing("cannot be prepared") as connection, _refusing_newer_versions(database):
        if not database.is_sqlite:
            # Two daemons that start at the same time migrate one after the other.
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(7236401)"))
        config.attributes["connection"] = connection
        config.attributes["folders"] = asdict(folders) if folders else None
        alembic.command.upgrade(config, "head")


def refuse_if_lost(database: Database, traces: Iterable[Path]) -> None:
    """Raise RunStoreGoneError if one of `traces` shows that the database, which is missing or empty, has existed."""
    if database.file is None:
        return
    # The files that SQLite keeps beside its database would become part of a new one.
    beside = [path for end in ("-wal", "-shm") if (path := Path(f"{database.file}{end}")).exists()]
    if trace := next(iter((*beside, *traces)), None):
        commands = [f"rm {shlex.join(map(str, beside))}"] if beside else []
        commands.append(f"touch {shlex.quote(str(database.file))}")
        state = "empty" if database.exists else "missing"
        raise RunStoreGoneError(
            f"the database of runs at {database.place} is {state}, but AutoFlow has run here before: there is {trace}; "
            "put the database back from a backup, or correct AUTOFLOW_DB_URI; or, to run all dates again, create an "
            f"empty file: {' && '.join(commands)}"
        )


def is_used(database: Database) -> bool:
    """Return whether AutoFlow has made tables in the database; raise RunStoreError if it cannot be read."""
    if not database.exists:
        return False
    with database.reading() as connection:
        return sa.inspect(connection).has_table("alembic_version")


def describe(database: Database, *, made_at_start: Iterable[Path] = (), traces: Iterable[Path] = ()) -> str:
    """Return where the database is and which version its tables have; change nothing.

    `made_at_start` are folders that need not exist yet, `traces` those files that show that the database has existed.

    Raises
    ------
    RunStoreError
        If AutoFlow could not use the database.

    """
    if database.is_emptied:
        refuse_if_lost(database, traces)
    if database.file and not database.exists:
        refuse_if_lost(database, traces)
        _check_folder(database, database.file.parent, made_at_start)
        return f"{database.place}, created at the first start"
    if not is_used(database):
        return f"{database.place}, empty so far"
    with database.reading() as connection:
        version = str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar())
    with _refusing_newer_versions(database):
        alembic.script.ScriptDirectory.from_config(alembic_config()).get_revision(version)
    return f"{database.place}, version {version}"


def _check_folder(database: Database, folder: Path, made_at_start: Iterable[Path]) -> None:
    if not folder.is_dir() and not any(made.is_relative_to(folder) for made in made_at_start):
        raise RunStoreError(
            f"the database of runs at {database.place} cannot be created: there is no folder {folder}; create it, or "
            "check AUTOFLOW_DB_URI"
        )


@contextmanager
def _refusing_newer_versions(database: Database) -> Iterator[None]:
    try:
        yield
    except alembic.util.CommandError as error:
        raise RunStoreError(
            f"the database of runs at {database.place} was made by a newer version of AutoFlow: {error}"
        ) from error

"""The database of runs, and transactions whose errors say where it is and what failed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from autoflow.errors import RunStoreError, RunStoreGoneError
from autoflow.model.database import MOST_KEPT, make_engine, place_of, reason_of, sqlite_file
from autoflow.runs.records import utc_now


class Database:
    """The database of runs at `uri`. Safe to use from several threads.

    `place` is where it is, for messages, without user and password. `file` is that of SQLite, None for PostgreSQL. It
    has to stay the same one: each transaction raises RunStoreGoneError if it was deleted or replaced after the first.
    Up to `kept` connections stay open while they are not used.
    """

    def __init__(self, uri: str, *, kept: int = MOST_KEPT) -> None:
        self._engine = make_engine(uri, kept=kept)
        self.url = self._engine.url
        self.place = place_of(self.url)
        self.file = sqlite_file(self.url)
        self._opened: tuple[int, int] | None = None
        self._had_content = False

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of SQLite rather than a PostgreSQL server."""
        return self._engine.dialect.name == "sqlite"

    @property
    def now(self) -> Any:
        """The time in UTC; of PostgreSQL, an expression for its own time, because the clocks of machines may differ."""
        return utc_now() if self.is_sqlite else sa.func.timezone("utc", sa.func.clock_timestamp(), type_=sa.DateTime)

    @property
    def exists(self) -> bool:
        """Whether there is a database to connect to, as far as that can be seen without it."""
        return self.file is None or self.file.exists()

    @property
    def is_emptied(self) -> bool:
        """Whether the file of SQLite is empty, although SQLite keeps a part of its content beside it."""
        return self.file is not None and _size(self.file) == 0 and _size(Path(f"{self.file}-wal")) > 0

    def create(self) -> None:
        """Make an empty file for SQLite if there is none."""
        if self.file:
            # Where the file cannot be made, SQLite cannot open it either, and reports the error.
            with suppress(OSError):
                self.file.touch()

    def check_file(self) -> None:
        """Raise RunStoreGoneError if the file was replaced or emptied, or is gone."""
        if self.file is None:
            return
        advice = "stop AutoFlow, put the file back from a backup, and start AutoFlow again"
        try:
            status = self.file.stat()
        except FileNotFoundError:
            if self._opened is None:
                return  # SQLite reports it
            what = "was deleted while AutoFlow was using it"
        except OSError:
            return
        else:
            found = (status.st_dev, status.st_ino)
            self._opened = self._opened or found
            self._had_content = self._had_content or status.st_size > 0
            if found == self._opened and (status.st_size or not self._had_content):
                return
            what = "was emptied while AutoFlow was using it"
            if found != self._opened:
                what = "was replaced by another file while AutoFlow was using the old one"
                advice = (
                    "restart AutoFlow if it is to use the new file; otherwise stop it first, and put the old one back"
                )
        raise RunStoreGoneError(
            f"the database of runs at {self.place} {what}: process {os.getpid()} runs and records nothing any more; "
            f"{advice}"
        )

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection to read from.

        Raises
        ------
        RunStoreError
            If the database fails.

        """
        self.check_file()
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise RunStoreError(f"the database of runs at {self.place} cannot be read: {reason_of(error)}") from error

    @contextmanager
    def writing(self, what: str) -> Iterator[sa.Connection]:
        """Yield a connection in a transaction that writes.

        Raises
        ------
        IntegrityError
            If a unique index does not allow what was written: another process has the claim.
        RunStoreError
            If the database fails; the message says that the database `what`, such as "cannot be written".

        """
        self.check_file()
        try:
            with self._engine.connect().execution_options(autoflow_writes=True) as connection, connection.begin():
                yield connection
            self.check_file()
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise RunStoreError(f"the database of runs at {self.place} {what}: {reason_of(error)}") from error


def _size(path: Path) -> int:
    """Return the size of a file in bytes; -1 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1

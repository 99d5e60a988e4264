"""The database of runs, and transactions whose errors say where it is and what failed."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from autoflow.errors import RunStoreError
from autoflow.model.database import make_engine, place_of, reason_of


class Database:
    """The database of runs at `uri`. Safe to use from several threads.

    `place` is where it is, for messages, without user and password.
    """

    def __init__(self, uri: str) -> None:
        self._engine = make_engine(uri)
        self.url = self._engine.url
        self.place = place_of(self.url)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of SQLite rather than a PostgreSQL server."""
        return self._engine.dialect.name == "sqlite"

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
        try:
            with self._engine.connect().execution_options(autoflow_writes=True) as connection, connection.begin():
                yield connection
        except IntegrityError:
            raise
        except SQLAlchemyError as error:
            raise RunStoreError(f"the database of runs at {self.place} {what}: {reason_of(error)}") from error

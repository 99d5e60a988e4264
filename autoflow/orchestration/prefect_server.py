"""Prefect's server as AutoFlow runs it, in a process of its own.

Usage: ``python -m autoflow.orchestration.prefect_server DESCRIPTOR``.

DESCRIPTOR is that of a socket, inherited, on which it listens.

On SQLite, Prefect begins its transactions as readers. One that reads, and writes after another has written, fails at
once with "database is locked"; the server answers 503 and the client waits for seconds before it tries again, which
happens all the time as soon as runs go side by side. Here each transaction says from the start that it will write,
and they take turns in the order in which they came: SQLite itself has those that wait look again at growing intervals,
so that single ones would wait for half a second.
"""

import asyncio
import datetime
import functools
import os
import socket
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from prefect.server.api import background_workers
from prefect.server.api.server import create_app
from prefect.server.database import provide_database_interface
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import MODELS_DEPENDENCIES
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from prefect.settings.context import get_current_settings
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

from autoflow.utils import keep_sqlite_path

STDIN = 0

BACKGROUND_SECONDS = 1.0
"""How often Prefect's background tasks are looked for; they look after themselves at most once in some seconds."""

_turn = asyncio.Lock()
_whose_turn: "asyncio.Task[object] | None" = None


class PatientSqliteConfiguration(AioSqliteConfiguration):
    """Prefect's way to SQLite, with transactions that wait for their turn to write."""

    @asynccontextmanager
    async def begin_transaction(
        self,
        session: AsyncSession,
        with_for_update: bool = False,
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """Begin a transaction that writes, whatever `with_for_update` says."""
        del with_for_update
        async with _taking_turns(), super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


@asynccontextmanager
async def _taking_turns() -> AsyncGenerator[None, None]:
    """Do what is in the block when it is its turn, which is at once within another such block."""
    global _whose_turn  # noqa: PLW0603 - as there is one database
    task = asyncio.current_task()
    if _whose_turn is task:
        yield
        return
    async with _turn:
        _whose_turn = task
        try:
            yield
        finally:
            _whose_turn = None


def serve(listener: socket.socket) -> None:
    """Run the server on `listener` until it is told to end, or whoever started it is gone."""
    database = get_current_settings().server.database
    url = keep_sqlite_path(PREFECT_API_DATABASE_CONNECTION_URL.value())
    database.connection_url = SecretStr(url)
    if database.migrate_on_start and _migrate(listener):
        database.migrate_on_start = False
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if url.startswith("sqlite"):
        MODELS_DEPENDENCIES["database_config"] = PatientSqliteConfiguration(connection_url=url)
    # By default it looks ten times a second, which is most of what an idle server does.
    pause = datetime.timedelta(seconds=BACKGROUND_SECONDS)
    names = vars(background_workers)
    worker = type("CalmWorker", (names["Worker"],), {"_cancellation_listener": _listen_to_nobody})
    names["Worker"] = functools.partial(worker, minimum_check_interval=pause, scheduling_resolution=pause)
    config = uvicorn.Config(create_app(), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


async def _listen_to_nobody(worker: Any) -> None:
    """Do nothing, where docket looks ten times a second whether a task is cancelled, which Prefect never does."""
    session = worker._processing_session  # noqa: SLF001 - there is no other way to turn it off
    session.cancellation_ready.set()
    await session.stopping.wait()


def _migrate(listener: socket.socket) -> bool:
    """Bring the database up to date in a process that ends, and the 40 MB with it that this takes; tell if it did.

    If not, the server tries and tells what is wrong.
    """
    migration = os.fork()
    if migration == 0:
        status = 1
        try:
            listener.close()
            threading.Thread(target=_end_with_parent, daemon=True).start()
            asyncio.run(provide_database_interface().create_db())
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(migration, 0)[1] == 0


def _end_with_parent() -> None:
    # Not sys.stdin, which Python could not close as long as somebody reads it.
    while os.read(STDIN, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))

"""Prefect's server as AutoFlow runs it, in a process of its own: ``python -m autoflow.prefect_server DESCRIPTOR``.

DESCRIPTOR is that of a socket, inherited, on which it listens.

On SQLite, Prefect begins its transactions as readers. One that reads, and writes after another has written, fails at
once with "database is locked"; the server answers 503 and the client waits for seconds before it tries again, which
happens all the time as soon as runs go side by side. Here each transaction says from the start that it will write,
so that they wait for each other for milliseconds instead.
"""

import os
import socket
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from prefect.server.api.server import create_app
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import MODELS_DEPENDENCIES
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


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
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def serve(listener: socket.socket) -> None:
    """Run the server on `listener` until it is told to end, or whoever started it is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if url.startswith("sqlite"):
        MODELS_DEPENDENCIES["database_config"] = PatientSqliteConfiguration(connection_url=url)
    config = uvicorn.Config(create_app(), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))

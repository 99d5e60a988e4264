"""Prefect's server as AutoFlow runs it, in a process of its own: ``python -m autoflow.prefect_server``.

On SQLite, Prefect begins its transactions as readers. One that reads, and writes after another has written, fails at
once with "database is locked"; the server answers 503 and the client waits for seconds before it tries again, which
happens all the time as soon as runs go side by side. Here each transaction says from the start that it will write,
so that they wait for each other for milliseconds instead.
"""

import os
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from prefect.server.api.server import create_app
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import MODELS_DEPENDENCIES
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, PREFECT_SERVER_API_HOST, PREFECT_SERVER_API_PORT
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


def serve() -> None:
    """Run the server until it is told to end, or whoever started it is gone."""
    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if url.startswith("sqlite"):
        MODELS_DEPENDENCIES["database_config"] = PatientSqliteConfiguration(connection_url=url)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    uvicorn.run(
        create_app(),
        host=PREFECT_SERVER_API_HOST.value(),
        port=PREFECT_SERVER_API_PORT.value(),
        log_level="warning",
        timeout_graceful_shutdown=1,
    )


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    serve()

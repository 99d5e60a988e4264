"""Changes that the Prefect server's process makes to Prefect, and to docket, which runs Prefect's background tasks.

Prefect can change all of this in any release. Each item says why AutoFlow needs it and what happens if it changes;
tests/orchestration/test_prefect_internals.py checks it, so that an upgrade shows at once what has moved.
"""

import asyncio
import datetime
import functools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from docket import Worker
from prefect.server.api import background_workers
from prefect.server.database import provide_database_interface
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import MODELS_DEPENDENCIES
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from prefect.settings.context import get_current_settings
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

from autoflow.utils import keep_sqlite_path


def set_database_url() -> str:
    """Set the URL of Prefect's database so that SQLAlchemy opens the path that it spells out; return the URL.

    Prefect puts the path of PREFECT_HOME into the URL as it is, and SQLAlchemy decodes percent signs. If Prefect moves
    the setting, a PREFECT_HOME with a percent sign gets its database in another folder.
    """
    url = keep_sqlite_path(PREFECT_API_DATABASE_CONNECTION_URL.value())
    get_current_settings().server.database.connection_url = SecretStr(url)
    return url


def allowed_origins() -> list[str]:
    """Return the origins that PREFECT_SERVER_CORS_ALLOWED_ORIGINS allows to use the API; none if it is not set.

    Prefect's own default allows all of them. If Prefect moves the setting, pages of foreign origins are still refused,
    but so are those that the operator allows.
    """
    api = get_current_settings().server.api
    given = api.cors_allowed_origins if "cors_allowed_origins" in api.model_fields_set else ""
    origins = [origin.strip() for origin in given.split(",") if origin.strip()]
    # Prefect does not remove spaces.
    api.cors_allowed_origins = ",".join(origins)
    return origins


def migrates_on_start() -> bool:
    """Return whether the server is to migrate its database when it starts, which an operator can turn off."""
    return get_current_settings().server.database.migrate_on_start


def skip_migration() -> None:
    """Turn off the server's own migration: it has been done, and would take 40 MB of the server's memory."""
    get_current_settings().server.database.migrate_on_start = False


async def migrate_database() -> None:
    """Create Prefect's database or migrate it to the current version, as the server does when it starts."""
    await provide_database_interface().create_db()


def use_patient_sqlite(url: str) -> None:
    """Make the server use `PatientSqliteConfiguration` for its database.

    If Prefect no longer takes it from MODELS_DEPENDENCIES, runs side by side see "database is locked" again.
    """
    MODELS_DEPENDENCIES["database_config"] = PatientSqliteConfiguration(connection_url=url)


class PatientSqliteConfiguration(AioSqliteConfiguration):
    """Prefect's configuration for SQLite, with transactions that take turns.

    Prefect begins its transactions as readers. A transaction that reads, and then writes after another has written,
    fails at once with "database is locked". The server then responds with 503, and the client waits for seconds before
    it retries. With runs side by side, that happens all the time. Here, each transaction is a writer from the start.
    Transactions take turns in the order in which they began: SQLite would make them poll at growing intervals, and some
    would wait for half a second.
    """

    @asynccontextmanager
    async def begin_transaction(
        self,
        session: AsyncSession,
        with_for_update: bool = False,
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """Begin a transaction that writes, whatever `with_for_update` says."""
        del with_for_update
        async with _turns.taken(), super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


class _Turns:
    """Lets tasks write to the one database in turn."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._owner: asyncio.Task[object] | None = None

    @asynccontextmanager
    async def taken(self) -> AsyncGenerator[None, None]:
        """Run the block when it is this task's turn; a block within another one of the task runs at once."""
        task = asyncio.current_task()
        if self._owner is task:
            yield
            return
        async with self._lock:
            self._owner = task
            try:
                yield
            finally:
                self._owner = None


_turns = _Turns()


def check_background_tasks_every(seconds: float) -> None:
    """Make the server look for due background tasks every `seconds`.

    docket does it ten times a second, for a third of the CPU time of an idle server. Prefect has no setting for it. If
    Prefect makes its worker in another place, an idle server needs twice the CPU time.
    """
    pause = datetime.timedelta(seconds=seconds)
    worker = functools.partial(CalmWorker, minimum_check_interval=pause, scheduling_resolution=pause)
    vars(background_workers)["Worker"] = worker


class CalmWorker(Worker):
    """docket's worker without its check for cancelled tasks, ten times a second: Prefect never cancels one.

    If docket renames the method, the checks are back. If it changes the session, background tasks do not start.
    """

    async def _cancellation_listener(self) -> None:
        session = self._processing_session
        if session:
            session.cancellation_ready.set()
            await session.stopping.wait()

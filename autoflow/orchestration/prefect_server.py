"""The program of AutoFlow's own Prefect server, which runs in a separate process.

Usage: ``python -m autoflow.orchestration.prefect_server DESCRIPTOR HOST...``.

DESCRIPTOR is the file descriptor of an inherited socket on which the server listens. HOST... are the server's names.
"""

import asyncio
import fcntl
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings.context import get_current_settings

from autoflow.orchestration.own_pages import OwnPagesOnly
from autoflow.orchestration.prefect_server_internals import (
    allowed_origins,
    check_background_tasks_every,
    migrate_database,
    migrates_on_start,
    set_database_url,
    skip_migration,
    use_patient_sqlite,
)

STDIN = 0

BACKGROUND_SECONDS = 1.0
"""How often the server looks for background tasks; Prefect's tasks recur every few seconds at most."""


def serve(listener: socket.socket, hosts: Sequence[str]) -> None:
    """Run the server on `listener` until it is asked to end, or the process that started it is gone.

    It answers to the names in `hosts`, and to those of this machine.
    """
    url = set_database_url()
    lock = _lock(get_current_settings().home)
    if migrates_on_start() and _migrate(listener):
        skip_migration()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if url.startswith("sqlite"):
        use_patient_sqlite(url)
    check_background_tasks_every(BACKGROUND_SECONDS)
    # Before the app is made, which reads the setting.
    origins = allowed_origins()
    app = OwnPagesOnly(create_app(), hosts=[*hosts, socket.gethostname()], origins=origins)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    _Server(config, lock.close).run(sockets=[listener])


def _migrate(listener: socket.socket) -> bool:
    """Migrate the database in a child process, whose 40 MB end with it; return whether that succeeded.

    If it did not, the server tries again and reports the error.
    """
    migration = os.fork()
    if migration == 0:
        status = 1
        try:
            listener.close()
            threading.Thread(target=_end_with_parent, daemon=True).start()
            asyncio.run(migrate_database())
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(migration, 0)[1] == 0


class _Server(uvicorn.Server):
    """A server that calls `started_up` once it has started."""

    def __init__(self, config: uvicorn.Config, started_up: Callable[[], None]) -> None:
        super().__init__(config)
        self._started_up = started_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then let others start."""
        await super().startup(sockets)
        self._started_up()


def _lock(home: Path) -> TextIO:
    """Wait until no other server that uses the folder `home` is starting, and keep others waiting until it is closed.

    Two that start at the same time would both migrate the database, and both write Prefect's own blocks into it.
    """
    lock = (home / "start.lock").open("w")
    # Some file systems have no locks: there, daemons must not be started at the same time.
    with suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def _end_with_parent() -> None:
    # Not sys.stdin: Python could not close it while a thread reads from it.
    while os.read(STDIN, 1):
        pass
    os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])

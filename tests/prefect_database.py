"""A current Prefect database to copy: a server takes ten seconds to create one."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

MIGRATION = """
import asyncio
from prefect.server.database import provide_database_interface

async def migrate():
    database = provide_database_interface()
    await database.create_db()
    # What is in a write-ahead log goes into the database as the last connection is closed.
    await (await database.engine()).dispose()

asyncio.run(migrate())
"""


def migrated_database(folder: Path) -> Path:
    """Return the database in `folder`, which the first process that asks makes while others wait."""
    home = folder / "prefect-migrated"
    with (folder / "prefect-migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            unfinished = folder / "prefect-unfinished"
            environment = {"PATH": os.environ["PATH"], "PREFECT_HOME": str(unfinished), "HOME": str(folder)}
            subprocess.run([sys.executable, "-c", MIGRATION], env=environment, check=True)
            assert not [path for path in unfinished.iterdir() if path.name.startswith("prefect.db-")], "it is in use"
            unfinished.rename(home)
    return home / "prefect.db"

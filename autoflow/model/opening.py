"""The run store that the settings name."""

import datetime
from collections.abc import Iterator
from contextlib import closing, contextmanager

from autoflow.model.output_paths import OutputFolders
from autoflow.model.store import RunStore
from autoflow.settings import Settings


@contextmanager
def open_run_store(settings: Settings) -> Iterator[RunStore]:
    """Yield the run store, with its tables as this version of AutoFlow needs them; close it after the block.

    Raises
    ------
    RunStoreError
        If the database cannot be reached, or was made by a newer version.

    """
    if settings.db_uri.startswith("sqlite"):
        settings.outputs_dir.mkdir(parents=True, exist_ok=True)
    crashed_after = datetime.timedelta(seconds=settings.heartbeat_timeout)
    folders = OutputFolders.of(settings)
    with closing(RunStore(settings.db_uri, folders=folders, crashed_after=crashed_after)) as store:
        store.migrate()
        yield store

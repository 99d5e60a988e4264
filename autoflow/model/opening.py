"""The run store that the settings name, created only where AutoFlow has never run before."""

import datetime
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from autoflow.errors import RunStoreError
from autoflow.model.migration import is_used
from autoflow.model.output_paths import OutputFolders
from autoflow.model.store import RunStore
from autoflow.settings import Settings

PAGE_NAME = "index.html"
"""The page for readers in the outputs folder, which every daemon writes."""


@contextmanager
def open_run_store(settings: Settings, *, create: bool = True) -> Iterator[RunStore]:
    """Yield the run store, with its tables as this version of AutoFlow needs them; close it after the block.

    Without `create`, no file is made for SQLite: where there is none yet, the store is an empty one that is removed
    after the block.

    Raises
    ------
    RunStoreError
        If the database cannot be reached, or was made by a newer version.
    RunStoreGoneError
        If the file of SQLite is missing although AutoFlow has run here before.

    """
    crashed_after = datetime.timedelta(seconds=settings.heartbeat_timeout)
    folders = OutputFolders.of(settings)
    with closing(RunStore(settings.db_uri, folders=folders, crashed_after=crashed_after)) as store:
        if create or store.exists:
            if create and settings.db_uri.startswith("sqlite"):
                settings.outputs_dir.mkdir(parents=True, exist_ok=True)
            store.migrate(traces=traces(settings))
            yield store
            return
        store.refuse_if_lost(traces(settings))
    with (
        tempfile.TemporaryDirectory(prefix="autoflow-") as folder,
        closing(RunStore(f"sqlite:///{folder}/autoflow.db", crashed_after=crashed_after)) as store,
    ):
        store.migrate()
        yield store


@contextmanager
def used_run_store(settings: Settings) -> Iterator[RunStore | None]:
    """Yield the run store as it is, even if it has the tables of another version; None if it has none, or fails."""
    with ExitStack() as stack:
        found = None
        with suppress(RunStoreError):
            store = stack.enter_context(closing(RunStore(settings.db_uri)))
            found = store if is_used(store.database) else None
        yield found


def traces(settings: Settings) -> Iterator[Path]:
    """Yield files that show that AutoFlow has run with these outputs folders before."""
    found = (settings.outputs_dir / PAGE_NAME, *_executed(settings.notebooks_dir))
    yield from (path for path in found if path.is_file())


def _executed(folder: Path) -> Iterator[Path]:
    # Their names have the date and the parameters of the run between such marks.
    yield from folder.glob("*__*__*.ipynb")

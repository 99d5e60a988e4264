"""What any process can see for itself that may need attention: disks, the database, the token, stuck runs."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from autoflow.flowapi import FlowApi
from autoflow.model.store import RunStore
from autoflow.runs.attention import Facts, Sights
from autoflow.settings import Settings
from autoflow.system.disk import disk_problem

_EMPTY = " empty"
"""The end of what identifies an empty file."""


def see(settings: Settings, store: RunStore | None, facts: Facts, mistakes: Sequence[str] | None = None) -> Sights:
    """Return what can be seen now; `mistakes` are those of workflows.yml, None if it was not read.

    Without a `store`, it is unknown which runs are stuck.

    Raises
    ------
    RunStoreError
        If the run store fails although its file, if it is one, is in its place.

    """
    flowapi = FlowApi.of(settings)
    expiry = flowapi.token_expiry()
    return Sights(
        token=flowapi.token_id,
        token_expiry=expiry.replace(tzinfo=None) if expiry else None,
        token_problem=flowapi.token_problem,
        renewed_in=flowapi.renewed_in,
        disk=disk_problem(settings.written_folders),
        database=file_problem(settings, facts),
        stuck=store.stuck_runs() if store and is_readable(settings, facts) else None,
        mistakes=mistakes,
        edited_at=_edited_at(settings.workflows_file),
    )


def database_id(settings: Settings) -> str | None:
    """Return what identifies the SQLite file of the run store, even in the same place; None if there is none."""
    file = _file(settings)
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return f"{status.st_dev}:{status.st_ino}{'' if status.st_size else _EMPTY}" if status else None


def is_readable(settings: Settings, facts: Facts) -> bool:
    """Return whether the run store may be opened: SQLite would create a file that is not there."""
    return file_problem(settings, facts) is None and (_file(settings) is None or database_id(settings) is not None)


def file_problem(settings: Settings, facts: Facts) -> str | None:
    """Return what is wrong if the SQLite file that the daemon uses was removed, replaced or emptied."""
    file = _file(settings)
    if file is None or facts.database is None or (found := database_id(settings)) == facts.database:
        return None
    what = "is gone" if found is None else "was replaced by another file while AutoFlow was using it"
    what = "was emptied while AutoFlow was using it" if found == f"{facts.database}{_EMPTY}" else what
    return f"the database of runs at {file} {what}"


def _edited_at(file: Path) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromtimestamp(file.stat().st_mtime, datetime.UTC).replace(tzinfo=None)
    except OSError:
        return None


def _file(settings: Settings) -> Path | None:
    is_file = settings.db_uri.startswith("sqlite:///")
    return Path(settings.db_uri.removeprefix("sqlite:///").partition("?")[0]) if is_file else None

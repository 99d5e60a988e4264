"""Outputs that are old, and how they are deleted; that a date is done stays on record for ever."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoflow.errors import AutoflowError
from autoflow.model import RunRecord, RunStore
from autoflow.settings import Settings


@dataclass(frozen=True, kw_only=True)
class OldRun:
    """A run that ended long ago, and those of its files that are there still."""

    record: RunRecord
    files: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """How large its files are."""
        return sum(path.stat().st_size for path in self.files if path.is_file())


def old_runs(store: RunStore, settings: Settings, before: datetime.datetime) -> list[OldRun]:
    """Return the runs that ended before `before` (UTC) and have left something, oldest first.

    Of files, only those count that AutoFlow has recorded as outputs and that are in its outputs folders, whatever the
    database says.
    """
    found = []
    for record in reversed(store.runs(ended_before=before)):
        files = tuple(path for path in _paths(record.outputs) if _is_ours(path, settings))
        if files or record.flow_run_id:
            found.append(OldRun(record=record, files=files))
    return found


def delete_files(run: OldRun, store: RunStore) -> None:
    """Delete the files of `run` and record that; AutoflowError if one cannot be deleted."""
    for path in run.files:
        try:
            path.unlink(missing_ok=True)
            if path.suffix == ".ipynb":
                # What the page's links lead to was made of it.
                path.with_suffix(".html").unlink(missing_ok=True)
        except OSError as error:
            raise AutoflowError(f"{path} cannot be deleted: {error.strerror}") from error
    store.forget_outputs(run.record.id)


def _paths(outputs: object) -> Iterator[Path]:
    if isinstance(outputs, str):
        yield Path(outputs)
    elif isinstance(outputs, dict):
        for value in outputs.values():
            yield from _paths(value)
    elif isinstance(outputs, list):
        for value in outputs:
            yield from _paths(value)


def _is_ours(path: Path, settings: Settings) -> bool:
    folders = {settings.notebooks_dir.resolve(), settings.reports_dir.resolve()}
    return path.parent.resolve() in folders and path.is_file()

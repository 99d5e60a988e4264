"""Finds and deletes the outputs of old runs. The record that a date is done stays."""

import datetime
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoflow.errors import AutoflowError
from autoflow.model.store import RunStore
from autoflow.runs.records import RunRecord
from autoflow.settings import Settings
from autoflow.specs import FOREVER, RUN_DIRS, KeepSpec, WorkflowSpec
from autoflow.utils import readable_path, thumbnail_path


@dataclass(frozen=True, kw_only=True)
class OldRun:
    """A run that ended long ago, with those of its files that still exist and are to be deleted.

    `folder` is that of the run, with files of its notebooks, if it is to be deleted.
    """

    record: RunRecord
    files: tuple[Path, ...]
    folder: Path | None = None

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(path.lstat().st_size for path in self.files if path.is_file())


def old_runs(store: RunStore, settings: Settings, before: datetime.datetime) -> list[OldRun]:
    """Return the runs that ended before `before` (UTC) and have left something, oldest first.

    Files count only if AutoFlow has recorded them as outputs and they are in its outputs folders, whatever else the
    database says.
    """
    found = []
    for record in reversed(store.runs_ended_before(before)):
        run = with_all_outputs(record, settings)
        if run.files or run.folder or record.flow_run_id:
            found.append(run)
    return found


def expired_runs(
    store: RunStore, settings: Settings, workflows: Iterable[WorkflowSpec], now: datetime.datetime
) -> list[OldRun]:
    """Return the runs with outputs that are no longer kept at `now` (UTC), oldest first.

    The age of an output is the time since its run ended, however it ended. Workflows that are not among `workflows`
    have been removed; theirs are kept as long as the settings say.
    """
    keep = _keep(settings, workflows)
    days = min((min(each.notebooks or FOREVER, each.reports or FOREVER) for each in keep.all), default=FOREVER)
    if days == FOREVER:
        return []
    records = reversed(store.runs_ended_before(now - datetime.timedelta(days=days)))
    found = (_expired_run(record, keep.of(record.key.workflow), settings, now) for record in records)
    return [run for run in found if run.files or run.folder]


@dataclass(frozen=True)
class _Keep:
    """How long the outputs of workflows are kept, by their names; `others` is for those that have been removed."""

    by_workflow: Mapping[str, KeepSpec]
    others: KeepSpec

    @property
    def all(self) -> list[KeepSpec]:
        return [*self.by_workflow.values(), self.others]

    def of(self, workflow: str) -> KeepSpec:
        return self.by_workflow.get(workflow, self.others)


def _keep(settings: Settings, workflows: Iterable[WorkflowSpec]) -> _Keep:
    default = KeepSpec(notebooks=settings.keep_notebooks or FOREVER, reports=settings.keep_reports or FOREVER)
    by_workflow = {
        each.name: KeepSpec(
            notebooks=each.keep.notebooks or default.notebooks, reports=each.keep.reports or default.reports
        )
        for each in workflows
    }
    return _Keep(by_workflow, default)


def _expired_run(record: RunRecord, keep: KeepSpec, settings: Settings, now: datetime.datetime) -> OldRun:
    age = (now - (record.finished_at or now)) / datetime.timedelta(days=1)
    folder = _own_folder(record, settings) if age > (keep.notebooks or FOREVER) else None
    files = (*_expired(record, keep, settings, now), *_files_in(folder))
    return OldRun(record=record, files=files, folder=folder)


def _expired(record: RunRecord, keep: KeepSpec, settings: Settings, now: datetime.datetime) -> Iterator[Path]:
    ended = record.finished_at or now
    age = (now - ended) / datetime.timedelta(days=1)
    for files in record.outputs.values():
        notebooks = [files["notebook"]] if "notebook" in files and age > (keep.notebooks or FOREVER) else []
        reports = files.get("reports", ()) if age > (keep.reports or FOREVER) else ()
        yield from (path for path in map(Path, (*notebooks, *reports)) if _is_ours(path, settings))


def with_all_outputs(record: RunRecord, settings: Settings) -> OldRun:
    """Return a run with all files that it has left in the outputs folders."""
    folder = _own_folder(record, settings)
    files = (path for path in map(Path, _paths(record.outputs)) if _is_ours(path, settings))
    return OldRun(record=record, files=(*files, *_files_in(folder)), folder=folder)


def _own_folder(record: RunRecord, settings: Settings) -> Path | None:
    """Return the folder of a run if there is one."""
    place = settings.outputs_dir / RUN_DIRS
    folder = settings.outputs_dir / record.run_dir if record.run_dir else None
    is_ours = folder is not None and folder.parent == place and folder.is_dir() and not folder.is_symlink()
    return folder if is_ours else None


def _files_in(folder: Path | None) -> tuple[Path, ...]:
    if folder is None:
        return ()
    return tuple(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


def delete_files(run: OldRun, store: RunStore, *, with_flow_run: bool = True) -> None:
    """Delete the files of `run` and record that; raise AutoflowError if one cannot be deleted.

    Paths of files that are left stay on record: those that are to be kept, and those that AutoFlow does not delete,
    such as in a folder that was set before. `with_flow_run`: the run in Prefect was deleted, too.
    """
    for path in run.files:
        try:
            path.unlink(missing_ok=True)
            if run.folder and path.is_relative_to(run.folder):
                continue
            if path.suffix == ".ipynb":
                # The page created it from the notebook and links to it.
                readable_path(path).unlink(missing_ok=True)
            if path.suffix == ".pdf":
                thumbnail_path(path).unlink(missing_ok=True)
        except OSError as error:
            raise AutoflowError(f"cannot delete {path}: {error.strerror}") from error
    if run.folder:
        try:
            shutil.rmtree(run.folder)
        except OSError as error:
            raise AutoflowError(f"cannot delete {run.folder}: {error.strerror}") from error
    left = _left(run.record.outputs)
    if with_flow_run or left != run.record.outputs:
        store.forget_outputs(run.record.id, left=left, with_flow_run=with_flow_run)


def _left(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return `outputs` without files that no longer exist, and without notebooks that have none."""
    left: dict[str, Any] = {}
    for label, files in outputs.items():
        reports = [path for path in files.get("reports", ()) if not _is_gone(Path(path))]
        has_notebook = "notebook" in files and not _is_gone(Path(files["notebook"]))
        if has_notebook or reports:
            left[label] = {**({"notebook": files["notebook"]} if has_notebook else {}), "reports": reports}
    return left


def _paths(outputs: Mapping[str, Any]) -> Iterator[str]:
    for files in outputs.values():
        yield from ([files["notebook"]] if "notebook" in files else [])
        yield from files.get("reports", ())


def _is_ours(path: Path, settings: Settings) -> bool:
    folders = {settings.notebooks_dir.resolve(), settings.reports_dir.resolve()}
    return path.parent.resolve() in folders and path.is_file()


def _is_gone(path: Path) -> bool:
    """Return whether a file no longer exists, rather than being on a disk that is not mounted."""
    return path.parent.is_dir() and not path.exists()

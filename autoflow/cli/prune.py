"""`autoflow prune`: delete the outputs of old runs, and their history in Prefect, but no record that a date is done."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from autoflow import app
from autoflow.cli.options import as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import count, print_json
from autoflow.errors import AutoflowError
from autoflow.model.store import RunStore
from autoflow.runs.records import RunRecord, utc_now
from autoflow.settings import Settings
from autoflow.utils import thumbnail_path

A_CENTURY = 36_525
"""In days."""


@click.command
@click.option(
    "--older-than",
    "days",
    type=click.IntRange(1, A_CENTURY),
    required=True,
    metavar="DAYS",
    help="Delete outputs of runs that ended more than DAYS days ago.",
)
@click.option("--dry-run", is_flag=True, help="Only show how much would be deleted.")
@as_json
@pass_session
def prune(session: Session, *, days: int, dry_run: bool, as_json: bool) -> None:
    """Delete the outputs of old runs, and their history in Prefect.

    The dates of these runs stay done. Only files in the outputs folders that AutoFlow itself has made are deleted.

    \b
    Example: autoflow prune --older-than 365 --dry-run
    """
    before = utc_now() - datetime.timedelta(days=days)
    settings = session.settings
    with session.store() as store:
        found = old_runs(store, settings, before)
        files, size = sum(len(each.files) for each in found), sum(each.bytes for each in found)
        ids = [each.record.flow_run_id for each in found if each.record.flow_run_id]
        flow_runs = len(ids)
        if not dry_run:
            flow_runs = app.prune_prefect(settings, ids, before=before) if has_prefect(settings) else 0
            for each in found:
                delete_files(each, store)
    if as_json:
        print_json({"dry_run": dry_run, "files": files, "bytes": size, "flow_runs": flow_runs})
        return
    deleted = f"{count(files, 'file')} ({size / 1e6:.1f} MB) of {count(len(found), 'run')}"
    click.echo(f"{'would delete' if dry_run else 'deleted'} {deleted}, and {count(flow_runs, 'run')} in Prefect")


@dataclass(frozen=True, kw_only=True)
class OldRun:
    """A run that ended long ago, with those of its files that still exist."""

    record: RunRecord
    files: tuple[Path, ...]

    @property
    def bytes(self) -> int:
        """The size of its files."""
        return sum(path.stat().st_size for path in self.files if path.is_file())


def old_runs(store: RunStore, settings: Settings, before: datetime.datetime) -> list[OldRun]:
    """Return the runs that ended before `before` (UTC) and have left something, oldest first.

    Files count only if AutoFlow has recorded them as outputs and they are in its outputs folders, whatever else the
    database says.
    """
    found = []
    for record in reversed(store.runs_ended_before(before)):
        files = own_files(record, settings)
        if files or record.flow_run_id:
            found.append(OldRun(record=record, files=files))
    return found


def own_files(record: RunRecord, settings: Settings) -> tuple[Path, ...]:
    """Return the files that a run has left in the outputs folders."""
    return tuple(path for path in _paths(record.outputs) if _is_ours(path, settings))


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


def has_prefect(settings: Settings) -> bool:
    """Return whether there is a Prefect to delete from."""
    return bool(settings.prefect_api_url) or (settings.prefect_home / "prefect.db").exists()


def delete_files(run: OldRun, store: RunStore) -> None:
    """Delete the files of `run` and record that; raise AutoflowError if one cannot be deleted.

    Paths stay on record while files remain that `prune` does not delete, such as those in a folder that was set before.
    """
    for path in run.files:
        try:
            path.unlink(missing_ok=True)
            if path.suffix == ".ipynb":
                # The page created it from the notebook and links to it.
                path.with_suffix(".html").unlink(missing_ok=True)
            if path.suffix == ".pdf":
                thumbnail_path(path).unlink(missing_ok=True)
        except OSError as error:
            raise AutoflowError(f"cannot delete {path}: {error.strerror}") from error
    store.forget_outputs(run.record.id, keep_paths=not all(_is_gone(path) for path in _paths(run.record.outputs)))


def _is_gone(path: Path) -> bool:
    """Return whether a file no longer exists, rather than being on a disk that is not mounted."""
    return path.parent.is_dir() and not path.exists()

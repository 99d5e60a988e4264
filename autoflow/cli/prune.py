"""Outputs that are old, and how they are deleted; that a date is done stays on record for ever."""

import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from autoflow.cli.foreground import reachable_prefect
from autoflow.cli.session import Session, as_json, pass_session
from autoflow.cli.show import print_json
from autoflow.errors import AutoflowError
from autoflow.model.store import RunStore
from autoflow.runs.records import RunRecord, utc_now
from autoflow.settings import Settings
from autoflow.stop_signal import Shutdown


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


A_CENTURY = 36_525
"""In days."""


@click.command(short_help="Delete old outputs and history.")
@click.option(
    "--older-than", "days", type=click.IntRange(1, A_CENTURY), required=True, metavar="DAYS", help="Age of what goes."
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be deleted.")
@as_json
@pass_session
def prune(session: Session, *, days: int, dry_run: bool, as_json: bool) -> None:
    """Delete outputs and Prefect's history of runs that ended long ago.

    That their dates are done stays on record. Only files go that AutoFlow itself has put into its outputs folders.

    \b
    Example: autoflow prune --older-than 365 --dry-run
    """
    before = utc_now() - datetime.timedelta(days=days)
    with session.store() as store:
        found = old_runs(store, session.settings, before)
        files, size = sum(len(each.files) for each in found), sum(each.bytes for each in found)
        flow_runs = sum(each.record.flow_run_id is not None for each in found)
        if not dry_run:
            flow_runs = _prune_prefect(session, [each.record.flow_run_id for each in found], before)
            for each in found:
                delete_files(each, store)
    if as_json:
        print_json({"dry_run": dry_run, "files": files, "bytes": size, "flow_runs": flow_runs})
        return
    done = "would delete" if dry_run else "deleted"
    click.echo(f"{done} {files} files ({size / 1e6:.1f} MB) of {len(found)} runs, and {flow_runs} runs in Prefect")


def _prune_prefect(session: Session, ids: Sequence[str | None], before: datetime.datetime) -> int:

    settings = session.settings
    if not settings.prefect_api_url and not (settings.prefect_home / "prefect.db").exists():
        return 0
    with reachable_prefect(settings, os.environ, shutdown=Shutdown()):
        # Only now: it imports Prefect, which reads its settings from the environment.
        from autoflow.orchestration.history import delete_flow_runs  # noqa: PLC0415

        return delete_flow_runs([each for each in ids if each], before=before)

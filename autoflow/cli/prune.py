"""`autoflow prune`: delete the outputs of old runs, and their history in Prefect, but no record that a date is done."""

import datetime

import click

from autoflow import app
from autoflow.cli.options import as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import count, print_json
from autoflow.model.old_outputs import delete_files, old_runs
from autoflow.runs.records import utc_now
from autoflow.settings import Settings
from autoflow.settings.checks import MOST_DAYS_KEPT


@click.command
@click.option(
    "--older-than",
    "days",
    type=click.IntRange(1, MOST_DAYS_KEPT),
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


def has_prefect(settings: Settings) -> bool:
    """Return whether there is a Prefect to delete from."""
    return bool(settings.prefect_api_url) or (settings.prefect_home / "prefect.db").exists()

"""`autoflow forget`: delete a run with its outputs, as if it had never existed."""

import datetime

import click

from autoflow import app
from autoflow.cli.options import RUN_ID, as_json
from autoflow.cli.prune import has_prefect
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import count, print_json
from autoflow.errors import AutoflowError
from autoflow.model.old_outputs import delete_files, with_all_outputs
from autoflow.runs.records import RunRecord, WorkflowKey, utc_now
from autoflow.specs import TriggerSpec


@click.command
@click.argument("run_id", metavar="ID", type=RUN_ID)
@click.option("--force", is_flag=True, help="Delete a run of an entry in workflows.yml, too: its date may become due.")
@as_json
@pass_session
def forget(session: Session, *, run_id: int, force: bool, as_json: bool) -> None:
    """Delete a run, with its outputs and its history in Prefect.

    This is for runs that you started by hand to try something out. A run of an entry in workflows.yml is deleted only
    with --force, because its date becomes due if no other run has done it.

    \b
    Example: autoflow forget 17
    """
    settings, triggers = session.settings, session.triggers
    with session.store() as store:
        record = store.run(run_id)
        if record is None:
            raise AutoflowError(f"there is no run {run_id}; 'autoflow runs' lists the runs")
        name = session.run_name(record.key, label=record.label)
        _refuse(record, name, triggers, force=force)
        run = with_all_outputs(record, settings)
        delete_files(run, store)
        store.delete(run_id)
    if record.flow_run_id and has_prefect(settings):
        # No other run is that old, so only this one is deleted.
        app.prune_prefect(settings, [record.flow_run_id], before=utc_now() - datetime.timedelta(days=36_525))
    if as_json:
        print_json({"id": run_id, "files": len(run.files)})
        return
    click.echo(f"run {run_id} of {name} is forgotten; {count(len(run.files), 'file')} deleted")


def _refuse(record: RunRecord, name: str, triggers: tuple[TriggerSpec, ...], *, force: bool) -> None:
    """Raise AutoflowError if the run is in progress, or belongs to an entry and `force` is not set."""
    if record.state.is_active:
        raise AutoflowError(
            f"run {record.id} of {name} is in progress: end it first with 'autoflow cancel {record.id}'"
        )
    keys = {WorkflowKey.of_trigger(trigger) for trigger in triggers}
    if record.key.workflow_key in keys and not force:
        raise AutoflowError(
            f"run {record.id} of {name} belongs to an entry in workflows.yml: without it, its date may become due; "
            f"if that is what you want, use 'autoflow forget {record.id} --force'"
        )

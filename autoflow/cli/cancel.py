"""`autoflow cancel`: end a run, whichever process on whichever machine executes it."""

import time

import click

from autoflow.cli.options import RUN_ID, as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import print_json
from autoflow.errors import AutoflowError
from autoflow.model.store import RunStore
from autoflow.runs.naming import run_name
from autoflow.runs.records import RunRecord
from autoflow.utils import redact

POLL_SECONDS = 0.5
"""How often the run store is read while the run has not ended."""

PATIENCE = 30.0
"""How long the run may take to end after its process, if alive, has seen the request, in seconds."""


@click.command
@click.argument("run_id", metavar="ID", type=RUN_ID)
@as_json
@pass_session
def cancel(session: Session, *, run_id: int, as_json: bool) -> None:
    """End a run that is in progress, and wait until it has ended.

    Any process on any machine may execute it. A cancelled date is not retried, unless you ask for it with 'autoflow
    retry ID'. If the process that executed the run is gone, the run is marked as cancelled.

    \b
    Example: autoflow cancel 17
    """
    with session.store() as store:
        if not store.ask_to_cancel(run_id):
            record = _record(store, run_id)
            name = _name(session, record)
            raise AutoflowError(f"run {run_id} of {name} is not running: it has {record.state.as_predicate}")
        record = _wait_for_end(session, store, run_id)
    if as_json:
        print_json({"id": record.id, "state": record.state})
        return
    name = _name(session, record)
    if record.state.is_cancelled:
        click.echo(f"run {run_id} of {name} is cancelled; 'autoflow retry {run_id}' makes its date due again")
    else:
        click.echo(f"run {run_id} of {name} had {record.state.as_predicate} before it could be cancelled")


def _name(session: Session, record: RunRecord) -> str:
    """Return the name of a run; rows of old versions may have a secret as a parameter."""
    return redact(run_name(record.key, session.triggers, label=record.label), session.settings.secrets)


def _wait_for_end(session: Session, store: RunStore, run_id: int) -> RunRecord:
    """Return the record of the run once it has ended; raise AutoflowError if it does not end."""
    deadline = time.monotonic() + PATIENCE + store.crashed_after.total_seconds()
    while True:
        store.give_up_crashed()
        record = _record(store, run_id)
        if not record.state.is_active:
            return record
        if time.monotonic() > deadline:
            raise AutoflowError(
                f"run {run_id} of {_name(session, record)} has not ended yet: the process that executes it "
                f"({record.holder}) is alive but has not ended it; stop that process"
            )
        time.sleep(POLL_SECONDS)


def _record(store: RunStore, run_id: int) -> RunRecord:
    record = store.run(run_id)
    if record is None:
        raise AutoflowError(f"there is no run {run_id}; 'autoflow runs' lists the runs")
    return record

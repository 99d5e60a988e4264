"""`autoflow retry`: make failed runs due again."""

import json
import shlex
import time
from collections.abc import Iterable

import click

from autoflow.cli.options import RUN_ID, as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import print_json
from autoflow.errors import AutoflowError
from autoflow.model.clocks import settle_times
from autoflow.model.store import RunStore
from autoflow.parser import read_workflows
from autoflow.parser.secret_values import check_for_secrets
from autoflow.runs.naming import label_of
from autoflow.runs.plan import failed_keys, recorded_status, why_never_due
from autoflow.runs.records import RunKey, WorkflowKey
from autoflow.runs.requests import date_ranges, requested_trigger
from autoflow.runs.run import check_parameters, named_entry
from autoflow.runs.statuses import DateStatus
from autoflow.specs import WorkflowsFile


@click.command
@click.argument("run_id", metavar="[ID]", type=RUN_ID, required=False)
@click.option("--failed", is_flag=True, help="Retry all failed dates of the entries in workflows.yml.")
@as_json
@pass_session
def retry(session: Session, *, run_id: int | None, failed: bool, as_json: bool) -> None:
    """Make failed runs due again, so that the next tick runs them.

    Runs that were given up are included. A cancelled run has to be named by its ID.

    \b
    Examples: autoflow retry 17
              autoflow retry --failed
    """
    if (run_id is None) != failed:
        raise click.UsageError("give either the ID of a run or --failed")

    file = read_workflows(session.settings)
    with session.store() as store:
        settle_times(store, time.sleep)
        store.give_up_crashed()
        keys = failed_keys(file.sensor.triggers, store.histories()) if failed else []
        if run_id is not None:
            keys = [_failed_key(store, run_id, session)]
        store.forgive(keys)
    problems = {key: _why_never_due(file, key, session.settings.secrets) for key in keys}
    if as_json:
        print_json([_as_json(key, file, problem) for key, problem in problems.items()])
        return
    for key, problem in problems.items():
        is_due = "is due again if its dates are available"
        name = session.run_name(key)
        click.echo(f"{name} {f'may be retried, but no tick will run it: {problem}' if problem else is_due}")
    if not keys:
        click.echo("there are no failed runs")


def _as_json(key: RunKey, file: WorkflowsFile, problem: str | None) -> dict[str, object]:
    return {
        "workflow": key.workflow,
        "label": label_of(key.workflow_key, file.sensor.triggers),
        "reference_date": key.reference_date,
        "never_due": problem,
    }


def _failed_key(store: RunStore, run_id: int, session: Session) -> RunKey:
    record = store.run(run_id)
    if record is None:
        raise AutoflowError(f"there is no run {run_id}; 'autoflow runs' lists the runs")
    status = recorded_status(store.histories(), record.key)
    name = session.run_name(record.key, label=record.label)
    if status is DateStatus.RUNNING:
        raise AutoflowError(f"{name} is running")
    if status and status.is_done:
        raise AutoflowError(f"{name} is done; 'autoflow run --force' runs it again")
    return record.key


def _why_never_due(file: WorkflowsFile, key: RunKey, secrets: Iterable[str]) -> str | None:
    """Return why no tick will run `key`, whichever dates FlowAPI has, and what to do about it."""
    entries = {WorkflowKey.of_trigger(each): each for each in file.sensor.triggers}
    problem = why_never_due(entries.get(key.workflow_key), key.reference_date)
    if problem is None:
        return None
    command = _command(file, key, secrets)
    return f"{problem}; to run it now: {shlex.join(command)}" if command else problem


def _command(file: WorkflowsFile, key: RunKey, secrets: Iterable[str]) -> list[str] | None:
    """Return the command that runs `key` now; None if none can."""
    parameters = json.loads(key.parameters)
    triggers = file.triggers_of(key.workflow)
    own = label_of(key.workflow_key, triggers)
    for label in (own, None, *(each.label for each in triggers)):
        name = named_entry(key.workflow, label)
        try:
            trigger = requested_trigger(file, name, parameters)
            check_for_secrets(parameters, secrets)
            check_parameters(trigger.workflow, parameters)
            date_ranges(trigger, key.reference_date)
        except AutoflowError:
            continue
        if trigger.every is key.every:
            given = {} if label and label == own else parameters
            values = (f"{each}={json.dumps(value, ensure_ascii=False)}" for each, value in given.items())
            options = [word for value in values for word in ("-p", value)]
            return ["autoflow", "run", name, "--date", str(key.reference_date), *options]
    return None

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
from autoflow.model.resuming import Resuming, has_resumed_in_vain, last_of
from autoflow.model.store import RunStore
from autoflow.parser import read_workflows
from autoflow.parser.secret_values import check_for_secrets
from autoflow.runs.naming import label_of
from autoflow.runs.plan import failed_keys, recorded_status, why_never_due
from autoflow.runs.records import RunKey, RunRecord, WorkflowKey
from autoflow.runs.requests import date_ranges, requested_trigger
from autoflow.runs.run import check_parameters, named_entry
from autoflow.runs.statuses import DateStatus
from autoflow.specs import WorkflowsFile


@click.command
@click.argument("run_id", metavar="[ID]", type=RUN_ID, required=False)
@click.option("--failed", is_flag=True, help="Retry all failed dates of the entries in workflows.yml.")
@click.option(
    "--resume", is_flag=True, help="Take over the executed notebooks of the failed run that have not changed."
)
@as_json
@pass_session
def retry(session: Session, *, run_id: int | None, failed: bool, resume: bool, as_json: bool) -> None:
    """Make failed runs due again, so that the next tick runs them.

    Runs that were given up are included. A cancelled run has to be named by its ID. With --resume, the next attempt
    takes over the executed notebooks of the run, as far as they, and all that they depend on, have not changed since.

    \b
    Examples: autoflow retry 17
              autoflow retry 17 --resume
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
        resumed = _ask_to_resume(store, keys, run_id, is_wanted=resume)
    problems = {key: _why_never_due(file, key, session.settings.secrets) for key in keys}
    if as_json:
        print_json([_as_json(key, file, problem, resumed[key]) for key, problem in problems.items()])
        return
    for key, problem in problems.items():
        is_due = "is due again if its dates are available"
        name = session.run_name(key)
        click.echo(f"{name} {f'may be retried, but no tick will run it: {problem}' if problem else is_due}")
        if resume:
            click.echo(f"  {_what_is_taken_over(resumed[key])}")
    if not keys:
        click.echo("there are no failed runs")


def _ask_to_resume(
    store: RunStore, keys: Iterable[RunKey], run_id: int | None, *, is_wanted: bool
) -> dict[RunKey, RunRecord | None]:
    """Have the next attempts at `keys` resume the run with an ID, or the last attempt; return the runs to resume.

    None stands for a date of which nothing can be taken over. Earlier requests no longer count.
    """
    resuming = Resuming(store)
    resuming.withdraw(keys)
    found: dict[RunKey, RunRecord | None] = {}
    for key in keys:
        attempts = resuming.attempts(key) if is_wanted else []
        chosen = store.run(run_id) if run_id is not None else last_of(attempts)
        is_possible = attempts and not has_resumed_in_vain(attempts[0]) and chosen and chosen.finished
        found[key] = chosen if is_possible else None
        if chosen and is_possible:
            resuming.ask(chosen.id)
    return found


def _what_is_taken_over(record: RunRecord | None) -> str:
    if record is None:
        return "it runs all notebooks: no notebook of an earlier attempt can be taken over, or the last one did that"
    labels = ", ".join(sorted(record.finished))
    return f"it takes over these notebooks of run {record.id}, unless they have changed: {labels}"


def _as_json(key: RunKey, file: WorkflowsFile, problem: str | None, resumed: RunRecord | None) -> dict[str, object]:
    return {
        "workflow": key.workflow,
        "label": label_of(key.workflow_key, file.sensor.triggers),
        "reference_date": key.reference_date,
        "never_due": problem,
        "resumes": resumed.id if resumed else None,
        "takes_over": sorted(resumed.finished) if resumed else [],
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

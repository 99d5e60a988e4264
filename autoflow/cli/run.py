"""`autoflow run`: run a workflow for one date, now."""

import datetime
import time
from collections.abc import Iterable, Sequence

import click

from autoflow.cli.foreground import ForegroundRuns
from autoflow.cli.options import DATE, as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import console, print_json
from autoflow.dates.availability import Availability
from autoflow.errors import AutoflowError, ExitCode, FlowApiError
from autoflow.flowapi import FlowApi
from autoflow.model.clocks import settle_times
from autoflow.model.store import RunStore
from autoflow.parser import read_workflows
from autoflow.parser.secret_values import check_for_secrets
from autoflow.parser.single_value import parse_value
from autoflow.parser.value_checks import unexpected_values
from autoflow.runs.naming import entry_names, run_name
from autoflow.runs.plan import recorded_status
from autoflow.runs.records import RunKey, RunRecord, WorkflowKey, utc_now
from autoflow.runs.requests import (
    check_available,
    date_ranges,
    entries_named,
    merged_parameters,
    requested_run,
    requested_trigger,
)
from autoflow.runs.statuses import DateStatus
from autoflow.specs import Json, TriggerSpec, WorkflowsFile
from autoflow.system.log import logger


@click.command
@click.argument("workflow")
@click.option("--date", type=DATE, required=True, metavar="DATE", help="Reference date, such as 2016-01-31.")
@click.option(
    "-p",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter of the workflow; VALUE is YAML. Others are as in workflows.yml.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Run even if the date is already done or some of its dates are unavailable.",
)
@as_json
@pass_session
def run(
    session: Session, *, workflow: str, date: datetime.datetime, given: Sequence[str], force: bool, as_json: bool
) -> ExitCode:
    """Run WORKFLOW for one date, now, and wait until the run has ended.

    With --force, a date that is already done stays done, even if the new run fails.

    \b
    Example: autoflow run flows_above_normal --date 2016-01-31 -p min_increase=30
    """
    file = read_workflows(session.settings)
    parameters = _parameters(file, workflow, given, session.settings.secrets)
    trigger = requested_trigger(file, workflow, parameters)
    key = WorkflowKey.of_trigger(trigger).on(date.date())
    with session.store(create=True) as store:
        settle_times(store, time.sleep)
        store.give_up_crashed()
        _refuse(store, key, run_name(key, file.sensor.triggers), force=force)
        availability = _availability(session, file, trigger, key, force=force)
        runs = ForegroundRuns(session, store, again=force)
        names = entry_names(file.sensor.triggers, with_every=False)
        code = runs.carry_out(file, [requested_run(trigger, key.reference_date, availability, names=names)])
        record = next(iter(store.runs(workflow=key.workflow_key, first=date.date(), last=date.date(), limit=1)), None)
    if record is None or code is ExitCode.INTERRUPTED:
        return code or ExitCode.FAILURE
    _print_end(record, runs.states[key], as_json=as_json)
    return code


def _print_end(record: RunRecord, state: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": record.id, "state": state, "outputs": record.outputs})
        return
    out = console()
    for files in record.outputs.values():
        for path in (files.get("notebook"), *files.get("reports", ())):
            out.print(f"  {path}", markup=False, soft_wrap=True)
    more = "" if record.state.is_success else f"; for details: autoflow runs show {record.id}"
    more = f": {record.skipped}" if record.skipped else more
    for warning in record.warnings:
        out.print(f"warning: {warning}", markup=False, soft_wrap=True, style="yellow")
    out.print(f"run {record.id} {state}{more}", markup=False)


def _parameters(file: WorkflowsFile, workflow: str, given: Sequence[str], secrets: Iterable[str]) -> dict[str, Json]:
    """Return the parameters in workflows.yml, overridden by those given, which must not contain `secrets`."""
    values: dict[str, Json] = {}
    for text in given:
        name, equals, value = text.partition("=")
        # As text, too: a message about invalid YAML would show it.
        check_for_secrets({name: value}, secrets)
        if not equals:
            raise click.BadParameter(f"'{text}' is not NAME=VALUE", param_hint="-p")
        values[name] = parse_value(value)
    parameters = merged_parameters(file, workflow, values)
    check_for_secrets(parameters, secrets)
    for line in unexpected_values(entries_named(file, workflow)[0], values):
        logger.warning("%s", line)
    return parameters


def _refuse(store: RunStore, key: RunKey, name: str, *, force: bool) -> None:
    """Raise AutoflowError if the date is done or running, before a Prefect server is started."""
    status = recorded_status(store.histories(), key)
    if status is DateStatus.RUNNING:
        raise AutoflowError(f"{name} is running already: see 'autoflow runs --state running'")
    if status and status.is_done and not force:
        how = "was skipped" if status is DateStatus.SKIPPED else "is done already"
        raise AutoflowError(f"{name} {how}; --force runs it again")


def _availability(
    session: Session, file: WorkflowsFile, trigger: TriggerSpec, key: RunKey, *, force: bool
) -> Availability | None:
    """Return the dates that FlowAPI has; None if it fails, and with `force` that does not matter.

    Raises
    ------
    AutoflowError
        Just as early, if dates that the run needs are unavailable or FlowAPI fails, unless with `force`; or if the
        entry cannot run for the date.

    """
    date_ranges(trigger, key.reference_date)
    try:
        availability = FlowApi.of(session.settings).available_dates().only(file.sensor.cdr_types)
    except FlowApiError:
        if force:
            return None
        raise
    if not force:
        check_available(trigger, key.reference_date, availability, utc_now())
    return availability

"""`autoflow why`: say why a date is done, due, or neither."""

import datetime

import click

from autoflow.cli.options import DATE, as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import console, print_json
from autoflow.dates.periods import describe_period, period_of
from autoflow.errors import AutoflowError, FlowApiError
from autoflow.flowapi import FlowApi
from autoflow.model.store import RunStore
from autoflow.notebooks.live_files import progress_of_run
from autoflow.notebooks.redaction import Redaction
from autoflow.parser import read_workflows
from autoflow.runs.plan import keys_with_reruns, planners, recorded_status
from autoflow.runs.reasons import Situation, answer
from autoflow.runs.records import WorkflowKey, utc_now
from autoflow.runs.requests import requested_trigger
from autoflow.runs.run import named_entry
from autoflow.runs.statuses import PlannedDate
from autoflow.specs import SensorSpec, TriggerSpec


@click.command
@click.argument("workflow")
@click.argument("date", type=DATE)
@as_json
@pass_session
def why(session: Session, *, workflow: str, date: datetime.datetime, as_json: bool) -> None:
    """Say why a date of WORKFLOW, or of its entry WORKFLOW:LABEL, is done, due, or neither.

    A command that would change that follows.

    \b
    Example: autoflow why mobility:north 2016-01-10
    """
    file = read_workflows(session.settings)
    trigger = requested_trigger(file, workflow, None)
    if trigger not in file.sensor.triggers:
        raise AutoflowError(f"'{workflow}' has no entry in workflows.yml, so nothing runs it but 'autoflow run'")
    reference_date = _reference_date(trigger, date.date())
    with session.store() as store:
        found = _situation(session, store, file.sensor, trigger, reference_date)
    reply = answer(found)
    text = Redaction(session.settings.secrets).of_text(_before(trigger, date.date(), reference_date) + reply.text)
    if as_json:
        content = {"workflow": trigger.workflow.name, "label": trigger.label, "reference_date": reference_date}
        print_json(content | {"status": found.planned.status, "why": text, "command": reply.command})
        return
    console().print(text, markup=False)
    console().print(f"To {reply.what_it_does}: {reply.command}", markup=False, soft_wrap=True)


def _reference_date(trigger: TriggerSpec, date: datetime.date) -> datetime.date:
    """Return the reference date of the period in which `date` lies."""
    try:
        return period_of(date, trigger.every).end
    except ValueError as error:
        raise AutoflowError(str(error)) from error


def _before(trigger: TriggerSpec, date: datetime.date, reference_date: datetime.date) -> str:
    if date == reference_date:
        return ""
    return f"{date} is in the {describe_period(reference_date, trigger.every)}, which has its last day as its date. "


def _situation(
    session: Session, store: RunStore, sensor: SensorSpec, trigger: TriggerSpec, date: datetime.date
) -> Situation:
    key = WorkflowKey.of_trigger(trigger)
    store.give_up_crashed()
    histories = store.histories(keys_with_reruns([trigger]))
    runs = store.runs(workflow=key, first=date, last=date)
    progress = progress_of_run(session.settings.outputs_dir, runs[0].id) if runs else None
    try:
        found = FlowApi.of(session.settings).available_dates()
    except FlowApiError:
        recorded = recorded_status(histories, key.on(date))
        if recorded is None:
            raise
        planned, plan = PlannedDate(date=date, status=recorded), tuple[PlannedDate, ...]()
    else:
        availability = found.with_arrivals(store.preview_arrivals(found.types)).only(sensor.cdr_types)
        (planner,) = planners([trigger], availability, histories, utc_now())
        plan = planner.plan()
        planned = next((each for each in plan if each.date == date), None) or planner.planned(date)
    return Situation(
        name=named_entry(trigger.workflow.name, trigger.label),
        trigger=trigger,
        planned=planned,
        runs=runs,
        before=[each for each in plan if each.date < date],
        progress=progress.text if progress else "",
    )

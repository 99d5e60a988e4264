"""Runs that a user requests, whether they are due or not."""

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autoflow.dates.availability import Availability
from autoflow.dates.completeness import readiness
from autoflow.dates.intervals import DateInterval
from autoflow.dates.periods import Every
from autoflow.dates.stencil import UnresolvableStencilError
from autoflow.errors import AutoflowError
from autoflow.runs.run import WorkflowRun, check_parameters
from autoflow.runs.statuses import in_ranges
from autoflow.specs import Json, TriggerSpec, WorkflowsFile


def requested_trigger(file: WorkflowsFile, workflow: str, parameters: Mapping[str, Json] | None) -> TriggerSpec:
    """Return the conditions of a requested run of `workflow`: the sensor's entry with these `parameters`.

    If there is no such entry, or no `parameters` are given, use the first entry of the workflow; if it has none, use
    the defaults.

    Raises
    ------
    AutoflowError
        If there is no such workflow.

    """
    spec = file.workflow(workflow)
    triggers = file.triggers_of(workflow)
    if parameters is not None:
        triggers.sort(key=lambda trigger: trigger.parameters != parameters)
    trigger = triggers[0] if triggers else file.default_trigger(spec)
    return trigger if parameters is None else replace(trigger, parameters=parameters)


def merged_parameters(file: WorkflowsFile, workflow: str, given: Mapping[str, Any]) -> dict[str, Json]:
    """Return the parameters of a requested run: those `given`, the others as in workflows.yml.

    If the workflow has several entries, those of the first one count.

    Raises
    ------
    AutoflowError
        If there is no such workflow, or it does not take these parameters.

    """
    spec = file.workflow(workflow)
    triggers = file.triggers_of(workflow)
    parameters = {**(triggers[0].parameters if triggers else {}), **given}
    check_parameters(spec, parameters)
    return parameters


def requested_run(
    file: WorkflowsFile, workflow: str, reference_date: datetime.date, parameters: Mapping[str, Any] | None
) -> WorkflowRun:
    """Return the requested run of `workflow` for `reference_date`.

    Its stencil is that of `requested_trigger`; so are its parameters, if no `parameters` are given.

    Raises
    ------
    AutoflowError
        If there is no such workflow, or it does not take these parameters.

    """
    trigger = requested_trigger(file, workflow, parameters)
    check_parameters(trigger.workflow, trigger.parameters)
    return WorkflowRun(
        workflow=trigger.workflow,
        parameters=trigger.parameters,
        reference_date=reference_date,
        date_ranges=date_ranges(trigger, reference_date),
    )


def date_ranges(trigger: TriggerSpec, reference_date: datetime.date) -> tuple[DateInterval, ...]:
    """Return the dates of the stencil; raise AutoflowError if it cannot be resolved for `reference_date`."""
    try:
        return trigger.date_stencil.resolve(reference_date)
    except UnresolvableStencilError as error:
        raise AutoflowError(f"workflow '{trigger.workflow.name}' cannot run for {reference_date}: {error}") from error


def check_available(trigger: TriggerSpec, reference_date: datetime.date, availability: Availability) -> None:
    """Raise AutoflowError if dates that a run for `reference_date` needs are not available; a wait does not count."""
    available = availability.to(trigger.requires_all_of)
    ready = readiness(date_ranges(trigger, reference_date), trigger.needs, available)
    missing = [] if ready.at is not None else list(ready.missing)
    if trigger.every is Every.DAY and reference_date not in available.dates:
        missing = sorted({*missing, reference_date})
    if missing:
        them = "it" if len(missing) == 1 else "them"
        raise AutoflowError(
            f"{trigger.workflow.name} {reference_date} cannot run: FlowAPI has no data for {in_ranges(missing)}; "
            f"wait for {them}, or use 'autoflow run --force'"
        )

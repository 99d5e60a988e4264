"""Runs that a user requests, whether they are due or not."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autoflow.dates.availability import Availability
from autoflow.dates.completeness import is_over, readiness
from autoflow.dates.intervals import DateInterval
from autoflow.dates.periods import Every, describe_period, is_last_day, nearest_last_days
from autoflow.dates.stencil import UnresolvableStencilError
from autoflow.errors import AutoflowError
from autoflow.runs.naming import name_among
from autoflow.runs.records import WorkflowKey
from autoflow.runs.run import WorkflowRun, check_parameters, named_entry
from autoflow.runs.statuses import in_ranges
from autoflow.specs import Json, TriggerSpec, WorkflowsFile, WorkflowSpec
from autoflow.utils import as_yaml


def requested_trigger(file: WorkflowsFile, name: str, parameters: Mapping[str, Json] | None) -> TriggerSpec:
    """Return the conditions of a requested run: those of the entry called `name`, with these `parameters`.

    `name` is that of a workflow, followed by a colon and a label if several entries of the workflow differ in more than
    `parameters`. Without `parameters`, those of the entry count. If there is no entry, the defaults count.

    Raises
    ------
    AutoflowError
        If there is no such workflow or label, or several entries could be meant.

    """
    spec, triggers = entries_named(file, name)
    if parameters is None:
        return _only(triggers, name) if triggers else file.default_trigger(spec)
    same = [trigger for trigger in triggers if trigger.parameters == parameters]
    if same:
        return _only(same, name)
    if not triggers:
        return replace(file.default_trigger(spec), parameters=parameters)
    # The parameters of no entry: the conditions are those of the first one, but not what it is called.
    return replace(triggers[0], parameters=parameters, label=None, title=None, description=None)


def merged_parameters(file: WorkflowsFile, name: str, given: Mapping[str, Any]) -> dict[str, Json]:
    """Return the parameters of a requested run: those `given`, the others as in the entry called `name`.

    Raises
    ------
    AutoflowError
        If there is no such workflow or label, it does not take these parameters, or several entries could be meant.

    """
    spec, triggers = entries_named(file, name)
    if spec.parameter_names <= given.keys():
        parameters = dict(given)
    else:
        possible = [
            each for each in triggers if all(given.get(key, value) == value for key, value in each.parameters.items())
        ]
        chosen = _only(possible or triggers, name) if triggers else None
        parameters = {**(chosen.parameters if chosen else {}), **given}
    check_parameters(spec, parameters)
    return parameters


def requested_run(
    trigger: TriggerSpec,
    reference_date: datetime.date,
    availability: Availability | None = None,
    *,
    names: Mapping[WorkflowKey, str] | None = None,
) -> WorkflowRun:
    """Return the run of an entry for `reference_date`; without `availability`, no date counts as missing.

    `names` are those of the entries in workflows.yml, if they are known: a run of none of them is a try-out.

    Raises
    ------
    AutoflowError
        If the workflow does not take the parameters, or the periods of the entry do not end on the date.

    """
    check_parameters(trigger.workflow, trigger.parameters)
    ranges = date_ranges(trigger, reference_date)
    available = availability.to(trigger.requires_all_of) if availability else None
    key = WorkflowKey.of_trigger(trigger)
    return WorkflowRun(
        workflow=trigger.workflow,
        parameters=trigger.parameters,
        reference_date=reference_date,
        every=trigger.every,
        date_ranges=ranges,
        missing_dates=readiness(ranges, trigger.needs, available).missing if available else (),
        label=trigger.label,
        title=trigger.shown_title,
        entry=name_among(key, names, with_every=False) if names is not None else None,
        is_try_out=names is not None and key not in names,
    )


def entries_named(file: WorkflowsFile, name: str) -> tuple[WorkflowSpec, list[TriggerSpec]]:
    """Return the workflow and its entries that `name` may mean: a workflow's, or a workflow and a label with a colon.

    Raises
    ------
    AutoflowError
        If there is no such workflow or label.

    """
    workflow, colon, label = name.rpartition(":")
    if not colon or any(each.name == name for each in file.workflows):
        return file.workflow(name), file.triggers_of(name)
    spec = file.workflow(workflow)
    triggers = file.triggers_of(workflow)
    chosen = [trigger for trigger in triggers if trigger.label == label]
    if not chosen:
        labels = ", ".join(trigger.label for trigger in triggers if trigger.label) or "no labels"
        raise AutoflowError(f"workflow '{workflow}' has no entry labelled '{label}' in workflows.yml, but {labels}")
    return spec, chosen


def _only(triggers: Sequence[TriggerSpec], name: str) -> TriggerSpec:
    """Return the only entry; AutoflowError if there are several."""
    if len(triggers) == 1:
        return triggers[0]
    names = ", ".join(_how_to_choose(trigger, triggers) for trigger in triggers)
    raise AutoflowError(f"'{name}' has {len(triggers)} entries in workflows.yml: choose one of {names}")


def _how_to_choose(trigger: TriggerSpec, others: Sequence[TriggerSpec]) -> str:
    """Return what to write on the command line for `trigger`, and not for one of `others`."""
    if trigger.label:
        return named_entry(trigger.workflow.name, trigger.label)
    if any(other is not trigger and other.parameters == trigger.parameters for other in others):
        return f"the one with 'every: {trigger.every}', which needs a label"
    differing = {
        key: value
        for key, value in trigger.parameters.items()
        if any(other.parameters.get(key) != value for other in others)
    }
    return " ".join(f"-p {key}={as_yaml(value)}" for key, value in differing.items())


def date_ranges(trigger: TriggerSpec, reference_date: datetime.date) -> tuple[DateInterval, ...]:
    """Return the dates of the stencil for `reference_date`.

    Raises
    ------
    AutoflowError
        If the periods of the entry do not end on that date, or the stencil cannot be resolved for it.

    """
    name = trigger.workflow.name
    if not is_last_day(reference_date, trigger.every):
        entry = named_entry(name, trigger.label)
        try:
            before, after = nearest_last_days(reference_date, trigger.every)
        except ValueError as error:
            raise AutoflowError(f"'{entry}' cannot run for {reference_date}: {error}") from error
        raise AutoflowError(
            f"'{entry}' runs every {trigger.every}, and no {trigger.every.noun} ends on "
            f"{reference_date}: the nearest dates are {before} and {after}"
        )
    try:
        return trigger.date_stencil.resolve(reference_date)
    except UnresolvableStencilError as error:
        raise AutoflowError(f"workflow '{name}' cannot run for {reference_date}: {error}") from error


def check_available(
    trigger: TriggerSpec, reference_date: datetime.date, availability: Availability, now: datetime.datetime
) -> None:
    """Raise AutoflowError if a run for `reference_date` lacks dates, or its period is not over; a wait does not count.

    `now` is in UTC.
    """
    available = availability.to(trigger.requires_all_of)
    ready = readiness(date_ranges(trigger, reference_date), trigger.needs, available)
    missing = [] if ready.at is not None else list(ready.missing)
    if trigger.every is Every.DAY and reference_date not in available.dates:
        missing = sorted({*missing, reference_date})
    name = f"{named_entry(trigger.workflow.name, trigger.label)} {describe_period(reference_date, trigger.every)}"
    if missing:
        them = "it" if len(missing) == 1 else "them"
        short = f", which leaves too few for 'enough: {trigger.needs.enough}'" if trigger.needs.enough else ""
        raise AutoflowError(
            f"{name} cannot run: FlowAPI has no data for {in_ranges(missing)}{short}; "
            f"wait for {them}, or use 'autoflow run --force'"
        )
    if trigger.every is not Every.DAY and not is_over(trigger.period(reference_date), trigger.needs, available, now):
        raise AutoflowError(
            f"{name} cannot run: the period is not over; wait for its end, or use 'autoflow run --force'"
        )

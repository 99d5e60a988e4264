"""`autoflow plan`: show which dates are due, and why others are not."""

from collections.abc import Sequence
from typing import Any

import click

from autoflow.cli.options import as_json
from autoflow.cli.outdated import find_outdated
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import console, count, iso_time, print_json, print_table
from autoflow.dates.periods import Every
from autoflow.flowapi import FlowApi
from autoflow.parser import read_workflows
from autoflow.runs.naming import entry_name
from autoflow.runs.outdated import UNKNOWN, OutdatedDates
from autoflow.runs.plan import TriggerPlan, keys_with_reruns, make_plan
from autoflow.runs.records import WorkflowKey, utc_now
from autoflow.runs.statuses import DateStatus, in_ranges
from autoflow.specs import TriggerSpec


@click.command
@click.option("--dates", is_flag=True, help="List all dates.")
@click.option("--outdated", is_flag=True, help="List done dates whose notebooks have changed since.")
@as_json
@pass_session
def plan(session: Session, *, dates: bool, outdated: bool, as_json: bool) -> None:
    """Show which dates are due, and why others are not.

    With --outdated, show instead which done dates were made from notebooks, or modules beside them, that have changed
    since. AutoFlow does not run them again on its own; 'autoflow backfill --reprocess outdated' does.

    \b
    Examples: autoflow plan --dates
              autoflow plan --outdated
    """
    sensor = read_workflows(session.settings).sensor
    if outdated:
        with session.store() as store:
            _show_outdated(find_outdated(store, sensor.triggers), sensor.triggers, as_json=as_json)
        return
    found = FlowApi.of(session.settings).available_dates()
    with session.store() as store:
        store.give_up_crashed()
        histories = store.histories(keys_with_reruns(sensor.triggers))
        availability = found.with_arrivals(store.preview_arrivals(found.types)).only(sensor.cdr_types)
        plans = make_plan(sensor.triggers, availability, histories, utc_now())
    available = availability.to().dates
    if as_json:
        print_json({"available_dates": len(available), "workflows": [_plan_json(each, dates=dates) for each in plans]})
        return
    _print_plans(plans)
    for each in plans if dates else ():
        _print_dates(each, sensor.triggers)


def _show_outdated(found: Sequence[OutdatedDates], triggers: Sequence[TriggerSpec], *, as_json: bool) -> None:
    if as_json:
        print_json({"outdated": [_outdated_json(each) for each in found]})
        return
    outdated, unknown = (sum(len(each.dates) for each in found if each.is_known is known) for known in (True, False))
    console().print(f"{count(outdated, 'done date')} outdated, {unknown} unknown", markup=False)
    if found:
        print_table(
            ["workflow", "changed since", "dates#", "which"],
            (
                [
                    entry_name(WorkflowKey.of_trigger(each.trigger), triggers),
                    ", ".join(each.changed) or f"unknown: {UNKNOWN}",
                    len(each.dates),
                    in_ranges(sorted(each.dates), each.trigger.every),
                ]
                for each in found
            ),
        )


def _outdated_json(found: OutdatedDates) -> dict[str, Any]:
    trigger = found.trigger
    named = {"workflow": trigger.workflow.name, "label": trigger.label, "parameters": trigger.parameters}
    return {**named, "is_known": found.is_known, "changed": found.changed, "dates": found.dates}


def _print_plans(plans: Sequence[TriggerPlan]) -> None:
    triggers = [each.trigger for each in plans]
    if any(trigger.every is not Every.DAY for trigger in triggers):
        rows = [(_title(each, triggers), each.trigger.every, _summary(each)) for each in plans]
        print_table(["workflow", "every", "dates"], rows)
        return
    print_table(["workflow", "dates"], [(_title(each, triggers), _summary(each)) for each in plans])


def _summary(plan: TriggerPlan) -> str:
    """Return how many dates have each status."""
    # "3 dates missing" would read as if three dates were missing.
    texts = {DateStatus.INCOMPLETE: "with dates missing"}
    counts = ((texts.get(status, status), number) for status, number in plan.counts.items() if number)
    return ", ".join(f"{number} {text}" for text, number in counts) or "none"


def _print_dates(plan: TriggerPlan, triggers: Sequence[TriggerSpec]) -> None:
    is_long, has_arrivals = plan.trigger.every is not Every.DAY, any(each.arrived for each in plan.dates)
    columns = [
        *(["first day"] if is_long else []),
        "date",
        "status",
        *(["arrived"] if has_arrivals else []),
        "why",
    ]
    rows = []
    for each in plan.dates:
        first = [each.period.start if each.period else None] if is_long else []
        arrived = [each.arrived.date() if each.arrived else None] if has_arrivals else []
        rows.append([*first, each.date, each.status, *arrived, each.why])
    every = f", every {plan.trigger.every}" if is_long else ""
    print_table(columns, rows, title=f"{_title(plan, triggers)}{every}")


def _title(plan: TriggerPlan, triggers: Sequence[TriggerSpec]) -> str:
    """Return the name of an entry: with its label, or with what distinguishes it from others of its workflow.

    Its kind of period is shown beside it.
    """
    return entry_name(WorkflowKey.of_trigger(plan.trigger), triggers, with_every=False)


def _plan_json(plan: TriggerPlan, *, dates: bool) -> dict[str, Any]:
    content: dict[str, Any] = {
        "workflow": plan.trigger.workflow.name,
        "label": plan.trigger.label,
        "every": plan.trigger.every,
        "parameters": plan.trigger.parameters,
        "counts": plan.counts,
    }
    if dates:
        content["dates"] = [
            {
                "date": each.date,
                "standing": each.status,
                "failures": each.failures,
                "next_attempt": iso_time(each.next_attempt),
                "missing": each.missing,
                "arrived": iso_time(each.arrived),
                "is_rerun": each.is_rerun,
            }
            for each in plan.dates
        ]
    return content

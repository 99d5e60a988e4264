"""`autoflow plan`: show which dates are due, and why others are not."""

from collections.abc import Iterable
from typing import Any

import click

from autoflow.cli.options import as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import iso_time, print_json, print_table
from autoflow.flowapi import FlowApi
from autoflow.parser import read_workflows
from autoflow.runs.plan import TriggerPlan, keys_with_reruns, make_plan
from autoflow.runs.records import utc_now
from autoflow.runs.statuses import PLAN_STATUSES


@click.command
@click.option("--dates", is_flag=True, help="List all dates.")
@as_json
@pass_session
def plan(session: Session, *, dates: bool, as_json: bool) -> None:
    """Show which dates are due, and why others are not.

    \b
    Example: autoflow plan --dates
    """
    sensor = read_workflows(session.settings).sensor
    found = FlowApi.of(session.settings).available_dates()
    with session.store() as store:
        store.give_up_crashed()
        histories = store.histories(keys_with_reruns(sensor.triggers))
        availability = found.with_arrivals(store.arrivals()).only(sensor.cdr_types)
        plans = make_plan(sensor.triggers, availability, histories, utc_now())
    available = availability.to().dates
    if as_json:
        print_json({"available_dates": len(available), "workflows": [_plan_json(each, dates=dates) for each in plans]})
        return
    _print_plans(plans)
    for each in plans if dates else ():
        rows = ((date.date, date.status, date.why) for date in each.dates)
        print_table(["date", "status", "why"], rows, title=_title(each))


def _print_plans(plans: Iterable[TriggerPlan]) -> None:
    plans = list(plans)
    shown = [status for status in PLAN_STATUSES if any(each.counts[status] for each in plans)]
    rows = ([_title(each), *(each.counts[status] or "" for status in shown)] for each in plans)
    print_table(["workflow", *(f"{status}#" for status in shown)], rows)


def _title(plan: TriggerPlan) -> str:
    """Return the name of an entry; entries of the same workflow differ in their parameters."""
    parameters = ", ".join(f"{name}={value}" for name, value in plan.trigger.parameters.items())
    return f"{plan.trigger.workflow.name} ({parameters})" if parameters else plan.trigger.workflow.name


def _plan_json(plan: TriggerPlan, *, dates: bool) -> dict[str, Any]:
    content: dict[str, Any] = {
        "workflow": plan.trigger.workflow.name,
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
            }
            for each in plan.dates
        ]
    return content

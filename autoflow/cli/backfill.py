"""`autoflow backfill`: run a workflow for a range of dates."""

import datetime
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import click

from autoflow.cli.foreground import ForegroundRuns
from autoflow.cli.options import DATE, as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import console, print_json, print_table
from autoflow.dates.availability import Availability
from autoflow.errors import ExitCode
from autoflow.flowapi import FlowApi
from autoflow.model.clocks import settle_times
from autoflow.model.store import RunStore
from autoflow.parser import read_workflows
from autoflow.runs.backfill import Reprocess, WantedDate, left_out, triggers_of, wanted_dates
from autoflow.runs.naming import entry_names
from autoflow.runs.plan import TriggerPlan, make_plan
from autoflow.runs.records import RunKey, utc_now
from autoflow.runs.requests import requested_run
from autoflow.runs.statuses import in_ranges
from autoflow.specs import WorkflowsFile


@click.command
@click.argument("workflow")
@click.option("--from", "first", type=DATE, required=True, metavar="DATE", help="First reference date.")
@click.option("--to", "last", type=DATE, required=True, metavar="DATE", help="Last reference date, inclusive.")
@click.option(
    "--reprocess",
    type=click.Choice([each.value for each in Reprocess]),
    default=Reprocess.NONE.value,
    show_default=True,
    help="none: only dates that have not been run; failed: only dates that failed; all: all dates, even if done.",
)
@click.option("--newest-first", is_flag=True, help="Start with the newest date.")
@click.option("--dry-run", is_flag=True, help="Only show what would be run.")
@as_json
@pass_session
def backfill(  # noqa: PLR0913 - an argument for each option
    session: Session,
    *,
    workflow: str,
    first: datetime.datetime,
    last: datetime.datetime,
    reprocess: str,
    newest_first: bool,
    dry_run: bool,
    as_json: bool,
) -> ExitCode:
    """Run WORKFLOW for a range of dates, as many at a time as the settings allow.

    After an interruption, the same command continues with the dates that are left. Dates that are running elsewhere
    are left out. The range may start before `earliest_date`, but all dates of the stencil must be available.

    \b
    Example: autoflow backfill flows_above_normal --from 2016-01-01 --to 2016-01-31 --dry-run
    """
    if first > last:
        raise click.BadParameter("it must not be after --to", param_hint="--from")
    start, end = first.date(), last.date()
    file = read_workflows(session.settings)
    with session.store(create=not dry_run) as store:
        availability = FlowApi.of(session.settings).available_dates().only(file.sensor.cdr_types)
        plans = _plans(file, store, workflow, availability)
        wanted = wanted_dates(plans, first=start, last=end, reprocess=Reprocess(reprocess), newest_first=newest_first)
        others = left_out(plans, wanted, first=start, last=end)
        if dry_run or not wanted:
            return _print_plan(wanted, others, as_json=as_json)
        runs = ForegroundRuns(session, store, again=reprocess == "all")
        names = entry_names(file.sensor.triggers)
        requested = [requested_run(each.trigger, each.date, availability, names=names) for each in wanted]
        code = runs.carry_out(file, requested)
    _print_summary(runs.states, len(wanted), others, as_json=as_json, interrupted=code is ExitCode.INTERRUPTED)
    return code


def _plans(file: WorkflowsFile, store: RunStore, workflow: str, availability: Availability) -> list[TriggerPlan]:
    triggers = triggers_of(file, workflow)
    settle_times(store, time.sleep)
    store.give_up_crashed()
    return make_plan(triggers, availability, store.histories(), utc_now())


def _print_plan(wanted: Sequence[WantedDate], others: Mapping[str, int], *, as_json: bool) -> ExitCode:
    dates = [each.date for each in wanted]
    if as_json:
        print_json({"would_run": dates, "left_out": others})
        return ExitCode.SUCCESS
    out = console()
    what = f"{len(dates)} to run: {in_ranges(sorted(set(dates)))}" if dates else "nothing to run"
    out.print(what, markup=False)
    _print_left_out(others)
    return ExitCode.SUCCESS


def _print_summary(
    states: Mapping[RunKey, str], total: int, others: Mapping[str, int], *, as_json: bool, interrupted: bool
) -> None:
    counts = Counter(states.values())
    if as_json:
        print_json({"wanted": total, "states": counts, "left_out": others, "interrupted": interrupted})
        return
    rows = [*counts.items()]
    if total > len(states):
        rows.append(("not started", total - len(states)))
    print_table(["", "dates#"], rows)
    _print_left_out(others)
    if interrupted:
        console().print("interrupted; run the same command again to continue", markup=False)


def _print_left_out(others: Mapping[str, int]) -> None:
    if others:
        reasons = ", ".join(f"{count} {reason}" for reason, count in others.items())
        console().print(f"left out: {reasons}", markup=False)

"""`autoflow backfill`: run a workflow for a range of dates."""

import datetime
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from autoflow.cli.foreground import ForegroundRuns
from autoflow.cli.options import DATE, as_json
from autoflow.cli.outdated import find_outdated
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import console, print_json, print_table
from autoflow.dates.availability import Availability
from autoflow.errors import ExitCode
from autoflow.flowapi import FlowApi
from autoflow.model.clocks import settle_times
from autoflow.model.store import RunStore
from autoflow.parser import read_workflows
from autoflow.runs.backfill import LeftOutDate, Reprocess, WantedDate, held_dates, left_out, triggers_of, wanted_dates
from autoflow.runs.naming import entry_name, entry_names
from autoflow.runs.plan import TriggerPlan, make_plan
from autoflow.runs.records import RunKey, WorkflowKey, utc_now
from autoflow.runs.requests import requested_run
from autoflow.runs.run import WorkflowRun
from autoflow.runs.statuses import in_ranges
from autoflow.specs import TriggerSpec, WorkflowsFile


@dataclass(frozen=True)
class Account:
    """What becomes of each date of the range, for each of `entries`."""

    entries: Sequence[TriggerSpec]
    wanted: Sequence[WantedDate]
    others: Sequence[LeftOutDate]

    def print(self, states: Mapping[RunKey, str] | None = None) -> None:
        """Print a line for each entry and each reason; `states` are the ends of the runs, if they have run."""
        rows = [row for trigger in self.entries for row in self._rows(trigger, states)]
        has_missing = any(row[-1] for row in rows)
        columns = ["workflow", "", "dates#", "which", *(["missing days"] if has_missing else [])]
        print_table(columns, (row[: len(columns)] for row in rows))

    def _rows(self, trigger: TriggerSpec, states: Mapping[RunKey, str] | None) -> Iterator[list[object]]:
        name = entry_name(WorkflowKey.of_trigger(trigger), self.entries)
        dates: dict[str, list[datetime.date]] = defaultdict(list)
        missing: dict[str, set[datetime.date]] = defaultdict(set)
        for each in self.wanted:
            if each.trigger is trigger:
                what = "to run" if states is None else states.get(each.key, "not started")
                dates[what].append(each.date)
        for other in self.others:
            if other.trigger is trigger:
                dates[other.reason].append(other.date)
                missing[other.reason].update(other.missing)
        for what, found in dates.items():
            which = in_ranges(sorted(found), trigger.every)
            yield [name, what, len(found), which, in_ranges(sorted(missing[what]))]
        if not dates:
            yield [name, f"no {trigger.every.noun} ends in the range", 0, "", ""]

    def as_json(self) -> dict[str, Any]:
        """Return what becomes of each date, and the number of those that are left out, by the reason."""
        dates = [_date_json(each.trigger, each.date, "to run") for each in self.wanted]
        dates += [_date_json(each.trigger, each.date, each.reason, each.missing) for each in self.others]
        return {"left_out": Counter(each.reason for each in self.others), "dates": dates}


def _date_json(
    trigger: TriggerSpec, date: datetime.date, what: str, missing: Sequence[datetime.date] = ()
) -> dict[str, Any]:
    return {"workflow": trigger.workflow.name, "label": trigger.label, "date": date, "what": what, "missing": missing}


@click.command
@click.argument("workflow", required=False)
@click.option("--from", "first", type=DATE, metavar="DATE", help="First reference date.")
@click.option("--to", "last", type=DATE, metavar="DATE", help="Last reference date, inclusive.")
@click.option(
    "--reprocess",
    type=click.Choice([each.value for each in Reprocess]),
    default=Reprocess.NONE.value,
    show_default=True,
    help="none: only dates that have not been run; failed: only dates that failed; outdated: only done dates whose "
    "notebooks have changed since, newest first; all: all dates, even if done.",
)
@click.option("--newest-first", is_flag=True, help="Start with the newest date.")
@click.option("--dry-run", is_flag=True, help="Only show what would be run.")
@as_json
@pass_session
def backfill(  # noqa: PLR0913 - an argument for each option
    session: Session,
    *,
    workflow: str | None,
    first: datetime.datetime | None,
    last: datetime.datetime | None,
    reprocess: str,
    newest_first: bool,
    dry_run: bool,
    as_json: bool,
) -> ExitCode:
    """Run WORKFLOW for a range of dates, as many at a time as the settings allow.

    After an interruption, the same command continues with the dates that are left. Dates that are running elsewhere
    are left to the other process, unless it turns out to be gone. The range may start before `earliest_date`, but all
    dates of the stencil must be available.

    With --reprocess outdated, the workflow and the range may be left out: all workflows, and all dates.

    \b
    Examples: autoflow backfill flows_above_normal --from 2016-01-01 --to 2016-01-31 --dry-run
              autoflow backfill --reprocess outdated
    """
    which = Reprocess(reprocess)
    start, end = _range(workflow, first, last, is_optional=which is Reprocess.OUTDATED)
    file = read_workflows(session.settings)
    with session.store(create=not dry_run) as store:
        availability = FlowApi.of(session.settings).available_dates().only(file.sensor.cdr_types)
        plans = _plans(file, store, workflow, availability)
        start, end = _within(plans, start, end)
        outdated = _outdated(store, plans, which)
        held = [] if dry_run else held_dates(plans, start, end, reprocess=which, outdated=outdated)
        wanted = wanted_dates(plans, start, end, reprocess=which, newest_first=newest_first, outdated=outdated) + held
        account = Account([each.trigger for each in plans], wanted, left_out(plans, wanted, first=start, last=end))
        if dry_run or not wanted:
            return _print_plan(wanted, account, as_json=as_json)
        runs = ForegroundRuns(session, store, again=which.is_again)
        code = runs.carry_out(file, _requested(wanted, availability, file), held={each.key for each in held})
    _print_summary(runs.states, len(wanted), account, as_json=as_json, interrupted=code is ExitCode.INTERRUPTED)
    return code


def _requested(wanted: Sequence[WantedDate], availability: Availability, file: WorkflowsFile) -> list[WorkflowRun]:
    names = entry_names(file.sensor.triggers, with_every=False)
    return [requested_run(each.trigger, each.date, availability, names=names) for each in wanted]


def _range(
    workflow: str | None, first: datetime.datetime | None, last: datetime.datetime | None, *, is_optional: bool
) -> tuple[datetime.date, datetime.date]:
    """Return the first and the last date of the range; where they may be left out, those of the calendar.

    Raises
    ------
    click.UsageError
        If something required is missing, or they are in the wrong order.

    """
    given = {"WORKFLOW": workflow, "--from": first, "--to": last}
    missing = [name for name, value in given.items() if value is None]
    if missing and not is_optional:
        raise click.UsageError(f"missing {', '.join(missing)}; only --reprocess outdated works without")
    start, end = first.date() if first else datetime.date.min, last.date() if last else datetime.date.max
    if start > end:
        raise click.BadParameter("it must not be after --to", param_hint="--from")
    return start, end


def _within(
    plans: Sequence[TriggerPlan], start: datetime.date, end: datetime.date
) -> tuple[datetime.date, datetime.date]:
    """Return a range with its open ends at the first and the last date of the plans."""
    dates = [each.date for plan in plans for each in plan.dates] or [utc_now().date()]
    return (
        min(dates) if start == datetime.date.min else start,
        max(dates) if end == datetime.date.max else end,
    )


def _outdated(store: RunStore, plans: Sequence[TriggerPlan], which: Reprocess) -> frozenset[RunKey]:
    if which is not Reprocess.OUTDATED:
        return frozenset()
    found = find_outdated(store, [each.trigger for each in plans])
    return frozenset(key for each in found if each.is_known for key in each.keys)


def _plans(file: WorkflowsFile, store: RunStore, workflow: str | None, availability: Availability) -> list[TriggerPlan]:
    names = [workflow] if workflow else dict.fromkeys(each.workflow.name for each in file.sensor.triggers)
    triggers = [trigger for name in names for trigger in triggers_of(file, name)]
    settle_times(store, time.sleep)
    store.give_up_crashed()
    return make_plan(triggers, availability, store.histories(), utc_now())


def _print_plan(wanted: Sequence[WantedDate], account: Account, *, as_json: bool) -> ExitCode:
    if as_json:
        print_json({"would_run": [each.date for each in wanted], **account.as_json()})
        return ExitCode.SUCCESS
    console().print(f"{len(wanted)} to run" if wanted else "nothing to run", markup=False)
    account.print()
    return ExitCode.SUCCESS


def _print_summary(
    states: Mapping[RunKey, str], total: int, account: Account, *, as_json: bool, interrupted: bool
) -> None:
    counts = Counter(states.values())
    if as_json:
        print_json({"wanted": total, "states": counts, **account.as_json(), "interrupted": interrupted})
        return
    rows = [*counts.items()]
    if total > len(states):
        rows.append(("not started", total - len(states)))
    print_table(["", "dates#"], rows)
    account.print(states)
    if interrupted:
        console().print("interrupted; run the same command again to continue", markup=False)

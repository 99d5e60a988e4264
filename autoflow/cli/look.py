"""The verbs that look: validate, plan, runs, health."""

# ruff: noqa: PLC0415 - each verb imports what it needs, so that --help and the other verbs are quick

import datetime
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from autoflow.cli.session import Session, as_json, pass_session
from autoflow.cli.show import console, print_json, print_table
from autoflow.errors import AutoflowError, SettingsError

if TYPE_CHECKING:
    from autoflow.checks import Check
    from autoflow.model import RunRecord
    from autoflow.plan import TriggerPlan

DATE = click.DateTime(["%Y-%m-%d"])
"""A date on the command line; click makes a time of it."""

RUN_ID = click.IntRange(1, 2**31 - 1)
"""The number of a run, as far as PostgreSQL counts."""

MOST_RUNS = 1_000_000
"""So many runs can be listed at once."""

STATES = ("running", "succeeded", "failed", "crashed", "interrupted", "cancelled", "rerunning", "superseded")
"""The states of runs, as `RunState` has them, which is not imported for a help text."""


@click.command(short_help="Check all that AutoFlow needs.")
@click.option("--offline", is_flag=True, help="Ask nothing of FlowAPI.")
@as_json
@pass_session
def validate(session: Session, *, offline: bool, as_json: bool) -> int:
    """Check all that AutoFlow needs: settings, workflows.yml, notebooks, database, FlowAPI, token.

    A line for each; everything that is wrong is told in full.

    \b
    Example: autoflow validate --offline
    """  # noqa: D301 - click's mark
    from autoflow.checks import Check

    try:
        settings = session.settings
    except SettingsError as error:
        return _print_checks([Check(subject="settings", problems=error.problems)], as_json=as_json)
    from autoflow.validation import checks

    return _print_checks(checks(settings, datetime.datetime.now(datetime.UTC), offline=offline), as_json=as_json)


@click.command(short_help="Tell whether the daemon is well.")
@as_json
@pass_session
def health(session: Session, *, as_json: bool) -> int:
    """Tell whether the daemon is well: its database, its Prefect API, and that its ticks are not overdue.

    \b
    Example: autoflow health --json
    """  # noqa: D301 - click's mark
    from autoflow.health import look

    return _print_checks(look(session.settings, datetime.datetime.now(datetime.UTC)), as_json=as_json)


@click.command(short_help="Show what would be run now, and why not the rest.")
@click.option("--dates", is_flag=True, help="List each date.")
@as_json
@pass_session
def plan(session: Session, *, dates: bool, as_json: bool) -> None:
    """Show what AutoFlow would do now, and why it would not do the rest.

    \b
    Example: autoflow plan --dates
    """  # noqa: D301 - click's mark
    from autoflow.flowapi import FlowApi
    from autoflow.inputs import read_workflows
    from autoflow.model import utc_now
    from autoflow.plan import make_plan

    sensor = read_workflows(session.settings).sensor
    available = FlowApi.of(session.settings).available_dates(sensor.cdr_types)
    with session.store() as store:
        store.give_up_crashed()
        plans = make_plan(sensor.triggers, available, store.histories(), utc_now())
    if as_json:
        print_json({"available_dates": len(available), "workflows": [_plan_json(each, dates=dates) for each in plans]})
        return
    _print_plans(plans)
    for each in plans if dates else ():
        rows = ((date.date, date.standing, date.why) for date in each.dates)
        print_table(["date", "", "why"], rows, title=_title(each))


def _print_plans(plans: Iterable["TriggerPlan"]) -> None:
    from autoflow.plan import Standing

    plans = list(plans)
    shown = [standing for standing in Standing if any(each.counts[standing] for each in plans)]
    rows = ([_title(each), *(each.counts[standing] or "" for standing in shown)] for each in plans)
    print_table(["workflow", *(f"{standing}#" for standing in shown)], rows)


def _title(plan: "TriggerPlan") -> str:
    """Name a trigger: a workflow can have several, which differ in their parameters."""
    parameters = ", ".join(f"{name}={value}" for name, value in plan.trigger.parameters.items())
    return f"{plan.trigger.workflow.name} ({parameters})" if parameters else plan.trigger.workflow.name


def _plan_json(plan: "TriggerPlan", *, dates: bool) -> dict[str, Any]:
    content: dict[str, Any] = {
        "workflow": plan.trigger.workflow.name,
        "parameters": plan.trigger.parameters,
        "counts": plan.counts,
    }
    if dates:
        content["dates"] = [
            {
                "date": each.date,
                "standing": each.standing,
                "failures": each.failures,
                "next_attempt": _time(each.next_attempt),
                "missing": each.missing,
            }
            for each in plan.dates
        ]
    return content


@click.group(invoke_without_command=True, short_help="List the runs so far; show one.")
@click.option("--workflow", metavar="NAME", help="Only runs of this workflow.")
@click.option("--state", type=click.Choice(STATES), help="Only runs that ended, or are, so.")
@click.option("--from", "first", type=DATE, metavar="DATE", help="Only reference dates from this one.")
@click.option("--to", "last", type=DATE, metavar="DATE", help="Only reference dates up to this one, included.")
@click.option("--limit", type=click.IntRange(1, MOST_RUNS), default=20, show_default=True, help="How many at most.")
@as_json
@pass_session
@click.pass_context
def runs(  # noqa: PLR0913 - its options
    context: click.Context,
    /,
    session: Session,
    *,
    workflow: str | None,
    state: str | None,
    first: datetime.datetime | None,
    last: datetime.datetime | None,
    limit: int,
    as_json: bool,
) -> None:
    """List the runs so far, newest first; `runs show ID` tells all about one.

    \b
    Examples: autoflow runs --state failed --from 2016-01-01
              autoflow runs show 17
    """  # noqa: D301 - click's mark
    if context.invoked_subcommand is not None:
        return
    from autoflow.model import RunState

    with session.store() as store:
        records = store.runs(
            workflow=workflow,
            state=RunState(state) if state else None,
            first=first.date() if first else None,
            last=last.date() if last else None,
            limit=limit,
        )
    if as_json:
        print_json([_record_json(record) for record in records])
        return
    columns = ["id#", "workflow", "date", "attempt#", "state", "started (UTC)", "took", "error"]
    print_table(columns, (_row(record) for record in records))


@runs.command()
@click.argument("run_id", metavar="ID", type=RUN_ID)
@as_json
@pass_session
def show(session: Session, run_id: int, *, as_json: bool) -> None:
    """Tell everything about one run: parameters, times, outputs, and where its error comes from.

    \b
    Example: autoflow runs show 17
    """  # noqa: D301 - click's mark
    from autoflow.daemon_files import DaemonFiles

    with session.store() as store:
        record = store.run(run_id)
    if record is None:
        raise AutoflowError(f"there is no run {run_id}; 'autoflow runs' lists those that there are")
    url = session.settings.prefect_api_url or DaemonFiles(home=session.settings.prefect_home).api_url
    content = _record_json(record) | _details(record, url)
    if as_json:
        print_json(content)
    else:
        _print_details(content)


def _row(record: "RunRecord") -> list[object]:
    error = f"{record.error.notebook or ''} {record.error.error_class}: {record.error.message}" if record.error else ""
    return [
        record.id,
        record.key.workflow,
        record.key.reference_date,
        record.attempt,
        record.state,
        f"{record.started_at:%Y-%m-%d %H:%M:%S}",
        _took(record),
        _short(" ".join(error.split())),
    ]


def _short(text: str, longest: int = 80) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _took(record: "RunRecord") -> str:
    if record.finished_at is None:
        return ""
    return str(datetime.timedelta(seconds=round((record.finished_at - record.started_at).total_seconds())))


def _time(time: datetime.datetime | None) -> str | None:
    """Return a time of the run store's, as ISO text that says that it is in UTC."""
    return None if time is None else time.replace(tzinfo=datetime.UTC).isoformat(timespec="seconds")


def _record_json(record: "RunRecord") -> dict[str, Any]:
    import json
    from dataclasses import asdict

    return {
        "id": record.id,
        "workflow": record.key.workflow,
        "reference_date": record.key.reference_date,
        "parameters": json.loads(record.key.parameters),
        "attempt": record.attempt,
        "state": record.state,
        "started_at": _time(record.started_at),
        "finished_at": _time(record.finished_at),
        "error": asdict(record.error) if record.error else None,
        "outputs": record.outputs,
        "holder": record.holder,
        "heartbeat_at": _time(record.heartbeat_at),
        "flow_run_id": record.flow_run_id,
        "forgiven_at": _time(record.forgiven_at),
        "pruned_at": _time(record.pruned_at),
    }


def _details(record: "RunRecord", prefect_url: str | None) -> dict[str, Any]:
    """Return what the executed notebooks tell, and where Prefect shows the run."""
    from pathlib import Path

    from autoflow.executed_notebook import ExecutedNotebook

    paths = {label: Path(files["notebook"]) for label, files in record.outputs.items() if "notebook" in files}
    read = {label: ExecutedNotebook.read(path) for label, path in paths.items()}
    found = {label: notebook for label, notebook in read.items() if notebook}
    failed = found.get(record.error.notebook or "") if record.error else None
    cell = record.error.cell if record.error else None
    ui = prefect_url.removesuffix("/api") if prefect_url and record.flow_run_id else None
    return {
        "notebooks": {
            label: {"started_at": notebook.started_at, "seconds": notebook.seconds} for label, notebook in found.items()
        },
        "failed_source": failed.source(cell) if failed and cell else None,
        "prefect": f"{ui}/runs/flow-run/{record.flow_run_id}" if ui else None,
    }


def _print_details(content: Mapping[str, Any]) -> None:
    lines = {
        "run": f"{content['id']}: {content['workflow']} {content['reference_date']}, attempt {content['attempt']}",
        "state": content["state"],
        "parameters": ", ".join(f"{name}={value!r}" for name, value in content["parameters"].items()) or "none",
        "started": content["started_at"],
        "ended": content["finished_at"],
        "run by": content["holder"],
        "last heartbeat": content["heartbeat_at"] if content["finished_at"] is None else None,
        "forgiven": content["forgiven_at"],
        "pruned": content["pruned_at"],
        "in Prefect": content["prefect"],
    }
    out = console()
    for name, value in lines.items():
        if value is not None:
            out.print(f"{name:<15} {value}", markup=False, soft_wrap=True)
    for label, files in content["outputs"].items():
        seconds = (content["notebooks"].get(label) or {}).get("seconds")
        took = f" ({seconds:.1f} s)" if seconds is not None else ""
        out.print(f"notebook {label}{took}", markup=False, soft_wrap=True)
        for path in (files.get("notebook"), *files.get("reports", ())):
            out.print(f"    {path}", markup=False, soft_wrap=True)
    if content["error"]:
        _print_error(content)


def _print_error(content: Mapping[str, Any]) -> None:
    error = content["error"]
    places = (("notebook", error["notebook"]), ("cell", error["cell"]))
    where = ", ".join(f"{what} {place}" for what, place in places if place is not None)
    out = console()
    out.print(f"error           {where or 'outside of the notebooks'}", markup=False, soft_wrap=True)
    for line in (content["failed_source"] or "").splitlines():
        out.print(f"    | {line}", markup=False, soft_wrap=True)
    out.print(f"    {error['error_class']}: {error['message']}", markup=False, soft_wrap=True, style="red")


def _mark(check: "Check") -> tuple[str, str]:
    """Return the mark before a check, and its style."""
    if check.problems:
        return "WRONG", "bold red"
    return ("-", "yellow") if check.is_open else ("ok", "green")


def _print_checks(checks: Iterable["Check"], *, as_json: bool) -> int:
    """Print each check as it comes; return the exit code."""
    out = console()
    done = []
    for check in checks:
        done.append(check)
        if not as_json:
            mark, style = _mark(check)
            out.print(f"[{style}]{mark:<6}[/]", f"{check.subject:<15}", end="")
            for index, line in enumerate(check.problems or (check.note,)):
                out.print(line if index == 0 else f"{'':<22} {line}", markup=False, soft_wrap=True)
    is_good = not any(check.problems for check in done)
    if as_json:
        content = [
            {
                "subject": check.subject,
                "good": None if check.is_open else check.is_good,
                "problems": check.problems,
                "note": check.note,
            }
            for check in done
        ]
        print_json({"good": is_good, "checks": content})
    return 0 if is_good else 1

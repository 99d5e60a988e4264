"""`autoflow runs`: list runs, or show one."""

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from autoflow.cli.follow import follow as follow_run
from autoflow.cli.follow import run_of
from autoflow.cli.options import DATE, RUN_ID, as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import console, iso_time, print_json, print_table
from autoflow.dates.periods import describe_period
from autoflow.errors import AutoflowError, ExitCode, place_of
from autoflow.kernels.memory import in_units
from autoflow.model.provenance import Provenance
from autoflow.notebooks.executed import ExecutedNotebook
from autoflow.notebooks.live_files import progress_of_run
from autoflow.notebooks.redaction import Redaction
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.runs.checks import Checks
from autoflow.runs.naming import entry_name, label_of
from autoflow.runs.records import RunRecord, RunState, WorkflowKey
from autoflow.runs.run import named_entry
from autoflow.specs import TriggerSpec

MOST_RUNS = 1_000_000
"""The highest number of runs that can be listed at once."""

LONGEST_ERROR = 74
"""How much of an error the list shows, in characters."""


@click.group(invoke_without_command=True)
@click.option("--workflow", metavar="NAME", help="Only runs of this workflow, or of its entry WORKFLOW:LABEL.")
@click.option("--state", type=click.Choice([state.value for state in RunState]), help="Only runs in this state.")
@click.option("--from", "first", type=DATE, metavar="DATE", help="Only reference dates from DATE on.")
@click.option("--to", "last", type=DATE, metavar="DATE", help="Only reference dates up to DATE, inclusive.")
@click.option(
    "--limit", type=click.IntRange(1, MOST_RUNS), default=20, show_default=True, help="Maximum number of runs."
)
@as_json
@pass_session
@click.pass_context
def runs(  # noqa: PLR0913 - an argument for each option
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
    """List runs, newest first; `runs show ID` shows everything about one.

    \b
    Examples: autoflow runs --state failed --from 2016-01-01
              autoflow runs show 17
    """
    if context.invoked_subcommand is not None:
        return
    with session.store() as store:
        records = store.runs(
            **_of_entry(workflow, session.triggers),
            state=RunState(state) if state else None,
            first=first.date() if first else None,
            last=last.date() if last else None,
            limit=limit,
        )
    redaction = Redaction(session.settings.secrets)
    if as_json:
        print_json([_record_json(record, redaction, session.triggers) for record in records])
        return
    print_table(
        ["id#", "workflow", "date", "state", "started (UTC)", "took"],
        (_row(record, session) for record in records),
    )
    for record in records:
        for text in _remarks(record):
            console().print(f"{record.id}: {_shortened(text, redaction)}", markup=False)


def _of_entry(name: str | None, triggers: Sequence[TriggerSpec]) -> dict[str, Any]:
    """Return how to find the runs of a workflow, or of the entry WORKFLOW:LABEL, which may have been removed since."""
    workflow, colon, label = (name or "").rpartition(":")
    if not colon or any(each.workflow.name == name for each in triggers):
        return {"workflow": name}
    entries = [each for each in triggers if (each.workflow.name, each.label) == (workflow, label)]
    return {"workflow": WorkflowKey.of_trigger(entries[0])} if entries else {"workflow": workflow, "label": label}


@runs.command()
@click.argument("run_id", metavar="ID", type=RUN_ID)
@click.option("--follow", is_flag=True, help="First show the output of its cells, until it has ended.")
@click.option("--packages", is_flag=True, help="Print the packages it ran with, as a requirements file for pip.")
@as_json
@pass_session
def show(session: Session, run_id: int, *, follow: bool, packages: bool, as_json: bool) -> ExitCode:
    """Show everything about one run.

    That is its parameters, times and outputs, what it was made from and, if it failed, the error and the cell that
    raised it. With --follow, show its cells with their output as they run, whichever process runs them; the exit code
    is 0 if the run succeeds.

    \b
    Examples: autoflow runs show 17
              autoflow runs show 17 --follow
    """
    if follow and (as_json or packages):
        raise click.UsageError("--follow cannot be used together with --json or --packages")
    if follow:
        follow_run(session, run_id)
    with session.store() as store:
        record = run_of(store, run_id)
        if packages:
            _print_packages(record, Provenance(store.database), as_json=as_json)
            return ExitCode.SUCCESS
    _print_record(session, record, as_json=as_json)
    return ExitCode.FAILURE if follow and not record.state.has_succeeded else ExitCode.SUCCESS


def _print_record(session: Session, record: RunRecord, *, as_json: bool) -> None:
    url = session.settings.prefect_api_url or DaemonFiles(home=session.settings.prefect_home).api_url
    redaction = Redaction(session.settings.secrets)
    content = _record_json(record, redaction, session.triggers) | redaction.of_value(_details(record, url))
    progress = progress_of_run(session.settings.outputs_dir, record.id) if record.state.is_active else None
    content["run_dir"] = session.settings.outputs_dir / record.run_dir if record.run_dir else None
    content["progress"] = redaction.of_text(progress.text) if progress else None
    if as_json:
        print_json(content)
    else:
        _print_details(content)


def _print_packages(record: RunRecord, provenance: Provenance, *, as_json: bool) -> None:
    if record.made_from is None:
        raise AutoflowError(f"the packages of run {record.id} are unknown: its AutoFlow did not record them")
    lines = provenance.packages(record.made_from["packages"])
    if as_json:
        print_json(lines)
    else:
        click.echo("\n".join(lines))


def _row(record: RunRecord, session: Session) -> list[object]:
    key = session.without_secrets(record.key).workflow_key
    return [
        record.id,
        entry_name(key, session.triggers, label=record.label),
        record.key.reference_date,
        record.state if record.attempt == 1 else f"{record.state}, attempt {record.attempt}",
        f"{record.started_at:%Y-%m-%d %H:%M}",
        _took(record),
    ]


def _remarks(record: RunRecord) -> Iterable[str]:
    """Yield why a run failed or was skipped, and what its checks warn of."""
    if error := record.failure:
        yield f"{error.notebook or ''} {error.error_class}: {error.message}"
    if record.skipped:
        yield f"skipped: {record.skipped}"
    yield from (f"warning: {warning}" for warning in record.warnings)


def _shortened(text: str, redaction: Redaction) -> str:
    line = redaction.of_text(" ".join(text.split()))
    return line if len(line) <= LONGEST_ERROR else line[: LONGEST_ERROR - 1] + "…"


def _took(record: RunRecord) -> str:
    if record.finished_at is None:
        return ""
    return str(datetime.timedelta(seconds=round((record.finished_at - record.started_at).total_seconds())))


def _record_json(record: RunRecord, redaction: Redaction, triggers: Sequence[TriggerSpec]) -> dict[str, Any]:
    """Return what the run store has about a run; rows of old versions may have secrets."""
    return {
        "id": record.id,
        "workflow": record.key.workflow,
        "label": label_of(record.key.workflow_key, triggers, label=record.label),
        "every": record.key.every,
        "reference_date": record.key.reference_date,
        "parameters": redaction.of_parameters(json.loads(record.key.parameters)),
        "attempt": record.attempt,
        "missing_days": record.missing_days,
        "is_try_out": record.is_try_out,
        "state": record.state,
        "started_at": iso_time(record.started_at),
        "finished_at": iso_time(record.finished_at),
        "error": redaction.of_value(asdict(record.failure)) if record.failure else None,
        "skipped": redaction.of_text(record.skipped) or None,
        "checks": redaction.of_value(record.checks or {}),
        "outputs": record.outputs,
        "taken_over": record.taken_over,
        "holder": record.holder,
        "heartbeat_at": iso_time(record.heartbeat_at),
        "flow_run_id": record.flow_run_id,
        "forgiven_at": iso_time(record.forgiven_at),
        "pruned_at": iso_time(record.pruned_at),
        "made_from": record.made_from,
    }


def _details(record: RunRecord, prefect_url: str | None) -> dict[str, Any]:
    """Return details from the executed notebooks, and the run's address in Prefect's UI."""
    paths = {label: Path(files["notebook"]) for label, files in record.outputs.items() if "notebook" in files}
    read = {label: ExecutedNotebook.read(path) for label, path in paths.items()}
    found = {label: notebook for label, notebook in read.items() if notebook}
    failed = found.get(record.failure.notebook or "") if record.failure else None
    cell = record.failure.cell if record.failure else None
    ui = prefect_url.removesuffix("/api") if prefect_url and record.flow_run_id else None
    return {
        "notebooks": {
            label: {
                "started_at": notebook.started_at,
                "seconds": notebook.seconds,
                "peak_memory": notebook.peak_memory,
            }
            for label, notebook in found.items()
        },
        "failed_source": failed.source(cell) if failed and cell else None,
        "prefect": f"{ui}/runs/flow-run/{record.flow_run_id}" if ui else None,
    }


def _name(content: Mapping[str, Any]) -> str:
    entry = named_entry(content["workflow"], content["label"])
    return f"{entry} {describe_period(content['reference_date'], content['every'])}"


def _print_details(content: Mapping[str, Any]) -> None:
    lines = {
        "run": f"{content['id']}: {_name(content)}, attempt {content['attempt']}",
        "state": content["state"],
        "skipped because": content["skipped"],
        "progress": content["progress"],
        "parameters": ", ".join(f"{name}={value!r}" for name, value in content["parameters"].items()) or "none",
        "missing days": content["missing_days"] or None,
        "try-out": "yes, its parameters were those of no entry" if content["is_try_out"] else None,
        "started": content["started_at"],
        "ended": content["finished_at"],
        "run by": content["holder"],
        "last heartbeat": content["heartbeat_at"] if content["finished_at"] is None else None,
        "forgiven": content["forgiven_at"],
        "pruned": content["pruned_at"],
        "in Prefect": content["prefect"],
        "folder": content["run_dir"],
        **_made_from(content["made_from"] or {}),
    }
    out = console()
    for name, value in lines.items():
        if value is not None:
            out.print(f"{name:<15} {value}", markup=False, soft_wrap=True)
    _print_outputs(content)
    _print_checks(content["checks"])
    if content["error"]:
        _print_error(content)


def _print_outputs(content: Mapping[str, Any]) -> None:
    out, taken = console(), content["taken_over"]
    for label, files in content["outputs"].items():
        notebook = content["notebooks"].get(label) or {}
        seconds, peak = notebook.get("seconds"), notebook.get("peak_memory")
        used = [f"{seconds:.1f} s" if seconds is not None else "", in_units(peak) if peak else ""]
        took = f" ({', '.join(filter(None, used))})" if any(used) else ""
        origin = f", taken over from run {taken[label]}" if label in taken else ""
        out.print(f"notebook {label}{took}{origin}", markup=False, soft_wrap=True)
        for path in (files.get("notebook"), *files.get("reports", ())):
            out.print(f"    {path}", markup=False, soft_wrap=True)


def _made_from(content: Mapping[str, Any]) -> dict[str, str | None]:
    """Return lines about what a run was made from."""
    if not content:
        return {}
    git = content.get("git") or {}
    state = "" if git.get("is_clean", True) else ", with changes that are not committed"
    sources = [f"{label} {source['cells'][:8]}" for label, source in content["notebooks"].items() if source]
    beside = sorted({name for each in content["notebooks"].values() for name in _beside(each)})
    packages = f"packages {content['packages'][:8]}"
    return {
        "made with": f"AutoFlow {content['version']}, Python {content['python']}, {packages} ('--packages' lists them)",
        "notebooks": ", ".join(sources) or None,
        "files beside": ", ".join(beside) or None,
        "inputs in git": f"{git['commit']}{state}" if git else None,
    }


def _beside(source: Mapping[str, Any]) -> Iterable[str]:
    return (*source.get("modules", ()), *source.get("files", ()))


def _print_checks(checks: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the checks of each notebook: how many there were, and those that are kept."""
    out = console()
    for label, content in checks.items():
        found = Checks.of_json(content)
        out.print(f"checks of {label}: {found.summary}", markup=False, soft_wrap=True)
        for check in found.kept:
            state = "passed " if check.ok else "warning" if check.is_warning else "failed "
            style = "green" if check.ok else "yellow" if check.is_warning else "red"
            where = f" (cell {check.cell})" if check.cell else ""
            out.print(f"    {state} {check}{where}", markup=False, soft_wrap=True, style=style)


def _print_error(content: Mapping[str, Any]) -> None:
    error = content["error"]
    where = place_of(error["notebook"], error["cell"], error["code"])
    out = console()
    out.print(f"error           {where or 'outside of the notebooks'}", markup=False, soft_wrap=True)
    for line in (content["failed_source"] or "").splitlines():
        out.print(f"    | {line}", markup=False, soft_wrap=True)
    out.print(f"    {error['error_class']}: {error['message']}", markup=False, soft_wrap=True, style="red")

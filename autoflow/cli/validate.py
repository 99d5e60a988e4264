"""`autoflow validate`: check everything that AutoFlow needs, before it runs."""

import datetime
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import click

from autoflow.cli.checks import Check, check_database, print_checks
from autoflow.cli.options import as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import count
from autoflow.cluster import inspected_cluster
from autoflow.dates.availability import Availability
from autoflow.errors import (
    ClusterError,
    ExitCode,
    FlowApiError,
    ReportError,
    RunStoreError,
    SettingsError,
    WorkflowsFileError,
)
from autoflow.flowapi import FlowApi
from autoflow.messages.recipients import Recipients
from autoflow.model.store import RunStore
from autoflow.orchestration.server_process import is_ready
from autoflow.parser import read_workflows
from autoflow.reports import missing_fonts, missing_tools, try_template
from autoflow.runs.changes import due_anew
from autoflow.runs.plan import due_work, keys_with_reruns
from autoflow.runs.records import utc_now
from autoflow.settings import UNNAMED, Settings
from autoflow.specs import NotebookSpec, WorkflowsFile
from autoflow.system.disk import disk_problem, full_disk

ACTIONS = ("get_available_dates", "run", "get_result")
"""The actions (FlowAPI's term) that the token has to allow for AutoFlow, and for notebooks with queries."""


@click.command
@click.option("--offline", is_flag=True, help="Do not contact FlowAPI.")
@as_json
@pass_session
def validate(session: Session, *, offline: bool, as_json: bool) -> ExitCode:
    """Check everything that AutoFlow needs: settings, workflows.yml, notebooks, tools, database, FlowAPI and token.

    It prints a line for each check, and every problem.

    \b
    Example: autoflow validate --offline
    """
    try:
        settings = session.settings
    except SettingsError as error:
        return print_checks([Check(subject="settings", problems=error.problems)], as_json=as_json)
    return print_checks(all_checks(settings, datetime.datetime.now(datetime.UTC), offline=offline), as_json=as_json)


def all_checks(settings: Settings, now: datetime.datetime, *, offline: bool = False) -> Iterator[Check]:
    """Yield each check as soon as it was made; `now` is in UTC, with its time zone.

    With `offline`, FlowAPI is not contacted.
    """
    yield Check(subject="settings", note=f"inputs from {settings.inputs_dir}, outputs to {settings.outputs_dir}")
    file = None
    try:
        file = read_workflows(settings)
        yield from _check_inputs(file, settings)
    except WorkflowsFileError as error:
        yield from _wrong_inputs(error)
    yield _check_tools(file)
    yield check_database(settings, made_at_start=_folders(settings))
    yield _check_outputs(settings)
    yield _check_disks(settings)
    yield _check_messages(settings)
    if settings.prefect_api_url:
        yield _check_prefect(settings.prefect_api_url)
    if settings.dask_scheduler:
        yield _check_cluster(settings)
    flowapi = FlowApi.of(settings)
    if not offline:
        yield from _check_flowapi(flowapi, file, settings)
    yield _check_token(flowapi, now)


def _check_inputs(file: WorkflowsFile, settings: Settings) -> Iterator[Check]:
    notebooks = [notebook for workflow in file.workflows for notebook in workflow.notebooks]
    schedule = f"schedule '{file.sensor.schedule}'" if file.sensor.schedule else "no schedule"
    entries = count(len(file.sensor.triggers), "sensor entry", "sensor entries")
    templates, refused, warned = _tried_templates(notebooks, settings)
    notes = {
        "workflows.yml": f"{count(len(file.workflows), 'workflow')}, {entries}, {schedule}",
        "notebooks": count(len({notebook.path for notebook in notebooks}), "file"),
        "templates": ", ".join(templates),
    }
    problems = _by_subject(finding.text for finding in file.findings if finding.fails_runs)
    problems["templates"] += refused
    warnings = _by_subject(finding.text for finding in file.findings if not finding.fails_runs)
    warnings["templates"] += warned
    for subject, note in notes.items():
        yield Check(subject=subject, problems=problems[subject], warnings=warnings[subject], note=note)


def _tried_templates(
    notebooks: Sequence[NotebookSpec], settings: Settings
) -> tuple[Sequence[str], tuple[str, ...], tuple[str, ...]]:
    """Try each template in each format that it is used for; return the templates, the problems and the warnings."""
    default = settings.asciidoc_template_path
    outputs = [notebook.output for notebook in notebooks if notebook.output]
    uses = {(output.template or default, each) for output in outputs for each in output.formats}
    problems: list[str] = []
    warnings: list[str] = []
    for template, report_format in sorted(uses) if not missing_tools() else ():
        try:
            warnings += try_template(template, report_format, timeout=settings.report_timeout)
        except ReportError as error:
            problems.append(str(error))
    templates = sorted({str(template) for template, _ in uses}) or [str(default)]
    return templates, tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(warnings))


def _wrong_inputs(error: WorkflowsFileError) -> Iterator[Check]:
    for subject, problems in _by_subject(error.problems).items():
        # While the file is invalid, the rest cannot be checked.
        note = "" if problems else "not fully checked, because workflows.yml has problems"
        yield Check(subject=subject, problems=problems, note=note, is_open=not problems)


def _by_subject(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return lines about workflows.yml by subject, which follows from the last key in the path of each."""
    about: dict[str, tuple[str, ...]] = {"workflows.yml": (), "notebooks": (), "templates": ()}
    for line in lines:
        place = re.match(r"[^:]+:\d+: (.+?): ", line)
        key = place[1].rpartition(".")[2] if place else ""
        subject = {"filename": "notebooks", "template": "templates"}.get(key, "workflows.yml")
        about[subject] = (*about[subject], line)
    return about


def _check_tools(file: WorkflowsFile | None) -> Check:
    if file and not any(notebook.output for workflow in file.workflows for notebook in workflow.notebooks):
        return Check(subject="tools", note="not needed: no workflow makes reports")
    found = "; ".join(("pandoc, asciidoctor-pdf", *missing_fonts()))
    return Check(subject="tools", problems=missing_tools(), note=found)


def _check_outputs(settings: Settings) -> Check:
    problems = [problem for folder in dict.fromkeys(_folders(settings)) if (problem := _not_writable(folder))]
    return Check(subject="outputs folder", problems=tuple(problems), note=str(settings.outputs_dir))


def _folders(settings: Settings) -> tuple[Path, ...]:
    """Return the folders that AutoFlow makes when it starts."""
    return (settings.outputs_dir, settings.notebooks_dir, settings.reports_dir)


def _not_writable(folder: Path) -> str | None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return f"cannot write to {existing}: {error.strerror}"


def _check_disks(settings: Settings) -> Check:
    if problem := full_disk(settings.written_folders):
        return Check(subject="disks", problems=(f"{problem}; until then, no run starts",))
    if problem := disk_problem(settings.written_folders):
        return Check(subject="disks", note=problem, is_open=True)
    return Check(subject="disks", note="there is room")


def _check_messages(settings: Settings) -> Check:
    """Check that Apprise supports the URLs for messages; 'autoflow notify' checks that messages arrive."""
    try:
        numbers = Recipients(settings).numbers
    except SettingsError as error:
        return Check(subject="messages", problems=error.problems)
    to = [f"{name} ({count(number, 'URL')})" for name, number in numbers.items() if name != UNNAMED]
    if UNNAMED in numbers:
        to.append(count(numbers[UNNAMED], "URL without a name", "URLs without a name"))
    has_nobody = bool(numbers) and UNNAMED not in numbers
    warning = "AUTOFLOW_NOTIFY_URLS has no URL without a name: nobody gets messages about AutoFlow itself"
    return Check(
        subject="messages",
        note=", ".join(to) or "to nobody: AUTOFLOW_NOTIFY_URLS is not set",
        warnings=(warning,) if has_nobody else (),
    )


def _check_prefect(url: str) -> Check:
    problems = () if is_ready(url) else (f"{url} does not answer: check PREFECT_API_URL",)
    return Check(subject="Prefect API", problems=problems, note=url)


def _check_cluster(settings: Settings) -> Check:
    try:
        state = inspected_cluster(settings)
    except SettingsError as error:
        return Check(subject="cluster", problems=error.problems)
    except ClusterError as error:
        hint = "start it with 'autoflow scheduler', or check the network and the certificates"
        return Check(subject="cluster", problems=(f"{error}: {hint}",))
    assert state  # noqa: S101 - there is a scheduler
    problems = (f"{state.problem}: start one with 'autoflow worker'",) if state.problem else ()
    warnings = (*state.lines, state.summary) if problems or state.lines else ()
    return Check(subject="cluster", problems=problems, warnings=warnings, note=state.summary)


def _check_flowapi(flowapi: FlowApi, file: WorkflowsFile | None, settings: Settings) -> Iterator[Check]:
    try:
        found = flowapi.available_dates()
    except FlowApiError as error:
        yield Check(subject="FlowAPI", problems=(str(error),))
        return
    dates = found.only(file.sensor.cdr_types if file else None).to().dates
    span = f" from {min(dates)} to {max(dates)}" if dates else ""
    yield Check(subject="FlowAPI", note=f"{flowapi.url} has {count(len(dates), 'date')}{span}")
    if file:
        yield _check_due(file, found, settings)


def _check_due(file: WorkflowsFile, found: Availability, settings: Settings) -> Check:
    """Check how many dates are due, and warn if that is because of an edit of workflows.yml."""
    triggers = file.sensor.triggers
    try:
        # The check of the database reports an error.
        with closing(RunStore(settings.db_uri)) as store:
            is_old = store.exists
            histories = store.histories(keys_with_reruns(triggers)) if is_old else {}
            arrivals = store.preview_arrivals(found.types) if is_old else {}
    except RunStoreError:
        return Check(subject="due dates", note="unknown without the database", is_open=True)
    availability = found.with_arrivals(arrivals).only(file.sensor.cdr_types)
    now = utc_now()
    total = due_work(triggers, availability, histories, now, most=0).total
    anew = due_anew(triggers, availability, histories, now)
    return Check(subject="due dates", note=count(total, "run"), warnings=(str(anew),) if anew.is_large else ())


def _check_token(flowapi: FlowApi, now: datetime.datetime) -> Check:
    if flowapi.token_problem:
        return Check(subject="token", problems=(flowapi.token_problem,))
    scopes = flowapi.token_scopes()
    expiry = flowapi.token_expiry()
    if expiry and expiry <= now:
        problem = f"FLOWAPI_TOKEN has expired ({expiry:%Y-%m-%d %H:%M} UTC): get a new one from FlowAuth"
        return Check(subject="token", problems=(problem,))
    if scopes is None:
        return Check(subject="token", problems=("FLOWAPI_TOKEN is not a token for FlowAPI: get one from FlowAuth",))
    allowed = frozenset().union(*scopes.values())
    missing = [action for action in ACTIONS if action not in allowed]
    hint = f"; it does not allow {', '.join(missing)}" if missing else ""
    when = f"expires {expiry:%Y-%m-%d %H:%M} UTC" if expiry else "never expires"
    found = f"{count(len(allowed), 'scope')} in {count(len(scopes), 'role')}"
    return Check(subject="token", note=f"{when}; {found}{hint}")

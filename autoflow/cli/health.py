"""`autoflow health`: report what needs attention, or with `--live` only what a restart of the daemon would fix.

Prefect is asked by plain HTTP: importing it takes two seconds of CPU time, and this command may run every minute.
"""

import base64
import datetime
import json
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import click

from autoflow.cli.checks import Check, check_database, print_checks
from autoflow.cli.options import as_json
from autoflow.cli.session import Session, pass_session
from autoflow.cli.show import iso_time
from autoflow.errors import ExitCode, RunStoreError, WorkflowsFileError
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.server_process import is_ready
from autoflow.orchestration.sights import file_problem, is_readable, see
from autoflow.parser import read_workflows
from autoflow.runs.attention import PREFECT_PATIENCE, Condition, Facts, Need, attention, given_up
from autoflow.runs.naming import run_name
from autoflow.runs.plan import given_up_dates
from autoflow.runs.records import RunKey
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile
from autoflow.system.disk import full_disk
from autoflow.utils import redact

OVERDUE_AFTER = datetime.timedelta(minutes=5)
"""A tick is overdue if it was due this long ago, and no tick is running."""

HANGS_AFTER = datetime.timedelta(minutes=3)
"""Without a sign of life for this long, the daemon hangs; it shows one every 15 seconds."""

TIMEOUT = 5.0
"""How long Prefect may take for an answer, in seconds."""

SENSOR = "available_dates_sensor/available-dates-sensor"
"""The sensor's deployment, as Prefect names it."""

SUBJECTS = (Need.WORKFLOWS_FILE, Need.TOKEN, Need.FLOWAPI, Need.STUCK, Need.GIVEN_UP, Need.DISK)
"""Subjects with a line of their own, besides the database, the Prefect API and the ticks."""


@click.command
@click.option("--live", is_flag=True, help="Fail only if a restart of the daemon would help.")
@as_json
@pass_session
def health(session: Session, *, live: bool, as_json: bool) -> ExitCode:
    """Check whether AutoFlow needs attention, and say why and what to do.

    It fails if workflows.yml is invalid, the token or FlowAPI fails, a run is stuck, a disk is nearly full, the
    database is gone, the daemon does not run, or ticks fail. Dates that were given up since the last call are noted.

    \b
    Examples: autoflow health --json
              autoflow health --live
    """
    settings, now = session.settings, datetime.datetime.now(datetime.UTC)
    if live:
        return print_checks(live_checks(settings, now), as_json=as_json)
    found = conditions(settings, now)
    files = DaemonFiles(home=settings.prefect_home)
    state = files.facts().cluster_state if settings.dask_scheduler else None
    more = {"conditions": list(map(_condition_json, found)), "cluster": state.as_json() if state else None}
    code = print_checks(daemon_checks(settings, now, found), as_json=as_json, more=more)
    files.record_look(now)
    return code


def live_checks(settings: Settings, now: datetime.datetime) -> list[Check]:
    """Check only what a restart of the daemon would fix; `now` is in UTC, with its time zone."""
    files = DaemonFiles(home=settings.prefect_home)
    daemon = _check_life(files, now)
    if daemon.problems and (full := full_disk([files.home])):
        # The daemon cannot write its files, so its state is unknown; a restart would not make room.
        daemon = Check(subject="daemon", note=f"unknown, because {full}", is_open=True)
    return [daemon, _check_server(settings, files, now)]


def _check_life(files: DaemonFiles, now: datetime.datetime) -> Check:
    beat = files.last_beat
    if files.daemon_is_gone:
        problem = "the daemon died unexpectedly; restart it"
    elif files.is_starting:
        return Check(subject="daemon", note="starting")
    elif files.api_url is None or beat is None:
        problem = "no daemon is running; start it"
    elif now - beat > HANGS_AFTER:
        problem = f"the daemon hangs: it has shown no sign of life since {_time(beat)}; restart it"
    else:
        return Check(subject="daemon", note=f"its last sign of life was at {_time(beat)}")
    return Check(subject="daemon", problems=(problem,))


def _check_server(settings: Settings, files: DaemonFiles, now: datetime.datetime) -> Check:
    """Check AutoFlow's own Prefect server, which the daemon restarts itself; a restart does not fix another one."""
    url, standing = files.api_url, files.facts().prefect
    if settings.prefect_api_url or url is None or standing is None or standing.is_good:
        return Check(subject="Prefect server", note=url or settings.prefect_api_url or "none")
    since = standing.since.replace(tzinfo=datetime.UTC)
    if now - since < PREFECT_PATIENCE or is_ready(url, timeout=TIMEOUT):
        return Check(subject="Prefect server", note=f"the daemon restarts it (since {_time(since)})")
    problem = f"{url} has not answered since {_time(since)}, and the daemon could not restart it; restart the daemon"
    return Check(subject="Prefect server", problems=(problem,))


def conditions(settings: Settings, now: datetime.datetime) -> list[Condition]:
    """Return what needs attention: what the daemon has found out, and what this process can see."""
    files = DaemonFiles(home=settings.prefect_home)
    facts, naive = files.facts(), now.replace(tzinfo=None)
    file, mistakes = _read_file(settings)
    triggers = file.sensor.triggers if file else ()

    def name(key: RunKey) -> str:
        """Return the name of a run; rows of old versions may have a secret as a parameter."""
        return redact(run_name(key, triggers), settings.secrets)

    sights, warning = see(settings, None, facts, mistakes), None
    if is_readable(settings, facts):
        # The check of the database reports an error.
        with suppress(RunStoreError), closing(RunStore(settings.db_uri)) as store:
            sights = see(settings, store, facts, mistakes)
            warning = given_up(given_up_dates(triggers, store.histories()), files.looked_at, name=name)
    found = attention(facts, sights, naive, notify_after=settings.notify_after, name=name)
    return [*found.conditions, *([warning] if warning else [])]


def _read_file(settings: Settings) -> tuple[WorkflowsFile | None, Sequence[str]]:
    """Return the contents of workflows.yml, and its mistakes."""
    try:
        return read_workflows(settings), ()
    except WorkflowsFileError as error:
        return None, [redact(problem, settings.secrets) for problem in error.problems]


def daemon_checks(settings: Settings, now: datetime.datetime, found: Sequence[Condition] | None = None) -> list[Check]:
    """Check the daemon that has these settings; `now` is in UTC, with its time zone.

    `found` is what needs attention, if that was determined already.
    """
    if found is None:
        found = conditions(settings, now)
    files = DaemonFiles(home=settings.prefect_home)
    url = settings.prefect_api_url or files.api_url
    prefect = _check_prefect(url, is_starting=files.is_starting)
    if url and prefect.is_good:
        ticks = _check_ticks(files, _Api(url, _authorization(settings.environ)), now)
    else:
        ticks = Check(subject="ticks", problems=prefect.problems)
    life = _check_life(files, now)
    if ticks.is_good and files.api_url and life.problems:
        ticks = replace(ticks, problems=life.problems)
    # Whoever opens a file that is not the daemon's could spoil what can still be saved.
    is_lost = file_problem(settings, files.facts()) is not None
    checks = [Check(subject="database") if is_lost else check_database(settings), prefect, ticks]
    if settings.dask_scheduler:
        checks.append(_check_cluster(files, found, is_running=not life.problems))
    known = {check.subject for check in checks}
    checks += [
        Check(subject=need.subject, note=_note(need, files.facts())) for need in SUBJECTS if need.subject not in known
    ]
    return [_with(check, found) for check in checks]


def _check_cluster(files: DaemonFiles, found: Iterable[Condition], *, is_running: bool) -> Check:
    """Return the line about the cluster, as the daemon saw it a few seconds ago."""
    state, subject = files.facts().cluster_state, Need.CLUSTER.subject
    if state is None or not is_running:
        return Check(subject=subject, note="unknown without a running daemon", is_open=True)
    # What has lasted for long enough is a condition, which is shown anyway.
    is_shown = any(condition.need in {Need.CLUSTER, Need.WORKERS} for condition in found)
    lines = () if is_shown else (*([state.problem] if state.problem else []), *state.lines)
    return Check(subject=subject, note=state.summary, warnings=(*lines, state.summary) if lines or is_shown else ())


def _with(check: Check, found: Iterable[Condition]) -> Check:
    """Return the check with the conditions that are about its subject."""
    about = [condition for condition in found if condition.need.subject == check.subject]
    lines = {
        is_warning: tuple(
            line for each in about if each.is_warning is is_warning for line in (each.text, *each.details)
        )
        for is_warning in (False, True)
    }
    return replace(check, problems=(*lines[False], *check.problems), warnings=(*check.warnings, *lines[True]))


def _note(need: Need, facts: Facts) -> str:
    """Return the note for a subject that needs no attention."""
    standing = {Need.FLOWAPI: facts.flowapi, Need.TOKEN: facts.token}.get(need)
    if standing and standing.error:
        return f"failing since {_time(standing.since.replace(tzinfo=datetime.UTC))}: {standing.error}"
    notes = {
        Need.WORKFLOWS_FILE: "valid",
        Need.TOKEN: "accepted" if standing else "not known to be refused",
        Need.FLOWAPI: "answers" if standing else "not known to fail",
        Need.STUCK: "none",
        Need.GIVEN_UP: "none since the last look",
        Need.DISK: "enough room",
    }
    return notes[need]


def _condition_json(condition: Condition) -> dict[str, object]:
    return {
        "subject": condition.need.subject,
        "since": iso_time(condition.since),
        "reason": condition.reason,
        "what_to_do": condition.what_to_do,
        "details": condition.details,
        "run": condition.run_id,
        "warning": condition.is_warning,
    }


def _check_prefect(url: str | None, *, is_starting: bool) -> Check:
    if is_starting:
        problem = "the daemon is starting: its Prefect API does not answer yet"
    elif url is None:
        problem = "no daemon is running"
    elif is_ready(url, timeout=TIMEOUT):
        return Check(subject="Prefect API", note=url)
    else:
        problem = f"{url} does not answer"
    return Check(subject="Prefect API", problems=(problem,))


@dataclass(frozen=True)
class _Api:
    """Prefect's API at `url`, with the header Authorization that it needs, if any."""

    url: str
    authorization: Mapping[str, str] = field(repr=False)

    def ask(self, path: str, question: Mapping[str, Any] | None = None) -> Any:
        content = None if question is None else json.dumps(question).encode()
        headers = {"Content-Type": "application/json", **self.authorization}
        request = urllib.request.Request(f"{self.url}{path}", content, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.load(answer)


def _authorization(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the header that Prefect's own client would send."""
    if login := environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    if key := environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    return {}


def _check_ticks(files: DaemonFiles, api: _Api, now: datetime.datetime) -> Check:
    tick = files.last_tick()
    if files.daemon_is_gone:
        return Check(subject="ticks", problems=("the daemon died unexpectedly",))
    if tick and tick.ended_at is None:
        return Check(subject="ticks", note=f"a tick has been running since {_time(tick.began_at)}")
    try:
        problem = _overdue(api, now)
    except (OSError, ValueError, LookupError, TypeError) as error:
        is_refused = isinstance(error, urllib.request.HTTPError) and error.code == HTTPStatus.UNAUTHORIZED
        login = "Prefect refuses the login; check PREFECT_API_AUTH_STRING and PREFECT_API_KEY"
        problem = f"could not query ticks: {login if is_refused else type(error).__name__}"
    if problem:
        return Check(subject="ticks", problems=(problem,))
    if tick is None or tick.ended_at is None:
        return Check(subject="ticks", note="none yet")
    failure = f"; it failed: {tick.error}" if tick.error else ""
    return Check(subject="ticks", note=f"the last tick ended at {_time(tick.ended_at)}{failure}")


def _overdue(api: _Api, now: datetime.datetime) -> str | None:
    """Return what is wrong with the schedule in Prefect, where users may have changed it."""
    try:
        deployment = api.ask(f"/deployments/name/{SENSOR}")
    except urllib.request.HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return None  # the schedule is null
        raise
    if deployment["paused"] or not any(each["active"] for each in deployment["schedules"]):
        return None
    wanted = {"deployment_id": {"any_": [deployment["id"]]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
    scheduled = api.ask("/flow_runs/filter", {"flow_runs": wanted, "sort": "EXPECTED_START_TIME_ASC", "limit": 1})
    if not scheduled:
        return "Prefect has not scheduled a tick"
    first = datetime.datetime.fromisoformat(scheduled[0]["expected_start_time"])
    return f"a tick has been due since {_time(first)}" if now - first > OVERDUE_AFTER else None


def _time(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"

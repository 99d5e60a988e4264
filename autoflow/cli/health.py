"""`autoflow health`: check whether the database and the Prefect API answer, and no tick is overdue.

Prefect is asked by plain HTTP: importing it takes two seconds of CPU time, and this command may run every minute.
"""

import base64
import datetime
import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import click

from autoflow.cli.checks import Check, check_database, print_checks
from autoflow.cli.options import as_json
from autoflow.cli.session import Session, pass_session
from autoflow.errors import ExitCode
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.server_process import is_ready
from autoflow.settings import Settings

OVERDUE_AFTER = datetime.timedelta(minutes=5)
"""A tick is overdue if it was due this long ago, and no tick is running."""

TIMEOUT = 5.0
"""How long Prefect may take for an answer, in seconds."""

SENSOR = "available_dates_sensor/available-dates-sensor"
"""The sensor's deployment, as Prefect names it."""


@click.command
@as_json
@pass_session
def health(session: Session, *, as_json: bool) -> ExitCode:
    """Check whether the daemon is healthy.

    It is healthy if its database and its Prefect API answer, and no tick is overdue.

    \b
    Example: autoflow health --json
    """
    return print_checks(daemon_checks(session.settings, datetime.datetime.now(datetime.UTC)), as_json=as_json)


def daemon_checks(settings: Settings, now: datetime.datetime) -> list[Check]:
    """Check the daemon that has these settings; `now` is in UTC, with its time zone."""
    files = DaemonFiles(home=settings.prefect_home)
    url = settings.prefect_api_url or files.api_url
    prefect = _check_prefect(url, is_starting=files.is_starting)
    if url and prefect.is_good:
        ticks = _check_ticks(files, _Api(url, _authorization(settings.environ)), now)
    else:
        ticks = Check(subject="ticks", problems=prefect.problems)
    return [check_database(settings), prefect, ticks]


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

"""Whether the daemon is well: its database and Prefect API answer, and its ticks come when they should.

Prefect is asked by plain HTTP: to import it takes two seconds of CPU time, and this is done every minute.
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

from autoflow.cli.checks import Check, print_checks
from autoflow.cli.session import Session, as_json, pass_session
from autoflow.errors import RunStoreError
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.settings import Settings

OVERDUE_AFTER = datetime.timedelta(minutes=5)
"""A tick that has been due for so long, and has not begun while no other goes on, is overdue."""

TIMEOUT = 5.0
"""How long Prefect may take for an answer, in seconds."""

SENSOR = "available_dates_sensor/available-dates-sensor"
"""The sensor's deployment, as Prefect names it."""


def look(settings: Settings, now: datetime.datetime) -> list[Check]:
    """Look at the daemon whose settings these are; `now` is in UTC, with its time zone."""
    files = DaemonFiles(home=settings.prefect_home)
    url = settings.prefect_api_url or files.api_url
    api = _Api(url, _authorization(settings.environ)) if url else None
    prefect = _starting() if files.is_starting else _prefect(api)
    ticks = _ticks(files, api, now) if api and prefect.is_good else Check(subject="ticks", problems=prefect.problems)
    return [database(settings), prefect, ticks]


def database(settings: Settings) -> Check:
    """Look whether the run store answers."""
    try:
        store = RunStore(settings.db_uri)
        try:
            return Check(subject="database", note=store.look())
        finally:
            store.close()
    except RunStoreError as error:
        return Check(subject="database", problems=(str(error),))


@dataclass(frozen=True)
class _Api:
    """Prefect's API at `url`, with what it wants to see in its header Authorization, if anything."""

    url: str
    authorization: Mapping[str, str] = field(repr=False)

    def ask(self, path: str, question: Mapping[str, Any] | None = None) -> Any:
        content = None if question is None else json.dumps(question).encode()
        headers = {"Content-Type": "application/json", **self.authorization}
        request = urllib.request.Request(f"{self.url}{path}", content, headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.load(answer)


def _authorization(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the header with which Prefect's own client would come."""
    if login := environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    if key := environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    return {}


def _starting() -> Check:
    return Check(subject="Prefect API", problems=("the daemon is starting: its Prefect API does not answer yet",))


def _prefect(api: _Api | None) -> Check:
    if api is None:
        return Check(subject="Prefect API", problems=("no daemon is running",))
    try:
        api.ask("/health")
    except (OSError, ValueError):
        return Check(subject="Prefect API", problems=(f"{api.url} does not answer",))
    return Check(subject="Prefect API", note=api.url)


def _ticks(files: DaemonFiles, api: _Api, now: datetime.datetime) -> Check:
    tick = files.last_tick()
    if files.daemon_is_gone:
        return Check(subject="ticks", problems=("the daemon has ended without saying so",))
    if tick and tick.ended_at is None:
        return Check(subject="ticks", note=f"one goes on since {_time(tick.began_at)}")
    try:
        problem = _overdue(api, now)
    except (OSError, ValueError, LookupError, TypeError) as error:
        is_refused = isinstance(error, urllib.request.HTTPError) and error.code == HTTPStatus.UNAUTHORIZED
        reason = "PREFECT_API_AUTH_STRING is not its login" if is_refused else type(error).__name__
        return Check(subject="ticks", problems=(f"Prefect does not tell of them: {reason}",))
    if problem:
        return Check(subject="ticks", problems=(problem,))
    if tick is None or tick.ended_at is None:
        return Check(subject="ticks", note="none so far")
    failure = f"; it failed: {tick.error}" if tick.error else ""
    return Check(subject="ticks", note=f"last one at {_time(tick.ended_at)}{failure}")


def _overdue(api: _Api, now: datetime.datetime) -> str | None:
    """Return what is wrong with the schedule as Prefect has it, whoever has changed it there."""
    try:
        deployment = api.ask(f"/deployments/name/{SENSOR}")
    except urllib.request.HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            return None  # there is no deployment: schedule null
        raise
    if deployment["paused"] or not any(each["active"] for each in deployment["schedules"]):
        return None
    wanted = {"deployment_id": {"any_": [deployment["id"]]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
    scheduled = api.ask("/flow_runs/filter", {"flow_runs": wanted, "sort": "EXPECTED_START_TIME_ASC", "limit": 1})
    if not scheduled:
        return "Prefect has scheduled none"
    first = datetime.datetime.fromisoformat(scheduled[0]["expected_start_time"])
    return f"one has been due since {_time(first)}" if now - first > OVERDUE_AFTER else None


def _time(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


@click.command(short_help="Tell whether the daemon is well.")
@as_json
@pass_session
def health(session: Session, *, as_json: bool) -> int:
    """Tell whether the daemon is well: its database, its Prefect API, and that its ticks are not overdue.

    \b
    Example: autoflow health --json
    """
    return print_checks(look(session.settings, datetime.datetime.now(datetime.UTC)), as_json=as_json)

"""Whether the daemon is well: its database and Prefect API answer, and its ticks come when they should.

Prefect is asked by plain HTTP: to import it takes two seconds of CPU time, and this is done every minute.
"""

import datetime
import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from autoflow.checks import Check
from autoflow.daemon_files import DaemonFiles
from autoflow.errors import RunStoreError
from autoflow.model import RunStore
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
    prefect = _prefect(url)
    ticks = _ticks(files, url, now) if url and prefect.is_good else Check(subject="ticks", problems=prefect.problems)
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


def _prefect(url: str | None) -> Check:
    if url is None:
        return Check(subject="Prefect API", problems=("no daemon is running",))
    try:
        _ask(f"{url}/health")
    except (OSError, ValueError):
        return Check(subject="Prefect API", problems=(f"{url} does not answer",))
    return Check(subject="Prefect API", note=url)


def _ticks(files: DaemonFiles, url: str, now: datetime.datetime) -> Check:
    tick = files.last_tick()
    if files.daemon_is_gone:
        return Check(subject="ticks", problems=("the daemon has ended without saying so",))
    if tick and tick.ended_at is None:
        return Check(subject="ticks", note=f"one goes on since {_time(tick.began_at)}")
    try:
        problem = _overdue(url, now)
    except (OSError, ValueError, LookupError, TypeError) as error:
        return Check(subject="ticks", problems=(f"Prefect does not tell of them: {type(error).__name__}",))
    if problem:
        return Check(subject="ticks", problems=(problem,))
    if tick is None or tick.ended_at is None:
        return Check(subject="ticks", note="none so far")
    failure = f"; it failed: {tick.error}" if tick.error else ""
    return Check(subject="ticks", note=f"last one at {_time(tick.ended_at)}{failure}")


def _overdue(url: str, now: datetime.datetime) -> str | None:
    """Return what is wrong with the schedule as Prefect has it, whoever has changed it there."""
    try:
        deployment = _ask(f"{url}/deployments/name/{SENSOR}")
    except urllib.request.HTTPError as error:
        if error.code == 404:  # noqa: PLR2004 - there is no deployment: schedule null
            return None
        raise
    if deployment["paused"] or not any(each["active"] for each in deployment["schedules"]):
        return None
    wanted = {"deployment_id": {"any_": [deployment["id"]]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
    scheduled = _ask(f"{url}/flow_runs/filter", {"flow_runs": wanted, "sort": "EXPECTED_START_TIME_ASC", "limit": 1})
    if not scheduled:
        return "Prefect has scheduled none"
    first = datetime.datetime.fromisoformat(scheduled[0]["expected_start_time"])
    return f"one has been due since {_time(first)}" if now - first > OVERDUE_AFTER else None


def _time(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _ask(url: str, question: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
    content = None if question is None else json.dumps(question).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, content, headers)  # noqa: S310 - the URL is the operator's
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310
        return json.load(answer)

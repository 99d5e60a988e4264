"""Health, as another process sees it: by files, a database, and what a Prefect API says."""

import datetime
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from autoflow.cli.checks import Check
from autoflow.cli.health import look
from autoflow.errors import AutoflowError
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.prefect_api import free_port
from tests.conftest import Deployed

NOW = datetime.datetime.now(datetime.UTC)
DEPLOYMENT = "/api/deployments/name/available_dates_sensor/available-dates-sensor"
ACTIVE = {"id": "some-id", "paused": False, "schedules": [{"active": True}]}


@contextmanager
def prefect(
    deployment: Mapping[str, Any] | None = None, *due: datetime.datetime, authorization: str | None = None
) -> Iterator[str]:
    """Run a Prefect API that knows of one deployment, with runs that are due at these times; yield its URL.

    As Prefect's own, it says to anybody that it is well, but the rest only to those with its `authorization`.
    """
    scheduled = [{"expected_start_time": time.isoformat()} for time in due]

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, content: object) -> None:
            is_open = self.path.endswith("/health") or self.headers["Authorization"] == authorization
            self.send_response(401 if not is_open else 404 if content is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def do_GET(self) -> None:
            self._answer(deployment if self.path == DEPLOYMENT else True)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(scheduled)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api"
        finally:
            server.shutdown()
            thread.join()


def found(deployed: Deployed, **environ: str) -> dict[str, Check]:
    return {check.subject: check for check in look(deployed.settings(**environ), NOW)}


def files(deployed: Deployed) -> DaemonFiles:
    return DaemonFiles(home=deployed.settings().prefect_home)


def test_a_daemon_that_has_ticked_and_has_a_next_tick_is_well(deployed: Deployed) -> None:
    with closing(RunStore(deployed.settings().db_uri)) as store:
        store.migrate()
    with prefect(ACTIVE, NOW + datetime.timedelta(hours=1)) as url, files(deployed).published(url):
        with files(deployed).ticking():
            pass
        checks = found(deployed)
    assert all(check.is_good for check in checks.values())
    assert "version" in checks["database"].note
    assert checks["Prefect API"].note == url
    assert checks["ticks"].note.startswith("last one at ")


@pytest.mark.parametrize(
    ("due", "problem"),
    [
        ([NOW - datetime.timedelta(minutes=6)], "one has been due since"),
        ([], "Prefect has scheduled none"),
    ],
)
def test_ticks_that_do_not_come_are_told(deployed: Deployed, due: list[datetime.datetime], problem: str) -> None:
    with prefect(ACTIVE, *due) as url, files(deployed).published(url):
        assert problem in found(deployed)["ticks"].problems[0]


@pytest.mark.parametrize(
    ("authorization", "environ"),
    [
        ("Basic b3BlcmF0b3I6cMOkc3M=", {"PREFECT_API_AUTH_STRING": "operator:päss"}),
        ("Bearer pnu_1234567", {"PREFECT_API_KEY": "pnu_1234567"}),
    ],
)
def test_a_prefect_api_with_a_login_is_asked_with_it(
    deployed: Deployed, authorization: str, environ: dict[str, str]
) -> None:
    with prefect(ACTIVE, NOW + datetime.timedelta(minutes=1), authorization=authorization) as url:
        assert found(deployed, PREFECT_API_URL=url, **environ)["ticks"].is_good
        refused = found(deployed, PREFECT_API_URL=url)["ticks"]
    assert refused.problems == ("Prefect does not tell of them: PREFECT_API_AUTH_STRING is not its login",)


def test_a_tick_that_goes_on_keeps_the_next_one_waiting(deployed: Deployed) -> None:
    late = NOW - datetime.timedelta(hours=1)
    with prefect(ACTIVE, late) as url, files(deployed).published(url), files(deployed).ticking():
        assert "one goes on" in found(deployed)["ticks"].note


@pytest.mark.parametrize("deployment", [None, {**ACTIVE, "paused": True}, {**ACTIVE, "schedules": [{"active": False}]}])
def test_a_daemon_without_a_schedule_or_that_was_paused_is_well(
    deployed: Deployed, deployment: Mapping[str, Any] | None
) -> None:
    with prefect(deployment) as url, files(deployed).published(url):
        assert found(deployed)["ticks"].is_good


def test_the_error_of_the_last_tick_is_told(deployed: Deployed) -> None:
    with prefect() as url, files(deployed).published(url):
        with pytest.raises(AutoflowError), files(deployed).ticking():
            raise AutoflowError("FlowAPI is gone")
        assert found(deployed)["ticks"].note.endswith("it failed: FlowAPI is gone")


def test_a_prefect_api_that_is_gone_is_told(deployed: Deployed) -> None:
    with files(deployed).published(f"http://127.0.0.1:{free_port()}/api"):
        checks = found(deployed)
    assert "does not answer" in checks["Prefect API"].problems[0]
    assert not checks["ticks"].is_good


def test_a_database_that_is_gone_is_told(deployed: Deployed) -> None:
    uri = f"postgresql://autoflow@127.0.0.1:{free_port()}/runs"
    assert "cannot be read" in found(deployed, AUTOFLOW_DB_URI=uri)["database"].problems[0]


def test_a_daemon_that_was_killed_is_told(deployed: Deployed) -> None:
    home = files(deployed).home
    with prefect() as url:
        code = (
            "import os; from pathlib import Path; from autoflow.orchestration.daemon_files import DaemonFiles\n"
            f"with DaemonFiles(home=Path({str(home)!r})).published({url!r}): os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        assert found(deployed)["ticks"].problems == ("the daemon has ended without saying so",)


def test_a_daemon_that_is_starting_is_told_and_is_not_well_yet(deployed: Deployed) -> None:
    starting = ("the daemon is starting: its Prefect API does not answer yet",)
    with prefect() as url, files(deployed).starting():
        assert found(deployed)["Prefect API"].problems == starting
        with files(deployed).published(url):
            assert found(deployed)["Prefect API"].is_good
    assert found(deployed)["Prefect API"].problems == ("no daemon is running",)


def test_a_daemon_that_starts_beside_another_does_not_hide_it(deployed: Deployed) -> None:
    home = files(deployed).home
    with prefect() as url, daemon(home, f"published({url!r})"), files(deployed).starting():
        assert found(deployed)["Prefect API"].is_good


def test_a_daemon_that_goes_on_after_another_has_ended_is_known_again_after_its_next_tick(deployed: Deployed) -> None:
    home = files(deployed).home
    with prefect() as url, files(deployed).published(url):
        with daemon(home, "published('http://127.0.0.1:9/api')"), files(deployed).ticking(url):
            assert files(deployed).api_url == "http://127.0.0.1:9/api"
        assert files(deployed).api_url is None
        with files(deployed).ticking(url):
            assert found(deployed)["Prefect API"].note == url
    assert files(deployed).api_url is None


@contextmanager
def daemon(home: Path, how: str) -> Iterator[None]:
    """Let another process be a daemon, as `how` says, while the block lasts."""
    code = (
        "import sys; from pathlib import Path; from autoflow.orchestration.daemon_files import DaemonFiles\n"
        f"with DaemonFiles(home=Path({str(home)!r})).{how}: print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield
        process.communicate()


def test_nothing_is_left_of_a_daemon_that_has_ended(deployed: Deployed) -> None:
    with files(deployed).published("http://127.0.0.1:9/api"):
        assert files(deployed).api_url == "http://127.0.0.1:9/api"
    assert files(deployed).api_url is None
    assert not files(deployed).daemon_is_gone

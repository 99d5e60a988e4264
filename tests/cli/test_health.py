"""`autoflow health`, which looks at the files of a daemon, its database, and its Prefect API."""

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
from autoflow.cli.health import daemon_checks
from autoflow.errors import AutoflowError
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.prefect_api import free_port
from tests.cli.conftest import Cli
from tests.conftest import Deployed, write_notebook

NOW = datetime.datetime.now(datetime.UTC)
DEPLOYMENT = "/api/deployments/name/available_dates_sensor/available-dates-sensor"
WORKFLOWS = """
    workflows: [{name: simple, notebooks: {n: {filename: n.ipynb}}}]
    available_dates_sensor: {schedule: "0 * * * *", workflows: [{workflow_name: simple}]}
"""
ACTIVE = {"id": "some-id", "paused": False, "schedules": [{"active": True}]}


@contextmanager
def prefect(
    deployment: Mapping[str, Any] | None = None, *due: datetime.datetime, authorization: str | None = None
) -> Iterator[str]:
    """Run a Prefect API that has one deployment, with runs that are due at these times; yield its URL.

    As in Prefect, health is for everybody, and all else needs the `authorization`.
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
    return {check.subject: check for check in daemon_checks(deployed.settings(**environ), NOW)}


def files(deployed: Deployed) -> DaemonFiles:
    return DaemonFiles(home=deployed.settings().prefect_home)


def test_daemon_with_a_last_and_a_next_tick_is_healthy(deployed: Deployed) -> None:
    deployed.write_workflows(WORKFLOWS)
    write_notebook(deployed.inputs / "n.ipynb", "1")
    with closing(RunStore(deployed.settings().db_uri)) as store:
        store.migrate()
    with prefect(ACTIVE, NOW + datetime.timedelta(hours=1)) as url, files(deployed).published(url):
        with files(deployed).ticking():
            pass
        checks = found(deployed)
    assert all(check.is_good for check in checks.values())
    assert "version" in checks["database"].note
    assert checks["Prefect API"].note == url
    assert checks["ticks"].note.startswith("the last tick ended at ")


@pytest.mark.parametrize(
    ("due", "problem"),
    [
        ([NOW - datetime.timedelta(minutes=6)], "a tick has been due since"),
        ([], "Prefect has not scheduled a tick"),
    ],
)
def test_overdue_or_unscheduled_tick_is_a_problem(
    deployed: Deployed, due: list[datetime.datetime], problem: str
) -> None:
    with prefect(ACTIVE, *due) as url, files(deployed).published(url):
        assert problem in found(deployed)["ticks"].problems[0]


@pytest.mark.parametrize(
    ("authorization", "environ"),
    [
        ("Basic b3BlcmF0b3I6cMOkc3M=", {"PREFECT_API_AUTH_STRING": "operator:päss"}),
        ("Bearer pnu_1234567", {"PREFECT_API_KEY": "pnu_1234567"}),
    ],
)
def test_login_of_the_prefect_api_is_used(deployed: Deployed, authorization: str, environ: dict[str, str]) -> None:
    with prefect(ACTIVE, NOW + datetime.timedelta(minutes=1), authorization=authorization) as url:
        assert found(deployed, PREFECT_API_URL=url, **environ)["ticks"].is_good
        refused = found(deployed, PREFECT_API_URL=url)["ticks"]
    assert refused.problems == (
        "could not query ticks: Prefect refuses the login; check PREFECT_API_AUTH_STRING and PREFECT_API_KEY",
    )


def test_next_tick_is_not_overdue_while_one_is_running(deployed: Deployed) -> None:
    late = NOW - datetime.timedelta(hours=1)
    with prefect(ACTIVE, late) as url, files(deployed).published(url), files(deployed).ticking():
        assert "a tick has been running since" in found(deployed)["ticks"].note


@pytest.mark.parametrize("deployment", [None, {**ACTIVE, "paused": True}, {**ACTIVE, "schedules": [{"active": False}]}])
def test_daemon_that_is_paused_or_without_a_schedule_is_healthy(
    deployed: Deployed, deployment: Mapping[str, Any] | None
) -> None:
    with prefect(deployment) as url, files(deployed).published(url):
        assert found(deployed)["ticks"].is_good


def test_error_of_the_last_tick_is_shown(deployed: Deployed) -> None:
    with prefect() as url, files(deployed).published(url):
        with pytest.raises(AutoflowError), files(deployed).ticking():
            raise AutoflowError("FlowAPI is gone")
        assert found(deployed)["ticks"].note.endswith("it failed: FlowAPI is gone")


def test_prefect_api_that_does_not_answer_is_a_problem(deployed: Deployed) -> None:
    with files(deployed).published(f"http://127.0.0.1:{free_port()}/api"):
        checks = found(deployed)
    assert "does not answer" in checks["Prefect API"].problems[0]
    assert not checks["ticks"].is_good


def test_database_that_does_not_answer_is_a_problem(deployed: Deployed) -> None:
    uri = f"postgresql://autoflow@127.0.0.1:{free_port()}/runs"
    assert "cannot be read" in found(deployed, AUTOFLOW_DB_URI=uri)["database"].problems[0]


def test_daemon_that_was_killed_is_a_problem(deployed: Deployed) -> None:
    home = files(deployed).home
    with prefect() as url:
        code = (
            "import os; from pathlib import Path; from autoflow.orchestration.daemon_files import DaemonFiles\n"
            f"with DaemonFiles(home=Path({str(home)!r})).published({url!r}): os._exit(0)"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        assert found(deployed)["ticks"].problems == ("the daemon died unexpectedly",)


def test_daemon_that_is_starting_is_not_healthy_yet(deployed: Deployed) -> None:
    starting = ("the daemon is starting: its Prefect API does not answer yet",)
    with prefect() as url, files(deployed).starting():
        assert found(deployed)["Prefect API"].problems == starting
        with files(deployed).published(url):
            assert found(deployed)["Prefect API"].is_good
    assert found(deployed)["Prefect API"].problems == ("no daemon is running",)


def test_daemon_that_starts_beside_another_one_does_not_hide_it(deployed: Deployed) -> None:
    home = files(deployed).home
    with prefect() as url, daemon(home, f"published({url!r})"), files(deployed).starting():
        assert found(deployed)["Prefect API"].is_good


def test_daemon_is_found_again_at_its_next_tick_after_another_one_has_ended(deployed: Deployed) -> None:
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
    """Have another process be a daemon while the block lasts; `how` is a method of DaemonFiles."""
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


def test_daemon_that_has_ended_leaves_nothing(deployed: Deployed) -> None:
    with files(deployed).published("http://127.0.0.1:9/api"):
        assert files(deployed).api_url == "http://127.0.0.1:9/api"
    assert files(deployed).api_url is None
    assert not files(deployed).daemon_is_gone


def test_health_fails_without_a_daemon(cli: Cli) -> None:
    found = cli.json("health", code=1)
    assert {check["subject"]: check["problems"] for check in found["checks"] if check["problems"]} == {
        "Prefect API": ["no daemon is running"],
        "ticks": ["no daemon is running"],
    }

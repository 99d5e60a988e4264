"""`autoflow health`, which looks at the files of a daemon, its database, and its Prefect API."""

import datetime
import json
import os
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
from autoflow.cli.health import daemon_checks, live_checks
from autoflow.errors import AutoflowError
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.prefect_api import free_port
from autoflow.runs.attention import Facts, Standing
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


def die_as_a_daemon(home: Path, url: str) -> None:
    """Have another process be a daemon that dies without removing its record."""
    code = (
        "import os; from pathlib import Path; from autoflow.orchestration.daemon_files import DaemonFiles\n"
        f"with DaemonFiles(home=Path({str(home)!r})).published({url!r}): os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_daemon_that_was_killed_is_a_problem(deployed: Deployed) -> None:
    home = files(deployed).home
    with prefect() as url:
        die_as_a_daemon(home, url)
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


MINUTE = datetime.timedelta(minutes=1)


def live(deployed: Deployed, *, later: datetime.timedelta = 0 * MINUTE, **environ: str) -> list[str]:
    """Return the problems for which `health --live` fails after some time."""
    now = datetime.datetime.now(datetime.UTC) + later
    return [line for check in live_checks(deployed.settings(**environ), now) for line in check.problems]


class TestLive:
    def test_a_daemon_that_shows_signs_of_life_needs_no_restart_even_if_all_else_fails(
        self, deployed: Deployed
    ) -> None:
        gone = f"http://127.0.0.1:{free_port()}/api"
        with files(deployed).published(gone):
            assert live(deployed) == []
            assert live(deployed, later=2 * MINUTE) == []
            assert not all(check.is_good for check in found(deployed).values())

    def test_a_daemon_without_a_sign_of_life_for_long_hangs_until_it_shows_one(self, deployed: Deployed) -> None:
        with prefect(ACTIVE, NOW + 60 * MINUTE) as url, files(deployed).published(url):
            daemon_file = files(deployed).home / "daemon.json"
            os.utime(daemon_file, (0, 0))
            (problem,) = live(deployed)
            assert problem == "the daemon hangs: it has shown no sign of life since 1970-01-01 00:00:00 UTC; restart it"
            assert found(deployed)["ticks"].problems == (problem,)
            files(deployed).beat()
            assert live(deployed) == []

    def test_another_process_shows_no_sign_of_life_for_the_daemon(self, deployed: Deployed) -> None:
        with daemon(files(deployed).home, "published('http://127.0.0.1:9/api')"):
            daemon_file = files(deployed).home / "daemon.json"
            os.utime(daemon_file, (0, 0))
            files(deployed).beat()
            assert daemon_file.stat().st_mtime == 0

    def test_a_daemon_that_is_gone_needs_a_restart_and_one_that_starts_does_not(self, deployed: Deployed) -> None:
        assert live(deployed) == ["no daemon is running; start it"]
        with files(deployed).starting():
            assert live(deployed) == []
        die_as_a_daemon(files(deployed).home, "http://127.0.0.1:9/api")
        assert live(deployed) == ["the daemon died unexpectedly; restart it"]

    def test_an_own_prefect_server_that_does_not_come_back_needs_a_restart(self, deployed: Deployed) -> None:
        gone = f"http://127.0.0.1:{free_port()}/api"
        since = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        with files(deployed).published(gone):
            files(deployed).record_facts(Facts(prefect=Standing(since, "it does not answer", 1)))
            assert live(deployed) == []
            files(deployed).record_facts(Facts(prefect=Standing(since - 11 * MINUTE, "it does not answer", 1)))
            assert "restart the daemon" in live(deployed)[0]
            assert live(deployed, PREFECT_API_URL=gone) == []
            with prefect() as url:
                assert live(deployed, PREFECT_API_URL=url) == []

    def test_files_of_the_daemon_that_are_broken_are_no_reason_to_fail(self, deployed: Deployed) -> None:
        with prefect(ACTIVE, NOW + 60 * MINUTE) as url, files(deployed).published(url):
            for broken in (
                "",
                "[]",
                '{"flowapi": 7}',
                '{"flowapi": {"since": "x", "error": 1}}',
                '{"ticks": {"since": 3}}',
            ):
                (files(deployed).home / "facts.json").write_text(broken)
                (files(deployed).home / "look.json").write_text(broken)
                assert live(deployed) == []
                assert found(deployed)["FlowAPI"].is_good


def test_json_has_the_conditions_that_need_a_person(cli: Cli) -> None:
    cli.deployed.write_workflows("workflows: []")
    os.utime(cli.deployed.inputs / "workflows.yml", (0, 1_700_000_000))
    found = cli.json("health", code=1)
    assert found["good"] is False
    (condition,) = found["conditions"]
    assert condition["subject"] == "workflows.yml"
    assert condition["since"] == "2023-11-14T22:13:20+00:00"
    assert "autoflow validate" in condition["what_to_do"]
    assert condition["details"]
    assert not condition["warning"]
    assert {"subject", "good", "problems", "note", "warnings"} == found["checks"][0].keys()


def test_health_makes_no_database(cli: Cli) -> None:
    assert cli("health") == 1
    assert not list(cli.deployed.outputs.glob("*.db*"))

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from autoflow.errors import PrefectApiError
from autoflow.orchestration.prefect_api import (
    PrefectApi,
    choose_port,
    client_environment,
    free_port,
    prefect_api,
    server_environment,
)
from autoflow.orchestration.server_process import PrefectServer, is_ready
from autoflow.system.stop_signal import Shutdown
from autoflow.utils import ClockWatch
from tests.conftest import TOKEN_OF_NO_USE, Deployed
from tests.waiting import LONG, wait_for

HOME_OF_THE_SESSIONS = os.environ["PREFECT_HOME"]


@contextlib.contextmanager
def listening(port: int = 0, host: str = "127.0.0.1") -> Iterator[int]:
    """Listen on a port without ever responding; yield the port."""
    with socket.create_server((host, port)) as listener:
        taken: int = listener.getsockname()[1]
        yield taken


def is_free(port: int) -> bool:
    try:
        with listening(port):
            return True
    except OSError:
        return False


def servers_of(pid: int | None = None) -> list[psutil.Process]:
    """Return the Prefect servers that a process, by default this one, has started, except the session's."""
    servers = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            # One that has just ended has no command line any more.
            with contextlib.suppress(psutil.NoSuchProcess):
                is_server = "autoflow.orchestration.prefect_server" in child.cmdline()
                if is_server and child.environ().get("PREFECT_HOME") != HOME_OF_THE_SESSIONS:
                    servers.append(child)
    return servers


def test_configured_port_is_used(deployed: Deployed) -> None:
    port = free_port()
    assert choose_port(deployed.settings(PREFECT_SERVER_API_PORT=str(port))) == port


def test_configured_port_that_is_in_use_is_an_error(deployed: Deployed) -> None:
    with listening() as port, pytest.raises(PrefectApiError) as caught:
        choose_port(deployed.settings(PREFECT_SERVER_API_PORT=str(port)))
    assert str(caught.value) == f"PREFECT_SERVER_API_PORT: port {port} is in use; set another port, or none"


def test_next_port_is_used_when_the_usual_one_is_in_use(deployed: Deployed) -> None:
    first = choose_port(deployed.settings())
    assert 4200 <= first < 4300
    with listening(first):
        assert first < choose_port(deployed.settings()) < 4300


def test_port_is_taken_on_all_addresses(deployed: Deployed) -> None:
    settings = deployed.settings(PREFECT_SERVER_API_HOST="0.0.0.0")
    first = choose_port(settings)
    with listening(first):
        assert choose_port(settings) > first


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "not a host"])
def test_address_that_cannot_be_used_is_reported(deployed: Deployed, host: str) -> None:
    with pytest.raises(PrefectApiError) as caught:
        choose_port(deployed.settings(PREFECT_SERVER_API_HOST=host))
    assert str(caught.value).startswith(f"the Prefect server cannot listen on '{host}', port 4200: ")
    assert str(caught.value).endswith("; check PREFECT_SERVER_API_HOST and PREFECT_SERVER_API_PORT")


def test_server_never_sends_usage_data(deployed: Deployed) -> None:
    environ = {"PREFECT_SERVER_ANALYTICS_ENABLED": "true", "DO_NOT_TRACK": "0"}
    environment = server_environment(deployed.settings(), environ, 4200)
    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["DO_NOT_TRACK"] == "1"
    assert environment["PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT"] == "false"
    assert client_environment(deployed.settings(), "http://127.0.0.1:4200/api")["DO_NOT_TRACK"] == "1"


def test_server_gets_no_secrets(deployed: Deployed) -> None:
    uri = "postgresql://user:hunter22@host/db"
    secrets = {"AUTOFLOW_DB_URI": uri, "PREFECT__DB_URI": uri, "AUTOFLOW_DB_PASSWORD": "hunter22"}
    environ = {**deployed.environ, **secrets}
    environment = server_environment(deployed.settings(**secrets), environ, 4200)
    assert "hunter22" not in repr(environment)
    assert TOKEN_OF_NO_USE not in repr(environment)
    assert environment["PATH"] == environ["PATH"]


def test_settings_of_the_operator_take_precedence(deployed: Deployed) -> None:
    environ = {"PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P1D", "PREFECT_UI_API_URL": "https://prefect.example.org/api"}
    environment = server_environment(deployed.settings(), environ, 4321)
    assert environment.items() >= environ.items()
    assert environment["PREFECT_SERVER_API_PORT"] == "4321"
    assert environment["PREFECT_SERVER_API_HOST"] == "127.0.0.1"


def test_given_api_is_used_and_nothing_is_started(deployed: Deployed) -> None:
    environ: dict[str, str] = {}
    with prefect_api(deployed.settings(PREFECT_API_URL="http://prefect.example.org/api"), environ) as api:
        assert (api.url, api.server) == ("http://prefect.example.org/api", None)
        assert environ["PREFECT_API_URL"] == "http://prefect.example.org/api"
        assert servers_of() == []


def test_given_api_that_does_not_respond_is_reported() -> None:
    url = f"http://127.0.0.1:{free_port()}/api"
    with pytest.raises(PrefectApiError) as caught:
        PrefectApi(url).wait_until_ready(Shutdown(), timeout=0.2)
    assert str(caught.value) == f"the Prefect API at {url} did not respond within 0.2 s; check PREFECT_API_URL"


def test_wait_ends_at_shutdown() -> None:
    shutdown = Shutdown()
    threading.Timer(0.2, shutdown.close).start()
    assert not PrefectApi(f"http://127.0.0.1:{free_port()}/api").wait_until_ready(shutdown)


@pytest.mark.parametrize(
    "answer", [b"220 mail.example ESMTP\r\n", b"HTTP/1.1 503 No\r\n\r\n", b"HTTP/1.1 \xff\r\n\r\n", b""]
)
def test_server_other_than_prefect_is_not_ready(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
        ready = thread.submit(is_ready, f"http://127.0.0.1:{listener.getsockname()[1]}/api")
        connection, _ = listener.accept()
        with connection:
            connection.recv(10_000)
            connection.sendall(answer)
        assert not ready.result(LONG)


def test_api_that_accepts_connections_but_never_responds_is_not_ready() -> None:
    with listening() as port:
        assert not is_ready(f"http://127.0.0.1:{port}/api", timeout=0.2)


def test_port_that_has_come_into_use_is_reported(deployed: Deployed, tmp_path: Path) -> None:
    with listening() as port:
        server = PrefectServer(server_environment(deployed.settings(), deployed.environ, port), tmp_path / "log")
        with pytest.raises(
            PrefectApiError, match=rf"cannot listen on '127.0.0.1', port {port}: Address already in use; "
        ):
            server.__enter__()
    assert servers_of() == []


def test_log_file_that_cannot_be_written_is_reported(deployed: Deployed) -> None:
    environment = server_environment(deployed.settings(), deployed.environ, free_port())
    with pytest.raises(PrefectApiError, match=r"cannot write /proc/prefect/server\.log: .*; check PREFECT_HOME"):
        PrefectServer(environment, Path("/proc/prefect/server.log")).__enter__()


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        (
            {"PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "for ever"},
            "retention_period Input should be a valid",
        ),
        ({}, "file is not a database"),
    ],
)
def test_server_that_fails_to_start_is_reported_with_its_error(
    deployed: Deployed, tmp_path: Path, environ: dict[str, str], complaint: str
) -> None:
    port, log, settings = free_port(), tmp_path / "server.log", deployed.settings()
    settings.prefect_home.mkdir(parents=True)
    (settings.prefect_home / "prefect.db").write_text("This is not a database, but a text that happens to be there.")
    log.write_text("ValueError: of an earlier start\n")
    with PrefectServer(server_environment(settings, {**deployed.environ, **environ}, port), log) as server:
        with pytest.raises(PrefectApiError) as caught:
            PrefectApi(f"http://127.0.0.1:{port}/api", server).wait_until_ready(Shutdown(), timeout=LONG)
        message = str(caught.value)
    assert message.startswith("the Prefect server failed to start: ")
    assert complaint in message
    assert "for ever" not in message, "the value of a setting may be a secret"
    assert message.endswith(f"(see {log})")


@pytest.fixture
def _proxies_read_anew() -> Iterator[None]:
    """Make urllib read the proxy variables again, which it does only at its first request."""
    urllib.request.install_opener(None)
    yield
    urllib.request.install_opener(None)


@pytest.mark.usefixtures("migrated_prefect", "_proxies_read_anew")
def test_server_that_hangs_or_dies_is_restarted_and_ends_with_the_block(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr("autoflow.orchestration.server_process.LOOK_SECONDS", 0.2)
    # This proxy does not exist: connections to the server must not use it.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    port = free_port()
    settings = deployed.settings(PREFECT_SERVER_API_PORT=str(port))
    monkeypatch.setenv("PREFECT_CLIENT_CSRF_SUPPORT_ENABLED", "true")
    for name in client_environment(settings, ""):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "elsewhere.example.org")
    with prefect_api(settings, os.environ) as api:
        assert api.wait_until_ready(Shutdown(), timeout=LONG)
        assert os.environ["NO_PROXY"] == "elsewhere.example.org,127.0.0.1"
        assert os.environ["PREFECT_CLIENT_CSRF_SUPPORT_ENABLED"] == "false"
        assert httpx.get(f"{api.url}/admin/settings").json()["server"]["analytics_enabled"] is False
        (hung,) = servers_of()
        assert not {"AUTOFLOW_DB_URI", "FLOWAPI_TOKEN"} & hung.environ().keys()

        hung.suspend()
        with monkeypatch.context() as impatient:
            impatient.setattr("autoflow.orchestration.server_process.HUNG_SECONDS", 0.1)
            wait_for(lambda: logged)
        assert logged[0] == "the Prefect server has not responded for 0 s; killing it"
        # The request waits for the next server instead of being refused.
        assert httpx.get(f"{api.url}/health", timeout=LONG).json() is True

        (second,) = servers_of()
        assert second.pid != hung.pid
        second.kill()
        wait_for(lambda: servers_of() not in ([], [second]))
        (third,) = servers_of()
    assert not third.is_running()
    assert servers_of() == []
    assert is_free(port)


PARENT = """
import sys, time
from pathlib import Path
from autoflow.orchestration.prefect_api import PrefectServer

environment = {name: value for name, _, value in (line.partition("=") for line in sys.argv[2:])}
with PrefectServer(environment, Path(sys.argv[1])):
    print("started", flush=True)
    time.sleep(600)
"""


def test_server_is_restarted_when_the_clock_is_set_back_and_its_home_may_have_any_name(
    deployed: Deployed, prefect_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[str]
) -> None:
    monkeypatch.setattr("autoflow.orchestration.server_process.LOOK_SECONDS", 0.2)
    home, port, seconds_ahead = tmp_path / "a%20b %3Fé 100%", free_port(), [3600.0]
    home.mkdir()
    shutil.copy(prefect_database, home)
    environment = server_environment(deployed.settings(PREFECT_HOME=str(home)), deployed.environ, port)
    watch = ClockWatch(lambda: seconds_ahead[-1])
    with PrefectServer(environment, tmp_path / "logs" / "server.log", clock_watch=watch) as server:
        api = PrefectApi(f"http://127.0.0.1:{port}/api", server)
        assert api.wait_until_ready(Shutdown(), timeout=LONG)
        # SQLite keeps this file next to an open database.
        assert (home / "prefect.db-wal").exists()

        (first,) = servers_of()
        # The folder of the log may be gone as well.
        shutil.rmtree(tmp_path / "logs")
        seconds_ahead.append(0.0)
        wait_for(lambda: servers_of() not in ([], [first]))
    assert "the clock was set back: restarting the Prefect server" in logged


@pytest.mark.usefixtures("migrated_prefect")
def test_server_ends_when_its_parent_is_killed(deployed: Deployed, tmp_path: Path) -> None:
    port = free_port()
    environment = server_environment(deployed.settings(), deployed.environ, port)
    arguments = [sys.executable, "-c", PARENT, str(tmp_path / "log"), *(f"{k}={v}" for k, v in environment.items())]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"started\n"
        (server,) = servers_of(parent.pid)
        parent.send_signal(signal.SIGKILL)
        wait_for(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
        wait_for(lambda: is_free(port))


def test_database_is_never_locked_for_runs_side_by_side(prefect_url: str) -> None:
    """Check the status of each first attempt: Prefect's own client would retry after a 503."""

    def run(number: int) -> set[int]:
        with httpx.Client(base_url=prefect_url, timeout=LONG) as client:
            flow = client.post("/flows/", json={"name": "side by side"})
            of_flow = {"flow_id": flow.json()["id"], "name": f"run {number}", "state": {"type": "PENDING"}}
            flow_run = client.post("/flow_runs/", json=of_flow)
            answers = [flow, flow_run]
            for state in ("RUNNING", "COMPLETED"):
                url = f"/flow_runs/{flow_run.json()['id']}/set_state"
                answers.append(client.post(url, json={"state": {"type": state}}))
                task_run = {"flow_run_id": flow_run.json()["id"], "task_key": "t", "dynamic_key": state, "name": "t"}
                answers.append(client.post("/task_runs/", json=task_run))
            return {answer.status_code for answer in answers}

    with ThreadPoolExecutor(12) as threads:
        statuses = set[int]().union(*threads.map(run, range(12)))
    assert statuses <= {200, 201}

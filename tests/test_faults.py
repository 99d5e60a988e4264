"""What happens to runs when the things around them fail."""

import fcntl
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from autoflow.cli import main
from autoflow.errors import FlowApiError
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.orchestration.prefect_api import free_port, server_environment
from autoflow.orchestration.server_process import PrefectServer
from autoflow.runs.records import RunState
from autoflow.settings import Settings
from autoflow.system.log import logger
from autoflow.system.stop_signal import Shutdown
from autoflow.workflows.dispatcher import Counts, Dispatcher
from autoflow.workflows.runner import WorkflowRunner
from autoflow.workflows.tick import Sensor
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook
from tests.disks import FILLER, fill, resize, small_disk
from tests.postgres import Postgres
from tests.test_acceptance import environment, processes_with, running
from tests.waiting import LONG, wait_for

LARGE = "import random\nprint([random.random() for _ in range(50_000)])"
WAITS = "import pathlib, time\npathlib.Path('started').touch()\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"


def write_one(deployed: Deployed, *cells: str, earliest_date: str = "2016-01-12", retry_delay: float = 0) -> None:
    write_notebook(deployed.inputs / "n.ipynb", *cells)
    deployed.write_workflows(f"""
        workflows: [{{name: one, notebooks: {{n: {{filename: n.ipynb}}}}}}]
        available_dates_sensor:
          schedule: null
          workflows: [{{workflow_name: one, earliest_date: {earliest_date}, retry_delay: {retry_delay}}}]
    """)


@contextmanager
def sensor_of(settings: Settings, shutdown: Shutdown | None = None) -> Iterator[Sensor]:
    shutdown = shutdown or Shutdown()
    store = RunStore(settings.db_uri)
    store.migrate()
    with Heartbeat(store) as heartbeat:
        runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
        with Dispatcher(runner, shutdown=shutdown) as dispatcher:
            yield Sensor(settings=settings, store=store, dispatcher=dispatcher, wait=shutdown.wait_until_closing)
    store.close()


def tick(sensor: Sensor) -> Counts:
    """Tick, and wait until nothing is due; return how the runs have ended."""
    sensor.dispatcher.counts = Counts()
    sensor.tick()
    assert sensor.dispatcher.drain()
    return sensor.dispatcher.counts


@contextmanager
def meanwhile(what: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=what)
    thread.start()
    yield
    thread.join()


def states(sensor: Sensor) -> tuple[int, int, int]:
    """Return how many dates are done, running, and have failed."""
    histories = list(sensor.store.histories().values())
    return (
        sum(len(history.done) for history in histories),
        sum(len(history.running) for history in histories),
        sum(failures.count for history in histories for failures in history.failures.values()),
    )


@pytest.mark.usefixtures("prefect_url")
class TestFlowApi:
    def test_a_tick_fails_and_the_next_one_works(self, deployed: Deployed) -> None:
        write_one(deployed, "1")
        with (
            ExampleFlowApi() as flowapi,
            sensor_of(deployed.settings(FLOWAPI_URL=flowapi.url, FLOWAPI_TOKEN=flowapi.token())) as sensor,
        ):
            ran = []
            for how in ("401", "403", "500", "html", "garbage", "down"):
                flowapi.misbehave(how)
                with pytest.raises(FlowApiError) as raised:
                    tick(sensor)
                flowapi.behave()

                assert len(str(raised.value).splitlines()) == 1
                ran.append(tick(sensor).succeeded)
        assert ran == [1, 0, 0, 0, 0, 0]

    def test_a_date_that_vanishes_and_comes_back_is_not_done_again(self, deployed: Deployed) -> None:
        write_one(deployed, "1")
        with (
            ExampleFlowApi() as flowapi,
            sensor_of(deployed.settings(FLOWAPI_URL=flowapi.url, FLOWAPI_TOKEN=flowapi.token())) as sensor,
        ):
            ran = [tick(sensor).succeeded]
            flowapi.remove_date("2016-01-12")
            ran.append(tick(sensor).succeeded)
            flowapi.add_date("2016-01-12")
            ran.append(tick(sensor).succeeded)

        assert ran == [1, 0, 0]

    def test_a_token_that_is_replaced_is_used_at_the_next_tick(self, deployed: Deployed) -> None:
        write_one(deployed, "1")
        with ExampleFlowApi() as flowapi:
            environ = {**deployed.environ, "FLOWAPI_URL": flowapi.url}
            environ["FLOWAPI_TOKEN"] = flowapi.token(scopes=[])
            with sensor_of(Settings.read(environ)) as sensor:
                with pytest.raises(FlowApiError, match="403"):
                    tick(sensor)
                environ["FLOWAPI_TOKEN"] = flowapi.token()
                assert tick(sensor).succeeded == 1


@pytest.mark.usefixtures("prefect_url")
class TestDatabases:
    def test_a_run_is_recorded_after_postgresql_was_restarted_meanwhile(
        self, deployed: Deployed, example_flowapi: ExampleFlowApi, postgres: Postgres
    ) -> None:
        write_one(deployed, WAITS)
        settings = deployed.settings(
            FLOWAPI_URL=example_flowapi.url, FLOWAPI_TOKEN=example_flowapi.token(), AUTOFLOW_DB_URI=postgres.uri()
        )

        def restart() -> None:
            wait_for((deployed.inputs / "started").exists)
            postgres.control("stop", "-m", "immediate")
            (deployed.inputs / "go").touch()
            wait_for(deployed.executed)
            postgres.control("start")

        with sensor_of(settings) as sensor, meanwhile(restart):
            result = tick(sensor)
            assert (result.succeeded, result.failed) == (1, 0)
            assert states(sensor) == (1, 0, 0)

    @pytest.mark.parametrize("lock", ["BEGIN", "BEGIN EXCLUSIVE"])
    def test_a_run_is_recorded_while_sqlite_is_read_or_after_it_was_written(
        self, deployed: Deployed, example_flowapi: ExampleFlowApi, lock: str
    ) -> None:
        write_one(deployed, WAITS)
        settings = deployed.settings(FLOWAPI_URL=example_flowapi.url, FLOWAPI_TOKEN=example_flowapi.token())

        def hold() -> None:
            wait_for((deployed.inputs / "started").exists)
            connection = sqlite3.connect(deployed.outputs / "autoflow.db", isolation_level=None)
            connection.execute(lock)
            connection.execute("SELECT * FROM runs").fetchall()
            (deployed.inputs / "go").touch()
            wait_for(deployed.executed)
            if lock == "BEGIN":
                # The reader continues until the run has been recorded.
                other = sqlite3.connect(deployed.outputs / "autoflow.db")
                wait_for(lambda: other.execute("SELECT state FROM runs").fetchall() == [("succeeded",)])
                other.close()
            connection.execute("ROLLBACK")
            connection.close()

        with sensor_of(settings) as sensor, meanwhile(hold):
            assert tick(sensor).succeeded == 1
            assert states(sensor) == (1, 0, 0)


class TestDatabaseFile:
    @pytest.mark.usefixtures("log_as_before")
    def test_a_database_that_is_deleted_stops_runs_and_is_not_made_anew(
        self,
        deployed: Deployed,
        example_flowapi: ExampleFlowApi,
        tmp_path: Path,
        prefect_url: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        write_one(deployed, WAITS)
        workflows = deployed.inputs / "workflows.yml"
        workflows.write_text(workflows.read_text().replace("schedule: null", "schedule: '0 0 1 1 *'"))
        environ = environment(deployed, example_flowapi, AUTOFLOW_HEARTBEAT_TIMEOUT="6", PREFECT_API_URL=prefect_url)
        database, log = deployed.outputs / "autoflow.db", tmp_path / "log"
        with running(environ, log) as process:
            wait_for((deployed.inputs / "started").exists)
            database.unlink()
            wait_for(lambda: "could not record the end of one 2016-01-12" in log.read_text())
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 0
        lines = [line for line in log.read_text().splitlines() if "was deleted while AutoFlow was using it" in line]
        # The heartbeat, the end of the run, and perhaps the page, the look for deadlines and another heartbeat.
        assert 2 <= len(lines) <= 6, "\n".join(line[:120] for line in lines)

        assert main([], environ) == 1
        missing = f"the database of runs at {database} is missing, but AutoFlow has run here before"
        assert missing in capsys.readouterr().err
        assert not database.exists()


class TestStarts:
    def test_a_prefect_server_waits_while_another_one_migrates_the_same_database(self, deployed: Deployed) -> None:
        settings, port = deployed.settings(), free_port()
        settings.prefect_home.mkdir()
        lock = settings.prefect_home / "start.lock"
        environ = server_environment(settings, deployed.environ, port)
        server = PrefectServer(environ, settings.prefect_home / "server.log")
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with server:
                wait_for(lambda: is_waited_for(lock))
                assert not (settings.prefect_home / "prefect.db").exists()
                fcntl.flock(held, fcntl.LOCK_UN)
                wait_for((settings.prefect_home / "prefect.db").exists)


def is_waited_for(lock: Path) -> bool:
    """Return whether a process waits for a lock that another one has."""
    inode = f":{lock.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


@pytest.mark.usefixtures("prefect_url")
class TestDisks:
    @pytest.fixture(autouse=True)
    def _with_info(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", logger.name)

    @pytest.fixture
    def settings(self, deployed: Deployed, example_flowapi: ExampleFlowApi, tmp_path: Path) -> Settings:
        """Return settings of a workflow with a large notebook, whose database is on another disk than its outputs."""
        write_one(deployed, LARGE)
        return deployed.settings(
            FLOWAPI_URL=example_flowapi.url,
            FLOWAPI_TOKEN=example_flowapi.token(),
            AUTOFLOW_DB_URI=f"sqlite:///{tmp_path / 'runs.db'}",
            PREFECT_API_URL=os.environ["PREFECT_API_URL"],
        )

    def test_a_run_without_room_for_its_outputs_is_interrupted_and_the_next_one_waits_for_room(
        self, deployed: Deployed, settings: Settings, logged: list[str]
    ) -> None:
        folder = deployed.outputs / "notebooks"
        with small_disk(folder, "size=256k"), sensor_of(settings) as sensor:
            first = tick(sensor)
            assert (first.succeeded, first.failed, first.interrupted) == (0, 0, 1)
            assert deployed.executed() == []
            with ThreadPoolExecutor(1) as pool:
                second = pool.submit(tick, sensor)
                wait_for(lambda: len([line for line in logged if line.startswith("tick: ")]) == 2)
                assert [run.state for run in sensor.store.runs()] == [RunState.INTERRUPTED]
                assert not second.done()
                resize(folder, "size=10m")
                assert second.result(LONG).succeeded == 1
            assert states(sensor) == (1, 0, 0)
            (run,) = sensor.store.runs(state=RunState.INTERRUPTED)
        assert run.error
        assert "No space left on device" in run.error.message
        about_disks = [line for line in logged if "runs wait" in line or "runs continue" in line]
        assert len(about_disks) == 2
        assert "No space left on device; runs wait until there is room" in about_disks[0]
        assert about_disks[1] == "there is room on the disks again; runs continue"

    @pytest.mark.parametrize("options", ["size=20m,ro", "size=20m"])
    def test_no_run_starts_while_the_disk_of_the_outputs_is_full_or_read_only(
        self, deployed: Deployed, settings: Settings, logged: list[str], options: str
    ) -> None:
        folder = deployed.outputs / "notebooks"
        with small_disk(folder, options), sensor_of(settings) as sensor, ThreadPoolExecutor(1) as pool:
            if "ro" not in options:
                fill(folder, left=10_000)
            waiting = pool.submit(tick, sensor)
            wait_for(lambda: any("runs wait until there is room" in line for line in logged))
            assert sensor.store.runs() == []
            if "ro" in options:
                resize(folder, "rw")
            else:
                (folder / FILLER).unlink()
            assert waiting.result(LONG).succeeded == 1
        assert len([line for line in logged if "runs wait" in line or "runs continue" in line]) == 2

    def test_what_waits_for_room_can_be_stopped(
        self, deployed: Deployed, settings: Settings, logged: list[str]
    ) -> None:
        shutdown = Shutdown()
        with small_disk(deployed.outputs / "notebooks", "size=20m,ro"), sensor_of(settings, shutdown) as sensor:
            sensor.tick()
            wait_for(lambda: any("runs wait until there is room" in line for line in logged))
            shutdown.close()
            assert sensor.dispatcher.join(LONG)
            assert sensor.store.runs() == []

    def test_a_cell_that_fails_while_a_disk_is_full_is_run_again_later(
        self, deployed: Deployed, settings: Settings
    ) -> None:
        filler = deployed.outputs / "notebooks" / FILLER
        write_one(deployed, f"with open({str(filler)!r}, 'wb') as file:\n    while True: file.write(bytes(100_000))")
        with small_disk(filler.parent, "size=20m"), sensor_of(settings) as sensor:
            result = tick(sensor)
            assert (result.succeeded, result.failed, result.interrupted) == (0, 0, 1)
            assert states(sensor) == (0, 0, 0)

    def test_a_cell_that_fails_for_itself_has_failed(self, deployed: Deployed, settings: Settings) -> None:
        write_one(deployed, "raise OSError(28, 'No space left on device')", retry_delay=60)
        with sensor_of(settings) as sensor:
            assert tick(sensor).failed == 1

    def test_a_report_without_room_in_the_temporary_folder_is_made_later(
        self, deployed: Deployed, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_one(deployed, "for number in range(2000): print(number, 'x' * 50)")
        workflows = deployed.inputs / "workflows.yml"
        workflows.write_text(workflows.read_text().replace("n.ipynb}", "n.ipynb, output: {format: html}}"))
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        with small_disk(temporary, "size=16k"), sensor_of(settings) as sensor:
            monkeypatch.setattr(tempfile, "tempdir", str(temporary))
            result = tick(sensor)
            monkeypatch.setattr(tempfile, "tempdir", None)
            assert (result.succeeded, result.failed, result.interrupted) == (0, 0, 1)
            (run,) = sensor.store.runs()
        assert run.error
        assert "No space left on device" in run.error.message


@pytest.mark.usefixtures("migrated_prefect")
class TestKills:
    def test_a_prefect_server_that_hangs_keeps_neither_records_nor_the_end_waiting_and_one_that_dies_is_started_again(
        self, deployed: Deployed, example_flowapi: ExampleFlowApi, tmp_path: Path
    ) -> None:
        started, go = deployed.inputs / "started", deployed.inputs / "go"
        write_one(deployed, f"{WAITS}\nfor name in ('started', 'go'): pathlib.Path(name).unlink()")
        workflows = deployed.inputs / "workflows.yml"
        two_dates = workflows.read_text().replace("2016-01-12", "2016-01-11")
        workflows.write_text(two_dates.replace("schedule: null", "schedule: '0 0 1 1 *'"))
        port = {"PREFECT_SERVER_API_PORT": str(free_port())}
        environ = environment(deployed, example_flowapi, AUTOFLOW_MAX_PARALLEL_RUNS="1", **port)
        log = tmp_path / "log"
        with running(environ, log) as process, closing(RunStore(deployed.settings().db_uri)) as store:
            wait_for(started.exists)
            # The run has not waited for it.
            wait_for(partial(are_deployed, port["PREFECT_SERVER_API_PORT"]))
            (server,) = prefect_servers_of(process.pid)
            os.kill(server, signal.SIGSTOP)
            go.touch()
            wait_for(lambda: sorted(run.state for run in store.runs()) == [RunState.RUNNING, RunState.SUCCEEDED])
            wait_for(started.exists)
            os.kill(server, signal.SIGKILL)
            wait_for(lambda: "restarting it" in log.read_text())
            go.touch()
            wait_for(lambda: [run.state for run in store.runs()] == [RunState.SUCCEEDED] * 2)
            wait_for(lambda: prefect_servers_of(process.pid))
            (server,) = prefect_servers_of(process.pid)
            os.kill(server, signal.SIGSTOP)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 0


def prefect_servers_of(pid: int) -> list[int]:
    """Return the processes of Prefect servers that a daemon has started."""
    servers = []
    for child in psutil.Process(pid).children():
        # One that has just ended has no command line any more.
        with suppress(psutil.NoSuchProcess):
            if "autoflow.orchestration.prefect_server" in child.cmdline():
                servers.append(child.pid)
    return servers


def are_deployed(port: str) -> bool:
    """Return whether a daemon has registered its deployments with a Prefect server that responds."""
    url = f"http://127.0.0.1:{port}/api/deployments/count"
    request = urllib.request.Request(url, data=b"{}", headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=LONG) as answer:
            return int(answer.read()) == 2
    except OSError:
        return False


PANDOC = """#!{python}
import os, pathlib, subprocess, sys, time
given = sys.stdin.buffer.read()
if b"never ends" in given:
    pathlib.Path({pid!r}).write_text(str(os.getpid()))
    time.sleep(600)
sys.exit(subprocess.run([{pandoc!r}, *sys.argv[1:]], input=given).returncode)
"""

DAEMONIZES = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
open("started", "w").close()
time.sleep(600)
"""


def suspended_asciidoctor(place: str) -> psutil.Process:
    """Return a process that makes a report in the folder `place`, forked by the one that has asciidoctor-pdf loaded."""
    found: list[psutil.Process] = []

    def suspend() -> bool:
        for process in psutil.process_iter(["cmdline"]):
            with suppress(psutil.Error):
                is_server = "report_server.rb" in " ".join(process.info["cmdline"] or ())
                for report in process.children() if is_server and place in str(process.environ()) else ():
                    report.suspend()
                    found.append(report)
                    return True
        return False

    wait_for(suspend)
    return found[0]


@pytest.mark.usefixtures("migrated_prefect", "log_as_before")
def test_everything_ends_with_a_daemon_that_is_killed_inside_conversions_and_the_next_one_cleans_up_and_continues(
    deployed: Deployed,
    example_flowapi: ExampleFlowApi,
    tmp_path: Path,
    prefect_running: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pandoc = shutil.which("pandoc")
    assert pandoc
    pid, program = tmp_path / "pid", tmp_path / "bin" / "pandoc"
    program.parent.mkdir()
    program.write_text(PANDOC.format(python=sys.executable, pid=str(pid), pandoc=pandoc))
    program.chmod(0o755)
    for name, text in (("pandoc", "This never ends."), ("asciidoctor", "A long text.\n\n" * 2000)):
        write_notebook(deployed.inputs / f"{name}.ipynb", f"from IPython.display import *\nMarkdown({text!r})")
    write_notebook(deployed.inputs / "kernel.ipynb", DAEMONIZES)
    deployed.write_workflows("""
        workflows:
          - name: one
            notebooks:
              pandoc: {filename: pandoc.ipynb, output: {format: pdf}}
              asciidoctor: {filename: asciidoctor.ipynb, output: {format: pdf}}
              kernel: {filename: kernel.ipynb}
        available_dates_sensor:
          schedule: null
          workflows: [{workflow_name: one, earliest_date: 2016-01-12}]
    """)
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        environ = environment(deployed, example_flowapi, TMPDIR=place, PATH=path)

        def at_work() -> list[str]:
            return [*processes_with(place), *processes_with(str(deployed.outputs))]

        with running(environ, tmp_path / "log") as process:
            report = suspended_asciidoctor(place)
            wait_for(lambda: pid.exists() and (deployed.inputs / "started").exists())
            wait_for(lambda: report.status() == psutil.STATUS_STOPPED)
            process.kill()
            process.wait()
            wait_for(lambda: not at_work())

        left = {path.name for path in Path(place).glob("autoflow-*")}
        assert len(left) >= 2
        write_one(deployed, "1")
        with closing(sqlite3.connect(deployed.outputs / "autoflow.db")) as connection, connection:
            # As if the time had passed after which a claim runs out.
            connection.execute("UPDATE runs SET heartbeat_at = datetime(heartbeat_at, '-1 minute')")
        monkeypatch.setattr(tempfile, "tempdir", place)
        assert main([], {**environ, **prefect_running}) == 0
        monkeypatch.undo()
        assert not left & {path.name for path in Path(place).iterdir()}
    logged = capsys.readouterr().err
    assert "1 run crashed" in logged
    assert "finished one 2016-01-12" in logged

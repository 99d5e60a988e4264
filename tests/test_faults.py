"""What happens to runs when the things around them fail."""

import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from autoflow.errors import FlowApiError
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.orchestration.prefect_api import free_port
from autoflow.runs.records import RunState
from autoflow.sensor import Sensor, Tick
from autoflow.settings import Settings
from autoflow.stop_signal import Shutdown
from autoflow.workflows.runner import WorkflowRunner
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook
from tests.postgres import Postgres
from tests.test_acceptance import environment, processes_with, run_to_the_end, running
from tests.waiting import LONG, wait_for

WAITS = "import pathlib, time\npathlib.Path('started').touch()\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"


def write_one(deployed: Deployed, *cells: str, earliest_date: str = "2016-01-12") -> None:
    write_notebook(deployed.inputs / "n.ipynb", *cells)
    deployed.write_workflows(f"""
        workflows: [{{name: one, notebooks: {{n: {{filename: n.ipynb}}}}}}]
        available_dates_sensor:
          schedule: null
          workflows: [{{workflow_name: one, earliest_date: {earliest_date}, retry_delay: 0}}]
    """)


@contextmanager
def sensor_of(settings: Settings) -> Iterator[Sensor]:
    store = RunStore(settings.db_uri)
    store.migrate()
    with Heartbeat(store) as heartbeat:
        runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
        yield Sensor(settings=settings, store=store, runner=runner)
    store.close()


def tick(sensor: Sensor) -> Tick:
    return sensor.tick(shutdown=Shutdown())


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
    @pytest.mark.parametrize("how", ["401", "403", "500", "html", "garbage", "down"])
    def test_a_tick_fails_and_the_next_one_works(self, deployed: Deployed, how: str) -> None:
        write_one(deployed, "1")
        with (
            ExampleFlowApi() as flowapi,
            sensor_of(deployed.settings(FLOWAPI_URL=flowapi.url, FLOWAPI_TOKEN=flowapi.token())) as sensor,
        ):
            flowapi.misbehave(how)
            with pytest.raises(FlowApiError) as raised:
                tick(sensor)
            flowapi.behave()

            assert len(str(raised.value).splitlines()) == 1
            assert tick(sensor).succeeded == 1

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


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """Mount a small disk in memory at `folder`, where this machine allows that."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.usefixtures("prefect_url")
class TestDisks:
    @pytest.mark.parametrize(
        ("options", "reason"), [("size=256k", "No space left on device"), ("size=1m,ro", "Read-only file system")]
    )
    def test_outputs_that_cannot_be_written_fail_the_run_with_a_reason_and_leave_nothing_half_written(
        self, deployed: Deployed, example_flowapi: ExampleFlowApi, tmp_path: Path, options: str, reason: str
    ) -> None:
        write_one(deployed, "import random\nprint([random.random() for _ in range(50_000)])")
        settings = deployed.settings(
            FLOWAPI_URL=example_flowapi.url,
            FLOWAPI_TOKEN=example_flowapi.token(),
            AUTOFLOW_DB_URI=f"sqlite:///{tmp_path / 'runs.db'}",
        )
        with small_disk(deployed.outputs / "notebooks", options), sensor_of(settings) as sensor:
            result = tick(sensor)
            left = deployed.executed()
            assert (result.succeeded, result.failed) == (0, 1)
            with sqlite3.connect(tmp_path / "runs.db") as connection:
                ((message,),) = connection.execute("SELECT error_message FROM runs").fetchall()
            connection.close()

        assert reason in message
        assert left == []


@pytest.mark.usefixtures("migrated_prefect")
class TestKills:
    def test_a_sigkill_leaves_nothing_behind_and_the_next_start_continues(
        self, deployed: Deployed, example_flowapi: ExampleFlowApi, tmp_path: Path
    ) -> None:
        write_one(deployed, WAITS)
        environ = environment(deployed, example_flowapi, PREFECT_SERVER_API_PORT=str(free_port()))
        with running(environ, tmp_path / "log") as process:
            wait_for((deployed.inputs / "started").exists)
            process.send_signal(signal.SIGKILL)
            process.wait()
            wait_for(lambda: not processes_with(str(deployed.outputs)))
        (deployed.inputs / "go").touch()
        with closing(sqlite3.connect(deployed.outputs / "autoflow.db")) as connection, connection:
            # As if the time had passed after which a claim runs out.
            connection.execute("UPDATE runs SET heartbeat_at = datetime(heartbeat_at, '-1 minute')")

        ended = run_to_the_end(environ)

        assert ended.returncode == 0
        assert "1 run crashed" in ended.stderr
        assert "finished one 2016-01-12" in ended.stderr

    def test_a_prefect_server_that_dies_is_started_again_and_one_that_hangs_keeps_neither_records_nor_the_end_waiting(
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
            os.kill(prefect_server_of(process.pid), signal.SIGKILL)
            wait_for(lambda: "restarting it" in log.read_text())
            go.touch()
            wait_for(lambda: "finished one 2016-01-11" in log.read_text())
            wait_for(started.exists)
            os.kill(prefect_server_of(process.pid), signal.SIGSTOP)
            go.touch()
            wait_for(lambda: [run.state for run in store.runs()] == [RunState.SUCCEEDED] * 2)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 0


def prefect_server_of(pid: int) -> int:
    """Return the process of the Prefect server that a daemon has started."""
    servers = []
    for child in psutil.Process(pid).children():
        # One that has just ended has no command line any more.
        with suppress(psutil.NoSuchProcess):
            if "autoflow.orchestration.prefect_server" in child.cmdline():
                servers.append(child)
    (server,) = servers
    return int(server.pid)

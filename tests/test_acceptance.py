"""AutoFlow as its users start it: as a separate process, against a FlowAPI, from start to end."""

import datetime
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import nbformat
import psycopg
import pytest

from autoflow.cli import main
from autoflow.model.store import RunStore
from autoflow.orchestration.prefect_api import free_port
from autoflow.runs.records import RunState
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook
from tests.postgres import Postgres
from tests.waiting import LONG, wait_for

ROOT = Path(__file__).resolve().parent.parent
SHOWS_ALL = "import os\nprint(reference_date, dict(os.environ))"
WAITS_ONCE = """
import pathlib, time
once = pathlib.Path('once')
if not once.exists():
    once.touch()
    time.sleep(600)
"""


def environment(deployed: Deployed, flowapi: ExampleFlowApi, **more: str) -> dict[str, str]:
    return {**deployed.environ, "FLOWAPI_URL": flowapi.url, "FLOWAPI_TOKEN": flowapi.token(), **more}


def run_to_the_end(environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autoflow"]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=LONG, check=False)


@contextmanager
def running(
    environ: Mapping[str, str], log: Path, *, measuring: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, *measuring, "-m", "autoflow"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def processes_with(text: str) -> list[str]:
    """Return the command lines of processes that have `text` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def write_simple(deployed: Deployed, schedule: str, earliest_date: str = "2016-01-11") -> None:
    write_notebook(deployed.inputs / "n.ipynb", SHOWS_ALL, parameters="reference_date = None")
    deployed.write_workflows(f"""
        workflows:
          - name: simple
            notebooks: {{n: {{filename: n.ipynb, parameters: {{reference_date: reference_date}}}}}}
        available_dates_sensor:
          schedule: {schedule}
          workflows: [{{workflow_name: simple, earliest_date: {earliest_date}}}]
    """)


@pytest.mark.usefixtures("log_as_before")
def test_without_a_schedule_each_due_date_is_done_once_a_failure_is_explained_and_no_secret_is_left_anywhere(
    deployed: Deployed,
    example_flowapi: ExampleFlowApi,
    postgres: Postgres,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A first start, at which the Prefect server makes its database; the other tests start with one.
    assert not deployed.settings().prefect_home.exists()
    password = "p@ss/w:rd{}%"
    postgres.set_password(password)
    uri = postgres.uri().replace(":autoflow@", ":{}@")
    write_notebook(deployed.inputs / "n.ipynb", SHOWS_ALL, parameters="reference_date = None")
    write_notebook(deployed.inputs / "bad.ipynb", "1 / 0", parameters="reference_date = None")
    deployed.write_workflows("""
        workflows:
          - name: simple
            notebooks: {n: {filename: n.ipynb, parameters: {reference_date: reference_date}}}
          - {name: bad, notebooks: {n: {filename: bad.ipynb, parameters: {reference_date: reference_date}}}}
        available_dates_sensor:
          schedule: null
          workflows:
            - {workflow_name: simple, earliest_date: 2016-01-11}
            - {workflow_name: bad, earliest_date: 2016-01-12, max_attempts: 1}
    """)
    environ = environment(deployed, example_flowapi, AUTOFLOW_DB_URI=uri, AUTOFLOW_DB_PASSWORD=password)
    try:
        first = run_to_the_end(environ)
        # Nothing is due any more: there is nothing that Prefect could show, so nothing waits for it.
        monkeypatch.setenv("PREFECT_API_URL", nowhere := "http://127.0.0.1:9/api")
        second_code, second = main([], {**environ, "PREFECT_API_URL": nowhere}), capsys.readouterr()
        without_flowapi = {**environ, "PREFECT_API_URL": nowhere, "FLOWAPI_URL": "http://127.0.0.1:9"}
        third_code, third = main(["start", "--once"], without_flowapi), capsys.readouterr()
        with psycopg.connect(uri.replace("{}", "p%40ss%2Fw%3Ard%7B%7D%25")) as connection:
            rows = connection.execute("SELECT workflow, reference_date::text, state FROM runs ORDER BY 1, 2").fetchall()
            everything = str(connection.execute("SELECT runs::text FROM runs").fetchall())
    finally:
        postgres.set_password("autoflow")

    assert (first.returncode, second_code, third_code) == (1, 0, 1), first.stderr + second.err + third.err
    done = [("simple", "2016-01-11", "succeeded"), ("simple", "2016-01-12", "succeeded")]
    assert rows == [("bad", "2016-01-12", "failed"), *done]
    assert "3 runs due" in first.stderr
    assert "nothing is due" in second.err
    assert "tick failed: FlowAPI at http://127.0.0.1:9" in third.err
    bad, *simple = deployed.executed()
    assert [path.name.split("__")[2] for path in simple] == ["2016-01-11", "2016-01-12"]

    (line,) = [line for line in first.stderr.splitlines() if "ERROR" in line]
    assert "notebook 'n', cell 2 (In [3]: 1 / 0): ZeroDivisionError: division by zero" in line
    assert "failed bad 2016-01-12 " in line
    assert str(bad) in line
    assert "Traceback" not in first.stderr

    texts = [first.stdout, first.stderr, second.out, second.err, everything]
    texts += [path.read_bytes().decode(errors="replace") for path in deployed.outputs.rglob("*") if path.is_file()]
    for secret in (password, environ["FLOWAPI_TOKEN"], "p%40ss"):
        assert not any(secret in text for text in texts)
    printed = nbformat.read(simple[0], as_version=4).cells[-1].outputs[0].text
    assert "'FLOWAPI_TOKEN': '[secret]'" in printed
    assert "AUTOFLOW_DB" not in printed
    # What AutoFlow sets for Prefect while it starts does not keep kernels from being forked.
    assert "another environment" not in first.stderr
    assert "PREFECT_API_URL" not in printed


@pytest.mark.usefixtures("migrated_prefect", "log_as_before")
def test_the_daemon_picks_up_edits_and_dates_ends_cleanly_and_repeats_interrupted_runs_after_the_next_start(
    deployed: Deployed, tmp_path: Path, measuring: Sequence[str], prefect_running: Mapping[str, str]
) -> None:
    write_simple(deployed, '"0 0 1 1 *"')
    write_notebook(deployed.inputs / "n.ipynb", parameters="reference_date = None\nflowapi_url = ''")
    port, log = free_port(), tmp_path / "log"
    with ExampleFlowApi() as flowapi:
        environ = environment(deployed, flowapi, AUTOFLOW_SHUTDOWN_GRACE="0.1", PREFECT_SERVER_API_PORT=str(port))
        with running(environ, log, measuring=measuring) as process:
            api = f"http://127.0.0.1:{port}/api"
            check_that_edits_are_obeyed_at_once_and_dates_picked_up(deployed, flowapi, log, api)
            check_that_ticks_obey_edits_and_runs_can_be_requested(deployed, log, api)

            write_notebook(deployed.inputs / "n.ipynb", WAITS_ONCE, parameters="reference_date = None")
            flowapi.add_date("2016-01-15")
            wait_for((deployed.inputs / "once").exists)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 0

        dates = sorted(path.name.split("__")[2] for path in deployed.executed())
        assert dates == ["2016-01-02", *(f"2016-01-{day}" for day in range(10, 16))]
        assert processes_with(str(deployed.outputs)) == []
        assert "interrupted simple 2016-01-15" in log.read_text()
        assert "Traceback" not in log.read_text()
        assert log.read_text().splitlines()[-1].endswith("stopped")

        assert main(["start", "--once"], {**environ, **prefect_running}) == 0
    with closing(RunStore(deployed.settings().db_uri)) as store:
        (again, interrupted) = (run for run in store.runs() if run.key.reference_date == datetime.date(2016, 1, 15))
    assert (interrupted.state, again.state) == (RunState.INTERRUPTED, RunState.SUCCEEDED)


def check_that_edits_are_obeyed_at_once_and_dates_picked_up(
    deployed: Deployed, flowapi: ExampleFlowApi, log: Path, api: str
) -> None:
    wait_for(lambda: len(deployed.executed()) == 2)
    assert log.read_text().count("add 'flowapi_url: flowapi_url'") == 1
    flowapi.add_date("2016-01-13")

    deployed.write_workflows("workflows: 5")
    wait_for(lambda: "workflows.yml is invalid" in log.read_text())
    assert "workflows.yml:1: workflows: " in log.read_text()
    # Prefect has the new schedule before any tick.
    write_simple(deployed, '"0 0 2 2 *"')
    wait_for(lambda: "schedule changed to '0 0 2 2 *'" in log.read_text())
    assert "accepted an edit of workflows.yml" in log.read_text()
    wanted = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    found = httpx.post(f"{api}/flow_runs/filter", json=wanted, timeout=LONG).json()
    assert {each["expected_start_time"][5:16] for each in found} <= {"02-02T00:00"}
    assert len(deployed.executed()) == 2

    # Other dates are due by an edited entry, so a tick follows at once.
    write_simple(deployed, '"0 0 2 2 *"', earliest_date="2016-01-12")
    wait_for(lambda: len(deployed.executed()) == 3)
    assert "checking for new dates now, because of the edit" in log.read_text()

    flowapi.add_date("2016-01-14")
    # Every five seconds: Prefect's cron strings may have a field for seconds.
    write_simple(deployed, '"* * * * * */5"', earliest_date="2016-01-12")
    wait_for(lambda: len(deployed.executed()) == 4)


def check_that_ticks_obey_edits_and_runs_can_be_requested(deployed: Deployed, log: Path, api: str) -> None:
    deployment = httpx.get(f"{api}/deployments/name/available_dates_sensor/available-dates-sensor", timeout=LONG)
    assert [each["schedule"]["cron"] for each in deployment.json()["schedules"]] == ["* * * * * */5"]

    deployed.write_workflows("workflows: 5")
    wait_for(lambda: "tick failed: workflows.yml:1" in log.read_text())
    write_simple(deployed, '"* * * * * */4"', earliest_date="2016-01-10")
    wait_for(lambda: len(deployed.executed()) == 5)
    wait_for(lambda: "schedule changed to '* * * * * */4'" in log.read_text())

    wanted = httpx.get(f"{api}/deployments/name/run_workflow/run-workflow", timeout=LONG).json()["id"]
    parameters = {"workflow": "simple", "reference_date": "2016-01-02"}
    httpx.post(f"{api}/deployments/{wanted}/create_flow_run", json={"parameters": parameters}, timeout=LONG)
    wait_for(lambda: len(deployed.executed()) == 6)

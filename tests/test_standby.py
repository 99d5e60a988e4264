"""Two daemons on one database, each with a Prefect server of its own."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from autoflow.model.store import RunStore
from autoflow.orchestration.prefect_api import free_port
from autoflow.runs.records import RunState
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook
from tests.postgres import Postgres
from tests.test_acceptance import ROOT, environment, running
from tests.waiting import LONG, wait_for

WAITS = """
import pathlib, time
pathlib.Path(f"started {reference_date}").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.05)
"""


@pytest.fixture
def environs(
    deployed: Deployed, example_flowapi: ExampleFlowApi, postgres: Postgres, prefect_database: Path, tmp_path: Path
) -> Mapping[str, Mapping[str, str]]:
    """Return the environments of two daemons that share everything but PREFECT_HOME, and run one date at a time."""
    uri = postgres.uri()
    found = {}
    for name in ("first", "second"):
        home = tmp_path / name
        home.mkdir()
        shutil.copy(prefect_database, home)
        found[name] = environment(
            deployed,
            example_flowapi,
            AUTOFLOW_DB_URI=uri,
            AUTOFLOW_HEARTBEAT_TIMEOUT="5",
            AUTOFLOW_MAX_PARALLEL_RUNS="1",
            PREFECT_HOME=str(home),
            PREFECT_SERVER_API_PORT=str(free_port()),
        )
    return found


def health(environ: Mapping[str, str]) -> str:
    command = [sys.executable, "-m", "autoflow", "health"]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False).stdout


def test_when_one_of_two_daemons_dies_the_other_one_does_its_dates(
    deployed: Deployed, environs: Mapping[str, Mapping[str, str]], tmp_path: Path
) -> None:
    write_notebook(deployed.inputs / "n.ipynb", WAITS, parameters="reference_date = None")
    deployed.write_workflows("""
        workflows:
          - name: one
            notebooks: {n: {filename: n.ipynb, parameters: {reference_date: reference_date}}}
        available_dates_sensor:
          schedule: "0 0 1 1 *"
          workflows: [{workflow_name: one, earliest_date: 2016-01-11}]
    """)
    logs = {name: tmp_path / f"{name}.log" for name in environs}
    with ExitStack() as stack:
        daemons = {name: stack.enter_context(running(environ, logs[name])) for name, environ in environs.items()}
        store = stack.enter_context(closing(RunStore(environs["first"]["AUTOFLOW_DB_URI"])))
        # Both tick, and each gets one of the two dates.
        wait_for(lambda: len(list(deployed.inputs.glob("started *"))) == 2)
        assert all("tick" in log.read_text() for log in logs.values())
        assert [run.state for run in store.runs()] == [RunState.RUNNING] * 2
        assert len({run.holder for run in store.runs()}) == 2

        daemons["first"].send_signal(signal.SIGKILL)
        (deployed.inputs / "go").touch()

        wait_for(lambda: sorted(run.state for run in store.runs()) == ["crashed", "succeeded", "succeeded"])
        crashed, *others = sorted(store.runs(), key=lambda run: run.state)
        assert {run.key.reference_date.day for run in others} == {11, 12}
        (second,) = {run.holder for run in others}
        assert crashed.holder != second
        assert crashed.key in {run.key for run in others}
        wait_for(lambda: len(list((deployed.outputs / "notebooks").glob("*.html"))) == 2)
        assert (deployed.outputs / "index.html").exists()
        assert "WRONG" in health(environs["first"])
        assert "WRONG" not in health(environs["second"])
        daemons["second"].send_signal(signal.SIGTERM)
        assert daemons["second"].wait(LONG) == 0
    assert len(deployed.executed()) == 2

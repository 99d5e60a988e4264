"""Two daemons on one database, one of them with a Prefect server of its own."""

import shutil
import signal
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest

from autoflow.cli import main
from autoflow.model.store import RunStore
from autoflow.orchestration.prefect_api import free_port
from autoflow.runs.records import RunState
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook
from tests.postgres import Postgres
from tests.receiver import Receiver
from tests.test_acceptance import environment, running
from tests.waiting import LONG, wait_for

WAITS = """
import pathlib, time
pathlib.Path(f"started {reference_date}").touch()
while not pathlib.Path("go").exists():
    time.sleep(0.05)
"""


WORKFLOWS = """
workflows:
  - name: bad
    notebooks: {n: {filename: bad.ipynb}}
  - name: one
    notebooks: {n: {filename: n.ipynb, parameters: {reference_date: reference_date}}}
available_dates_sensor:
  schedule: "0 0 1 1 *"
  workflows:
    - {workflow_name: bad, earliest_date: 2016-01-12, max_attempts: 1}
"""


@pytest.fixture
def environs(
    deployed: Deployed,
    example_flowapi: ExampleFlowApi,
    postgres: Postgres,
    prefect_database: Path,
    prefect_url: str,
    tmp_path: Path,
    receiver: Receiver,
) -> Mapping[str, Mapping[str, str]]:
    """Return the environments of two daemons that share all but Prefect, and run one date at a time."""
    uri = postgres.uri()
    found = {}
    of_prefect = {
        "first": {"PREFECT_SERVER_API_PORT": str(free_port())},
        "second": {"PREFECT_API_URL": prefect_url},
    }
    for name, variables in of_prefect.items():
        home = tmp_path / name
        home.mkdir()
        shutil.copy(prefect_database, home)
        found[name] = environment(
            deployed,
            example_flowapi,
            AUTOFLOW_DB_URI=uri,
            AUTOFLOW_HEARTBEAT_TIMEOUT="15",
            AUTOFLOW_MAX_PARALLEL_RUNS="1",
            AUTOFLOW_NOTIFY_URLS=receiver.url,
            PREFECT_HOME=str(home),
            **variables,
        )
    return found


@pytest.mark.usefixtures("log_as_before")
def test_of_two_daemons_each_works_messages_go_out_once_and_when_one_dies_the_other_does_its_dates(
    deployed: Deployed,
    environs: Mapping[str, Mapping[str, str]],
    receiver: Receiver,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_notebook(deployed.inputs / "n.ipynb", WAITS, parameters="reference_date = None")
    write_notebook(deployed.inputs / "bad.ipynb", "1 / 0")
    deployed.write_workflows(WORKFLOWS)
    logs = {name: tmp_path / f"{name}.log" for name in environs}
    with ExitStack() as stack:
        store = stack.enter_context(closing(RunStore(environs["first"]["AUTOFLOW_DB_URI"])))
        store.migrate()
        daemons = {name: stack.enter_context(running(environ, logs[name])) for name, environ in environs.items()}
        wait_for(lambda: all("tick" in log.read_text() for log in logs.values()))
        wait_for(lambda: [run.state for run in store.runs()] == [RunState.FAILED])
        # Both look for dates at once, find the date that was given up, and get one of the two others.
        deployed.write_workflows(f"{WORKFLOWS}    - {{workflow_name: one, earliest_date: 2016-01-11}}\n")
        wait_for(lambda: len(list(deployed.inputs.glob("started *"))) == 2)
        running_now = store.runs(workflow="one")
        assert [run.state for run in running_now] == [RunState.RUNNING] * 2
        assert len({run.holder for run in running_now}) == 2

        daemons["first"].kill()
        daemons["first"].wait(LONG)
        (deployed.inputs / "go").touch()

        wait_for(lambda: sorted(run.state for run in store.runs(workflow="one")) == ["running", "succeeded"])
        with psycopg.connect(environs["first"]["AUTOFLOW_DB_URI"]) as connection:
            # As if the time had passed after which a claim runs out.
            connection.execute(
                "UPDATE runs SET heartbeat_at = heartbeat_at - interval '2 minutes' WHERE state = 'running'"
            )
        ends = ["crashed", "succeeded", "succeeded"]
        wait_for(lambda: sorted(run.state for run in store.runs(workflow="one")) == ends)
        crashed, *others = sorted(store.runs(workflow="one"), key=lambda run: run.state)
        assert {run.key.reference_date.day for run in others} == {11, 12}
        (second,) = {run.holder for run in others}
        assert crashed.holder != second
        assert crashed.key in {run.key for run in others}
        wait_for(lambda: len(list((deployed.outputs / "notebooks").glob("one__*.html"))) == 2)
        assert (deployed.outputs / "index.html").exists()
        for name, is_wrong in (("first", True), ("second", False)):
            capsys.readouterr()
            main(["health"], environs[name])
            assert ("WRONG" in capsys.readouterr().out) == is_wrong
        daemons["second"].send_signal(signal.SIGTERM)
        assert daemons["second"].wait(LONG) == 0
    assert len([path for path in deployed.executed() if path.name.startswith("one__")]) == 2
    assert len([title for title in receiver.titles() if "bad" in title]) == 1

"""Runs that begin before Prefect's API responds, or while it does not."""

import datetime
import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.states import Cancelling

from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.parser import read_workflows
from autoflow.runs.records import RunState
from autoflow.runs.run import Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.system.log import set_up_logging
from autoflow.system.stop_signal import Shutdown
from autoflow.workflows.connection import connected
from autoflow.workflows.execution import Execution, Lines
from autoflow.workflows.runner import WorkflowRunner
from autoflow.workflows.shown_runs import ShownRun, ShownRuns
from tests.conftest import Deployed, write_notebook
from tests.waiting import wait_for
from tests.workflows.conftest import FORK_SERVER

DATE = datetime.date(2016, 1, 7)
WAITS = "import pathlib, time\npathlib.Path('started').touch()\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"


def the_run(settings: Settings, name: str) -> WorkflowRun:
    workflow = next(each for each in read_workflows(settings).workflows if each.name == name)
    return WorkflowRun(workflow=workflow, parameters={}, reference_date=DATE, date_ranges=())


@pytest.fixture
def runner(deployed: Deployed) -> Iterator[WorkflowRunner]:
    """Yield a runner that expects Prefect; workflow 'short' ends by itself, and 'long' waits."""
    write_notebook(deployed.inputs / "short.ipynb", "1 + 1")
    write_notebook(deployed.inputs / "long.ipynb", WAITS)
    deployed.write_workflows("""
        workflows:
          - {name: short, notebooks: {n: {filename: short.ipynb}}}
          - {name: long, notebooks: {n: {filename: long.ipynb}}}
        available_dates_sensor: {schedule: null, workflows: [{workflow_name: short}]}
    """)
    settings = deployed.settings()
    with closing(RunStore(settings.db_uri)) as store:
        store.migrate()
        with Heartbeat(store) as heartbeat:
            shown = ShownRuns(is_expected=True)
            yield WorkflowRunner(
                settings=settings, store=store, heartbeat=heartbeat, shown_runs=shown, fork_server=FORK_SERVER
            )


@contextmanager
def running(runner: WorkflowRunner, name: str) -> Iterator[list[RunState | None]]:
    """Yield once the notebook of a workflow that waits has started; the list gets the state at the end."""
    states: list[RunState | None] = []
    run = the_run(runner.settings, name)
    thread = threading.Thread(target=lambda: states.append(runner.run(run, shutdown=Shutdown())))
    thread.start()
    wait_for((runner.settings.inputs_dir / "started").exists)
    yield states
    (runner.settings.inputs_dir / "go").touch()
    thread.join()


def flow_run_id(runner: WorkflowRunner, name: str) -> UUID:
    """Wait until Prefect shows the run of a workflow; return the id of its flow run."""

    def found() -> str | None:
        return next((each.flow_run_id for each in runner.store.runs() if each.key.workflow == name), None)

    wait_for(found)
    return UUID(found())


@pytest.mark.usefixtures("prefect_url")
def test_runs_from_before_prefect_responds_are_shown_afterwards_and_can_be_cancelled_there(
    runner: WorkflowRunner,
) -> None:
    assert runner.run(the_run(runner.settings, "short"), shutdown=Shutdown()) is RunState.SUCCEEDED
    with runner.cancellations, running(runner, "long") as states:
        assert [run.flow_run_id for run in runner.store.runs()] == [None, None]
        with connected(runner), get_client(sync_client=True) as client:
            assert runner.shown_runs.join(0.0) is False
            short, long = flow_run_id(runner, "short"), flow_run_id(runner, "long")
            client.set_flow_run_state(long, Cancelling(), force=True)
            wait_for(lambda: states)
            assert runner.shown_runs.join(60.0)
            ended = [client.read_flow_run(each) for each in (short, long)]
    assert states == [RunState.CANCELLED]
    assert [(run.name, run.state_name) for run in ended] == [
        ("short 2016-01-07", "Completed"),
        ("long 2016-01-07", "Cancelled"),
    ]


def test_runs_do_not_wait_for_a_prefect_that_hangs(runner: WorkflowRunner) -> None:
    shown: list[ShownRun] = []
    over = threading.Event()

    def hang(run: ShownRun) -> None:
        shown.append(run)
        over.wait()

    runner.shown_runs.connect(hang)
    assert runner.run(the_run(runner.settings, "short"), shutdown=Shutdown()) is RunState.SUCCEEDED
    assert [run.execution.has_ended for run in shown] == [True]
    assert not runner.shown_runs.join(0.0)
    over.set()
    assert runner.shown_runs.join(60.0)


@pytest.mark.usefixtures("prefect_url", "log_as_before")
def test_prefect_shows_the_lines_that_a_run_logs_even_from_before_it_responds(
    runner: WorkflowRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise LookupError("no such thing")

    set_up_logging("INFO", tuple)
    run, ids = the_run(runner.settings, "short"), list[UUID]()
    execution = Execution(run, runner.settings, outcome=Outcome())
    monkeypatch.setattr("autoflow.workflows.execution.run_notebook", fails)
    execution.start()
    execution.wait()
    runner.shown_runs.add(ShownRun(execution=execution, tags=(), parameters={}, started=ids.append))
    with connected(runner):
        assert runner.shown_runs.join(60.0)
        with get_client(sync_client=True) as client:
            of_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=ids))
            wait_for(lambda: any("has a bug" in line.message for line in client.read_logs(of_run)))


def test_lines_that_are_kept_are_passed_on_first() -> None:
    lines, sent = Lines(), list[str]()
    for number in range(2000):
        lines.add(logging.makeLogRecord({"msg": str(number)}))
    lines.send_with(lambda line: sent.append(line.getMessage()))
    lines.add(logging.makeLogRecord({"msg": "last"}))
    assert sent == [*map(str, range(1000, 2000)), "last"]

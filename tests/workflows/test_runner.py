import datetime
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterName

from autoflow.dates.intervals import DateInterval
from autoflow.dates.periods import Every
from autoflow.model.heartbeat import INTERVAL, Heartbeat
from autoflow.model.store import RunStore
from autoflow.notebooks.live_files import RunProgress, progress_of_runs
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.progress import ProgressBars
from autoflow.parser import read_workflows
from autoflow.runs.records import RunError, RunState
from autoflow.runs.run import EndedRun, WorkflowRun
from autoflow.sensor import make_available_dates_sensor
from autoflow.settings import Settings
from autoflow.system.log import logger
from autoflow.system.stop_signal import Shutdown, StopSignal
from autoflow.workflows.connection import connected
from autoflow.workflows.dispatcher import Dispatcher
from autoflow.workflows.progress import ProgressWatch
from autoflow.workflows.runner import WorkflowRunner
from autoflow.workflows.tick import Sensor
from tests.conftest import TOKEN_OF_NO_USE, Deployed, write_notebook
from tests.waiting import LONG, wait_for
from tests.workflows.conftest import FORK_SERVER

DATE = datetime.date(2016, 1, 7)
WAITS = "import pathlib, time\npathlib.Path('started').touch()\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"


def the_run(settings: Settings) -> WorkflowRun:
    workflow = read_workflows(settings).workflows[0]
    return WorkflowRun(workflow=workflow, parameters={}, reference_date=DATE, date_ranges=())


@contextmanager
def working(settings: Settings, *, interval: datetime.timedelta = INTERVAL, **options: Any) -> Iterator[WorkflowRunner]:
    """Yield a runner with its own run store and heartbeat."""
    with closing(RunStore(settings.db_uri)) as store:
        store.migrate()
        with Heartbeat(store, interval=interval) as heartbeat:
            runner = WorkflowRunner(
                settings=settings, store=store, heartbeat=heartbeat, fork_server=FORK_SERVER, **options
            )
            with connected(runner):
                yield runner


@contextmanager
def running(runner: WorkflowRunner, shutdown: Shutdown, deployed: Deployed) -> Iterator[list[RunState | None]]:
    """Yield once the notebook, which has to be `WAITS`, has started; the list gets the state at the end."""
    states: list[RunState | None] = []
    thread = threading.Thread(target=lambda: states.append(runner.run(the_run(runner.settings), shutdown=shutdown)))
    thread.start()
    wait_for((deployed.inputs / "started").exists)
    yield states
    thread.join(LONG)


def progress_bars(runner: WorkflowRunner) -> list[tuple[str | None, Any]]:
    """Return the texts and percentages of the progress bars in Prefect of the only run."""
    (run,) = runner.store.runs()
    flow_run = ArtifactFilterFlowRunId.model_validate({"any_": [run.flow_run_id]})
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=flow_run))
    return [(artifact.description, artifact.data) for artifact in found if artifact.type == "progress"]


@pytest.mark.usefixtures("prefect_url")
class TestWorkflowRunner:
    ONE = """
        workflows: [{name: one, notebooks: {n: {filename: n.ipynb}}}]
        available_dates_sensor: {schedule: null, workflows: [{workflow_name: one}]}
    """

    def test_a_run_that_succeeded_is_not_run_again(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "1")
        deployed.write_workflows(self.ONE)
        settings = deployed.settings()
        with working(settings) as runner:
            states = [runner.run(the_run(settings), shutdown=Shutdown()) for _ in range(2)]

        assert states == [RunState.SUCCEEDED, None]
        assert len(deployed.executed()) == 1

    def test_the_output_of_a_run_can_be_followed_as_long_as_it_is_in_progress(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "print('begun')", WAITS)
        deployed.write_workflows(self.ONE)
        settings = deployed.settings()
        with working(settings) as runner, ProgressBars() as bars:
            followed: list[None] = []
            watch = ProgressWatch(runner.store, settings.outputs_dir, followers=[lambda: followed.append(None)])
            watch.show_with(bars.show)
            with running(runner, Shutdown(), deployed) as states:
                (run,) = runner.store.runs()
                at_work = {run.id: RunProgress("cell 2 of 2 of n", 50.0)}
                wait_for(lambda: progress_of_runs(settings.outputs_dir) == at_work)
                wait_for(lambda: all(run.flow_run_id for run in runner.store.runs()))
                watch.look()
                assert progress_bars(runner) == [("cell 2 of 2 of n", 50.0)]
                (file,) = (settings.outputs_dir / ".live").glob(f"{run.id}-*/n.jsonl")
                assert "begun" in file.read_text(encoding="utf-8")
                (deployed.inputs / "go").touch()
            assert states == [RunState.SUCCEEDED]
            watch.look()
            watch.look()
            assert progress_bars(runner) == []
        assert len(followed) == 2
        assert list((settings.outputs_dir / ".live").iterdir()) == []

    def test_a_failure_is_recorded_without_secrets_and_can_be_run_again(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "import os; raise ValueError(os.environ['FLOWAPI_TOKEN'])")
        deployed.write_workflows(self.ONE)
        settings = deployed.settings()
        with working(settings) as runner:
            states = [runner.run(the_run(settings), shutdown=Shutdown()) for _ in range(2)]
            (history,) = runner.store.histories().values()

        assert states == [RunState.FAILED, RunState.FAILED]
        assert history.failures[DATE].count == 2
        for path in (*deployed.executed(), *deployed.outputs.glob("autoflow.db*")):
            assert TOKEN_OF_NO_USE.encode() not in path.read_bytes()

    def test_a_report_of_what_is_nested_too_deeply_is_plain_text(self, deployed: Deployed) -> None:
        html = "<div>" * 1000 + "deep" + "</div>" * 1000
        write_notebook(
            deployed.inputs / "n.ipynb", f"from IPython.display import HTML, display\ndisplay(HTML({html!r}))"
        )
        deployed.write_workflows(self.ONE.replace("n.ipynb", "n.ipynb, output: {format: html}"))
        settings = deployed.settings()
        with working(settings) as runner:
            state = runner.run(the_run(settings), shutdown=Shutdown())
            (run,) = runner.store.runs()

        assert state is RunState.SUCCEEDED
        (report,) = run.outputs["n"]["reports"]
        assert "deep" in Path(report).read_text()

    def test_a_bug_below_a_notebook_is_a_failure_of_its_run(
        self, deployed: Deployed, monkeypatch: pytest.MonkeyPatch, logged: list[str]
    ) -> None:
        def fail(*_: object) -> None:
            raise LookupError("an unexpected error")

        write_notebook(deployed.inputs / "n.ipynb", "1")
        deployed.write_workflows(self.ONE.replace("n.ipynb", "n.ipynb, output: {format: html}"))
        settings = deployed.settings()
        with working(settings) as runner, monkeypatch.context() as patch:
            patch.setattr("shutil.copyfile", fail)
            state = runner.run(the_run(settings), shutdown=Shutdown())
            (run,) = runner.store.runs()

        assert state is RunState.FAILED
        assert "LookupError: an unexpected error (a bug, see AutoFlow's log)" in str(run.error)
        assert any("has a bug" in line for line in logged)

    def test_a_bug_in_a_tick_is_reported_in_prefect_the_log_and_the_health_check(
        self, deployed: Deployed, logged: list[str]
    ) -> None:
        def no_time() -> datetime.datetime:
            raise LookupError("an unexpected error")

        write_notebook(deployed.inputs / "n.ipynb", "1")
        deployed.write_workflows(self.ONE)
        settings = deployed.settings()
        with working(settings) as runner:
            dispatcher = Dispatcher(runner, shutdown=Shutdown())
            sensor = Sensor(
                settings=settings, store=runner.store, dispatcher=dispatcher, wait=lambda _: False, clock=no_time
            )
            tick = make_available_dates_sensor(
                sensor, cancellations=runner.cancellations, shutdown=Shutdown(), done=lambda _: None
            )
            state: Any = tick(return_state=True)

        message = "LookupError: an unexpected error (a bug, see AutoFlow's log)"
        assert (state.type.value, state.message) == ("FAILED", message)
        assert logged[-1] == f"tick failed: {message}"
        last_tick = DaemonFiles(home=settings.prefect_home).last_tick()
        assert last_tick
        assert last_tick.error == message

    def test_a_run_whose_notebooks_are_done_has_succeeded_even_if_prefect_is_gone(
        self, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_state = SyncPrefectClient.set_flow_run_state

        def gone_at_the_end(client: SyncPrefectClient, run_id: UUID, state: Any, **options: Any) -> Any:
            if state.is_final():
                raise httpx.ConnectError("gone")
            return set_state(client, run_id, state, **options)

        write_notebook(deployed.inputs / "n.ipynb", "1")
        deployed.write_workflows(self.ONE)
        settings = deployed.settings()
        with working(settings) as runner, monkeypatch.context() as patch:
            patch.setattr(SyncPrefectClient, "set_flow_run_state", gone_at_the_end)
            state = runner.run(the_run(settings), shutdown=Shutdown())

        assert state is RunState.SUCCEEDED

    def test_a_run_does_not_start_when_autoflow_stops_or_it_is_cancelled(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "1")
        deployed.write_workflows(self.ONE)
        settings, closing_down, cancel = deployed.settings(), Shutdown(), StopSignal()
        closing_down.close()
        cancel.set("it was cancelled")
        with closing(RunStore(settings.db_uri)) as store:
            store.migrate()
            with Heartbeat(store) as heartbeat:
                runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
                assert runner.run(the_run(settings), shutdown=closing_down) is None
                assert runner.run(the_run(settings), shutdown=Shutdown(), cancel=cancel) is None
            assert store.runs() == []

    def test_a_run_that_somebody_cancels_from_the_command_line_ends_as_cancelled(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", WAITS)
        deployed.write_workflows(self.ONE)
        settings = deployed.settings()
        with closing(RunStore(settings.db_uri)) as store, closing(RunStore(settings.db_uri)) as elsewhere:
            store.migrate()
            with Heartbeat(store) as heartbeat:
                runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat, fork_server=FORK_SERVER)
                with running(runner, Shutdown(), deployed) as states:
                    (record,) = elsewhere.runs()
                    assert elsewhere.ask_to_cancel(record.id)
            (record,) = store.runs()
            (history,) = store.histories().values()

        assert states == [RunState.CANCELLED]
        assert record.error == RunError("Cancelled", "it was cancelled with 'autoflow cancel'")
        assert history.failures[DATE].cancelled

    def test_a_run_is_interrupted_when_autoflow_stops(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "open('started', 'w').close()\nimport time; time.sleep(600)")
        deployed.write_workflows(self.ONE)
        settings, shutdown = deployed.settings(), Shutdown()

        def stop_when_started() -> None:
            while not (deployed.inputs / "started").exists():
                shutdown.stop.wait(0.05)
            shutdown.close_at_once("AutoFlow was stopped")

        watcher = threading.Thread(target=stop_when_started)
        watcher.start()
        with working(settings) as runner:
            state = runner.run(the_run(settings), shutdown=shutdown)
            watcher.join()
            (history,) = runner.store.histories().values()

        assert state is RunState.INTERRUPTED
        assert history.failures[DATE].count == 0
        assert history.running == history.done == frozenset()

    def test_followers_are_called_once_after_the_end_is_recorded(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "1")
        deployed.write_workflows(self.ONE)
        settings = deployed.settings()
        followed: list[tuple[RunState, list[RunState]]] = []

        def follow(ended: EndedRun) -> None:
            followed.append((ended.state, [record.state for record in runner.store.runs()]))

        with working(settings, followers=[follow]) as runner:
            runner.run(the_run(settings), shutdown=Shutdown())

        assert followed == [(RunState.SUCCEEDED, [RunState.SUCCEEDED])]

    def test_a_run_of_a_period_is_named_by_it_in_its_reports_the_log_and_prefect_and_a_rerun_says_why(
        self, deployed: Deployed, logged: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", logger.name)
        write_notebook(deployed.inputs / "n.ipynb", "1")
        deployed.write_workflows(self.ONE.replace("n.ipynb", "n.ipynb, output: {format: [pdf, html]}"))
        settings = deployed.settings()
        last, missing = datetime.date(2016, 1, 10), datetime.date(2016, 1, 6)
        week = WorkflowRun(
            workflow=read_workflows(settings).workflows[0],
            parameters={},
            reference_date=last,
            every=Every.WEEK,
            date_ranges=[DateInterval(datetime.date(2016, 1, 4), last)],
            missing_dates=[missing],
            label="north",
            title="Mobility in the north",
        )
        again = replace(week, is_rerun=True, changed=[missing], missing_dates=())
        with working(settings) as runner:
            states = [runner.run(each, shutdown=Shutdown()) for each in (week, again)]
            records = runner.store.runs()

        assert states == [RunState.SUCCEEDED, RunState.SUCCEEDED]
        assert [record.missing_days for record in records] == [0, 1]
        name = "one:north week 2016-01-04 to 2016-01-10"
        assert [line for line in logged if line.startswith("started")] == [
            f"started {name}",
            f"started {name} (attempt 2), again: 2016-01-06 has arrived or changed since the last run",
        ]
        html, pdf = map(Path, sorted(records[1].outputs["n"]["reports"]))
        text = subprocess.run(["pdftotext", str(pdf), "-"], check=True, capture_output=True, text=True).stdout
        for content in (text, unescape(html.read_text())):
            words = " ".join(content.split())
            assert "Mobility in the north · week 2016-01-04 to 2016-01-10, 1 of 7 days missing" in words
        with get_client(sync_client=True) as client:
            found = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))
        assert {frozenset(flow_run.tags) for flow_run in found} == {frozenset({"one", "north", "week", "2016-01-10"})}

    def test_a_run_that_loses_its_claim_is_interrupted_and_keeps_the_record_of_its_crash(
        self, deployed: Deployed, logged: list[str]
    ) -> None:
        write_notebook(deployed.inputs / "n.ipynb", WAITS)
        deployed.write_workflows(self.ONE)
        settings = deployed.settings()
        later = RunStore(settings.db_uri, clock=lambda: datetime.datetime(2100, 1, 1))
        with working(settings, interval=datetime.timedelta(seconds=0.02)) as runner, closing(later):
            with running(runner, Shutdown(), deployed) as states:
                assert later.give_up_crashed() == 1
            (record,) = runner.store.runs()

        assert states == [RunState.INTERRUPTED]
        assert record.state is RunState.CRASHED
        assert "one 2016-01-07 ended as interrupted after its claim was marked as crashed" in logged

    def test_an_end_that_cannot_be_recorded_before_the_shutdown_is_left_to_the_next_start(
        self, deployed: Deployed, logged: list[str]
    ) -> None:
        write_notebook(deployed.inputs / "n.ipynb", WAITS)
        deployed.write_workflows(self.ONE)
        settings, shutdown = deployed.settings(), Shutdown()
        followed: list[EndedRun] = []
        with (
            working(settings, followers=[followed.append]) as runner,
            closing(sqlite3.connect(deployed.outputs / "autoflow.db")) as database,
            running(runner, shutdown, deployed) as states,
        ):
            database.execute("ALTER TABLE runs RENAME TO gone")
            database.commit()
            (deployed.inputs / "go").touch()
            wait_for(lambda: any("could not record it yet" in line for line in logged))
            shutdown.close_at_once("AutoFlow was stopped")

        assert states == [RunState.INTERRUPTED]
        assert "could not record the end of one 2016-01-07: it will be marked as crashed and run again" in logged
        assert followed == []

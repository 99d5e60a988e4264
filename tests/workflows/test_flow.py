import datetime
import functools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import nbformat
import pytest
from prefect.client.orchestration import SyncPrefectClient

from autoflow.date_stencil import DateStencil
from autoflow.errors import NotebookError
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.parser import read_workflows
from autoflow.runs.records import RunState
from autoflow.runs.run import Outcome, WorkflowRun
from autoflow.sensor import Sensor, make_available_dates_sensor
from autoflow.settings import Settings
from autoflow.specs import Json
from autoflow.stop_signal import Shutdown, StopSignal
from autoflow.workflows.flow import make_notebooks_workflow
from autoflow.workflows.runner import WorkflowRunner
from tests.conftest import TOKEN_OF_NO_USE, Deployed, write_notebook
from tests.waiting import LONG

DATE = datetime.date(2016, 1, 7)


def the_run(settings: Settings, parameters: dict[str, Json] | None = None) -> WorkflowRun:
    stencil = DateStencil([[datetime.date(2016, 1, 1), datetime.date(2016, 1, 3)], -3, [-2, 0]])
    return WorkflowRun(
        workflow=read_workflows(settings).workflows[0],
        parameters=parameters or {},
        reference_date=DATE,
        date_ranges=stencil.resolve(DATE),
    )


def flow(run: WorkflowRun, settings: Settings, outcome: Outcome, stop: StopSignal | None = None) -> str:
    """Run the flow; return the type of the state that Prefect has it in at the end."""
    workflow = make_notebooks_workflow(run, settings, outcome=outcome, stop=stop)
    state: Any = workflow(DATE.isoformat(), [], {}, return_state=True)
    return str(state.type.value)


def printed(executed: Path) -> str:
    notebook = nbformat.read(executed, as_version=4)
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.usefixtures("prefect_url")
class TestNotebooksWorkflow:
    def test_a_notebook_gets_the_automatic_parameters_and_those_of_the_workflow(self, deployed: Deployed) -> None:
        write_notebook(
            deployed.inputs / "show.ipynb",
            "import json; print(json.dumps([url, date, ranges, value]))",
            parameters="url = None\ndate = None\nranges = None\nvalue = None",
        )
        deployed.write_workflows("""
            workflows:
              - name: shows
                notebooks:
                  show:
                    filename: show.ipynb
                    parameters: {url: flowapi_url, date: reference_date, ranges: date_ranges, value: some_value}
            available_dates_sensor:
              schedule: null
              workflows:
                - workflow_name: shows
                  parameters: {some_value: {"ü": [1, "a'b\\n{c}"]}}
        """)
        settings, outcome = deployed.settings(), Outcome()
        value: Json = {"ü": [1, "a'b\n{c}"]}

        assert flow(the_run(settings, {"some_value": value}), settings, outcome) == "COMPLETED"

        assert json.loads(printed(outcome.outputs["show"].executed)) == [
            "http://127.0.0.1:9",
            "2016-01-07",
            [["2016-01-01", "2016-01-03"], ["2016-01-04", "2016-01-04"], ["2016-01-05", "2016-01-07"]],
            value,
        ]

    def test_scraps_go_along_all_edges_of_a_diamond_whose_middle_runs_side_by_side(self, deployed: Deployed) -> None:
        now = "import time; started = time.time(); time.sleep(1.5)"
        glue = "import scrapbook as sb; sb.glue('path', 'a')"
        middle = (
            "import scrapbook as sb\n"
            "sb.glue('path', sb.read_notebook(above).scraps['path'].data + name)\n"
            "sb.glue('times', [started, time.time()])"
        )
        bottom = (
            "import scrapbook as sb\n"
            "left, right = (sb.read_notebook(path).scraps for path in (one, two))\n"
            "print(left['path'].data, right['path'].data)\n"
            "(a, b), (c, d) = left['times'].data, right['times'].data\n"
            "print('side by side' if max(a, c) < min(b, d) else 'one by one')"
        )
        write_notebook(deployed.inputs / "top.ipynb", glue)
        write_notebook(deployed.inputs / "left.ipynb", now, middle, parameters="above = ''\nname = 'l'")
        write_notebook(deployed.inputs / "right.ipynb", now, middle, parameters="above = ''\nname = 'r'")
        write_notebook(deployed.inputs / "bottom.ipynb", bottom, parameters="one = ''\ntwo = ''")
        deployed.write_workflows("""
            workflows:
              - name: diamond
                notebooks:
                  bottom: {filename: bottom.ipynb, parameters: {one: left, two: right}}
                  right: {filename: right.ipynb, parameters: {above: top}}
                  left: {filename: left.ipynb, parameters: {above: top}}
                  top: {filename: top.ipynb}
            available_dates_sensor: {schedule: null, workflows: [{workflow_name: diamond}]}
        """)
        settings, outcome = deployed.settings(), Outcome()

        assert flow(the_run(settings), settings, outcome) == "COMPLETED"

        assert printed(outcome.outputs["bottom"].executed).splitlines() == ["al ar", "side by side"]

    def test_a_failed_notebook_stops_what_depends_on_it_and_nothing_else(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "fails.ipynb", "print('so far')", "1 / 0", "print('never')")
        write_notebook(deployed.inputs / "needs.ipynb", "print(above)", parameters="above = ''")
        write_notebook(deployed.inputs / "other.ipynb", "import time; time.sleep(1.5); print('done')")
        deployed.write_workflows("""
            workflows:
              - name: half
                notebooks:
                  fails: {filename: fails.ipynb}
                  needs: {filename: needs.ipynb, parameters: {above: fails}}
                  other: {filename: other.ipynb}
            available_dates_sensor: {schedule: null, workflows: [{workflow_name: half}]}
        """)
        settings, outcome = deployed.settings(), Outcome()

        assert flow(the_run(settings), settings, outcome) == "FAILED"

        assert set(outcome.errors) == {"fails"}
        error = outcome.errors["fails"]
        assert isinstance(error, NotebookError)
        assert (error.cell, error.error_class, error.error_message) == (2, "ZeroDivisionError", "division by zero")
        assert set(outcome.outputs) == {"fails", "other"}
        assert printed(outcome.outputs["fails"].executed) == "so far\n"
        assert "ZeroDivisionError" in outcome.outputs["fails"].executed.read_text()
        assert printed(outcome.outputs["other"].executed) == "done\n"

    def test_a_stopped_run_is_cancelled_in_prefect(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "waits.ipynb", "import time; time.sleep(600)")
        deployed.write_workflows("""
            workflows: [{name: waits, notebooks: {waits: {filename: waits.ipynb}}}]
            available_dates_sensor: {schedule: null, workflows: [{workflow_name: waits}]}
        """)
        settings, outcome, stop = deployed.settings(), Outcome(), StopSignal()
        stop.set("somebody asked")

        assert flow(the_run(settings), settings, outcome, stop) == "CANCELLED"
        assert str(outcome.errors["waits"]) == "somebody asked"

    def test_names_of_outputs_tell_what_they_are_and_do_not_clash(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "1", parameters="value = 0")
        deployed.write_workflows("""
            workflows:
              - name: "a/b {x} é"
                notebooks:
                  "the one": {filename: n.ipynb, parameters: {value: value}}
                  "the/one": {filename: n.ipynb, parameters: {value: value}}
            available_dates_sensor:
              schedule: null
              workflows: [{workflow_name: "a/b {x} é", parameters: {value: 1}}]
        """)
        settings, outcome = deployed.settings(), Outcome()

        assert flow(the_run(settings, {"value": 1}), settings, outcome) == "COMPLETED"

        names = [path.name for path in deployed.executed()]
        assert len(names) == 2
        for name in names:
            workflow, notebook, date, parameters, time = name.removesuffix(".ipynb").split("__")
            assert workflow.startswith("a-b-x-é")
            assert notebook.startswith("the-one")
            assert date == "2016-01-07"
            assert len(parameters) == 8
            assert datetime.datetime.strptime(time, "%Y%m%dT%H%M%S.%fZ").year >= 2026

    def test_a_notebook_becomes_a_report_with_our_template_or_its_own(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "from IPython.display import Markdown; Markdown('# Shown *here*')")
        (deployed.inputs / "own.tpl").write_text(
            "{% extends 'asciidoc.tpl' %}\n{% block header %}{{ super() }}\nOwn words.\n{% endblock %}\n"
        )
        deployed.write_workflows("""
            workflows:
              - name: reports
                notebooks:
                  plain: {filename: n.ipynb, output: {format: pdf}}
                  own: {filename: n.ipynb, output: {format: pdf, template: own.tpl}}
                  none: {filename: n.ipynb}
            available_dates_sensor: {schedule: null, workflows: [{workflow_name: reports}]}
        """)
        settings, outcome = deployed.settings(), Outcome()

        assert flow(the_run(settings), settings, outcome) == "COMPLETED"

        reports = deployed.reports()
        assert [path.name.split("__")[1] for path in reports] == ["own", "plain"]
        assert all(path.read_bytes().startswith(b"%PDF") for path in reports)
        assert outcome.outputs["none"].reports == ()

    def test_a_failed_report_fails_the_run_and_leaves_the_executed_notebook(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "print(1)")
        (deployed.inputs / "broken.tpl").write_text("{% extends 'asciidoc.tpl' %}\n{% block x %}\n{{ 1 +\n")
        deployed.write_workflows("""
            workflows:
              - name: reports
                notebooks: {n: {filename: n.ipynb, output: {format: pdf, template: broken.tpl}}}
            available_dates_sensor: {schedule: null, workflows: [{workflow_name: reports}]}
        """)
        settings, outcome = deployed.settings(), Outcome()

        assert flow(the_run(settings), settings, outcome) == "FAILED"

        assert "broken.tpl" in str(outcome.errors["n"])
        assert outcome.outputs["n"].executed.exists()
        assert deployed.reports() == []


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
        store = RunStore(settings.db_uri)
        store.migrate()
        with Heartbeat(store) as heartbeat:
            runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
            states = [runner.run(the_run(settings), shutdown=Shutdown()) for _ in range(2)]

        assert states == [RunState.SUCCEEDED, None]
        assert len(deployed.executed()) == 1
        store.close()

    def test_a_failure_is_recorded_without_secrets_and_can_be_run_again(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "import os; raise ValueError(os.environ['FLOWAPI_TOKEN'])")
        deployed.write_workflows(self.ONE)
        settings = deployed.settings()
        store = RunStore(settings.db_uri)
        store.migrate()
        with Heartbeat(store) as heartbeat:
            runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
            states = [runner.run(the_run(settings), shutdown=Shutdown()) for _ in range(2)]
        (history,) = store.histories().values()
        store.close()

        assert states == [RunState.FAILED, RunState.FAILED]
        assert history.failures[DATE].count == 2
        for path in (*deployed.executed(), *deployed.outputs.glob("autoflow.db*")):
            assert TOKEN_OF_NO_USE.encode() not in path.read_bytes()

    def test_a_report_that_cannot_be_made_of_what_is_nested_too_deeply_fails(self, deployed: Deployed) -> None:
        html = "<div>" * 1000 + "deep" + "</div>" * 1000
        write_notebook(
            deployed.inputs / "n.ipynb", f"from IPython.display import HTML, display\ndisplay(HTML({html!r}))"
        )
        deployed.write_workflows(self.ONE.replace("n.ipynb", "n.ipynb, output: {format: html}"))
        settings = deployed.settings()
        store = RunStore(settings.db_uri)
        store.migrate()
        with Heartbeat(store) as heartbeat:
            runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
            state = runner.run(the_run(settings), shutdown=Shutdown())
        (run,) = store.runs()
        store.close()

        assert state is RunState.FAILED
        assert "nested too deeply" in str(run.error)

    def test_a_bug_below_a_notebook_is_a_failure_of_its_run(
        self, deployed: Deployed, monkeypatch: pytest.MonkeyPatch, logged: list[str]
    ) -> None:
        def fail(*_: object) -> None:
            raise LookupError("nobody reckoned with this")

        write_notebook(deployed.inputs / "n.ipynb", "1")
        deployed.write_workflows(self.ONE.replace("n.ipynb", "n.ipynb, output: {format: html}"))
        settings = deployed.settings()
        store = RunStore(settings.db_uri)
        store.migrate()
        with Heartbeat(store) as heartbeat, monkeypatch.context() as patch:
            patch.setattr("shutil.copyfile", fail)
            runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
            state = runner.run(the_run(settings), shutdown=Shutdown())
        (run,) = store.runs()
        store.close()

        assert state is RunState.FAILED
        assert "LookupError: nobody reckoned with this (a bug, see AutoFlow's log)" in str(run.error)
        assert any("has a bug" in line for line in logged)

    def test_a_bug_in_a_tick_is_told_where_people_look(self, deployed: Deployed, logged: list[str]) -> None:
        def no_time() -> datetime.datetime:
            raise LookupError("nobody reckoned with this")

        write_notebook(deployed.inputs / "n.ipynb", "1")
        deployed.write_workflows(self.ONE)
        settings = deployed.settings()
        store = RunStore(settings.db_uri)
        store.migrate()
        with Heartbeat(store) as heartbeat:
            runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
            sensor = Sensor(settings=settings, store=store, runner=runner, clock=no_time)
            tick = make_available_dates_sensor(sensor, shutdown=Shutdown(), done=lambda _: None)
            state: Any = tick(return_state=True)
        store.close()

        told = "LookupError: nobody reckoned with this (a bug, see AutoFlow's log)"
        assert (state.type.value, state.message) == ("FAILED", told)
        assert logged[-1] == f"tick failed: {told}"
        last_tick = DaemonFiles(home=settings.prefect_home).last_tick()
        assert last_tick
        assert last_tick.error == told

    def test_a_run_whose_notebooks_are_done_has_succeeded_though_prefect_is_gone(
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
        store = RunStore(settings.db_uri)
        store.migrate()
        with Heartbeat(store) as heartbeat, monkeypatch.context() as patch:
            patch.setattr(SyncPrefectClient, "set_flow_run_state", gone_at_the_end)
            runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
            state = runner.run(the_run(settings), shutdown=Shutdown())
        store.close()

        assert state is RunState.SUCCEEDED

    def test_no_more_runs_go_side_by_side_than_there_are_slots(self, deployed: Deployed) -> None:
        write_notebook(
            deployed.inputs / "n.ipynb",
            "import os, time; os.mkdir('alone'); time.sleep(0.5); os.rmdir('alone')",
        )
        deployed.write_workflows(self.ONE)
        settings = deployed.settings()
        runs = [replace(the_run(settings), reference_date=datetime.date(2016, 1, day)) for day in (1, 2, 3)]
        store = RunStore(settings.db_uri)
        store.migrate()
        with Heartbeat(store) as heartbeat, ThreadPoolExecutor() as pool:
            runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
            states = list(pool.map(functools.partial(runner.run, shutdown=Shutdown()), runs))
        store.close()

        assert states == [RunState.SUCCEEDED] * 3

    def test_a_run_that_waits_for_room_is_not_begun_when_autoflow_stops(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "1")
        deployed.write_workflows(self.ONE)
        settings, shutdown = deployed.settings(), Shutdown()
        store = RunStore(settings.db_uri)
        store.migrate()
        with Heartbeat(store) as heartbeat, ThreadPoolExecutor() as pool:
            runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat, slots=threading.Semaphore(0))
            waiting = pool.submit(runner.run, the_run(settings), shutdown=shutdown)
            shutdown.close()
            assert waiting.result(LONG) is None
        assert store.runs() == []
        store.close()

    def test_a_run_is_interrupted_when_autoflow_stops(self, deployed: Deployed) -> None:
        write_notebook(deployed.inputs / "n.ipynb", "open('started', 'w').close()\nimport time; time.sleep(600)")
        deployed.write_workflows(self.ONE)
        settings, shutdown = deployed.settings(), Shutdown()
        store = RunStore(settings.db_uri)
        store.migrate()

        def stop_when_started() -> None:
            while not (deployed.inputs / "started").exists():
                shutdown.stop.wait(0.05)
            shutdown.close_at_once("AutoFlow was stopped")

        watcher = threading.Thread(target=stop_when_started)
        watcher.start()
        with Heartbeat(store) as heartbeat:
            runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat)
            state = runner.run(the_run(settings), shutdown=shutdown)
        watcher.join()
        (history,) = store.histories().values()
        store.close()

        assert state is RunState.INTERRUPTED
        assert history.failures[DATE].count == 0
        assert history.running == history.done == frozenset()

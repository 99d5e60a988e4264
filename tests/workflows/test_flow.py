import datetime
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from autoflow.cluster.work import ThisMachine
from autoflow.dates.stencil import DateStencil
from autoflow.errors import NotebookError
from autoflow.parser import read_workflows
from autoflow.runs.run import Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import Json
from autoflow.system.stop_signal import StopSignal
from autoflow.workflows.flow import make_notebooks_workflow
from tests.conftest import Deployed, write_notebook
from tests.waiting import LONG
from tests.workflows.conftest import FORK_SERVER

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
    place = ThisMachine(settings, FORK_SERVER)
    workflow = make_notebooks_workflow(run, settings, outcome=outcome, stop=stop, place=place)
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

    @pytest.mark.parametrize(
        ("timeout", "default", "state"),
        [("", "0.5", "FAILED"), (", timeout: 0.5", "3600", "FAILED"), (", timeout: null", "0.5", "COMPLETED")],
    )
    def test_a_notebook_is_ended_by_its_own_timeout_or_that_of_the_settings(
        self, deployed: Deployed, timeout: str, default: str, state: str
    ) -> None:
        endless = "while True: pass" if state == "FAILED" else "import time; time.sleep(1)"
        write_notebook(deployed.inputs / "n.ipynb", endless)
        deployed.write_workflows(f"""
            workflows: [{{name: one, notebooks: {{n: {{filename: n.ipynb{timeout}}}}}}}]
            available_dates_sensor: {{schedule: null, workflows: [{{workflow_name: one}}]}}
        """)
        settings, outcome = deployed.settings(AUTOFLOW_NOTEBOOK_TIMEOUT=default), Outcome()

        assert flow(the_run(settings), settings, outcome) == state
        if state == "FAILED":
            assert str(outcome.error).endswith("the notebook took longer than 0.5 s")

    def test_scraps_go_along_all_edges_of_a_diamond_whose_middle_runs_side_by_side(self, deployed: Deployed) -> None:
        meets_the_other = (
            "import pathlib, time\n"
            "pathlib.Path(f'{name} is here').touch()\n"
            "while not all(pathlib.Path(f'{each} is here').exists() for each in 'lr'): time.sleep(0.02)"
        )
        glue = "import scrapbook as sb; sb.glue('path', 'a')"
        middle = "import scrapbook as sb\nsb.glue('path', sb.read_notebook(above).scraps['path'].data + name)"
        bottom = (
            "import scrapbook as sb\n"
            "left, right = (sb.read_notebook(path).scraps for path in (one, two))\n"
            "print(left['path'].data, right['path'].data)"
        )
        write_notebook(deployed.inputs / "top.ipynb", glue)
        write_notebook(deployed.inputs / "left.ipynb", meets_the_other, middle, parameters="above = ''\nname = 'l'")
        write_notebook(deployed.inputs / "right.ipynb", meets_the_other, middle, parameters="above = ''\nname = 'r'")
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
        # One after the other, they would wait for each other until then.
        settings, outcome = deployed.settings(AUTOFLOW_NOTEBOOK_TIMEOUT=str(2 * LONG)), Outcome()

        assert flow(the_run(settings), settings, outcome) == "COMPLETED"

        assert printed(outcome.outputs["bottom"].executed) == "al ar\n"

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
        stop.set("a user asked")

        assert flow(the_run(settings), settings, outcome, stop) == "CANCELLED"
        assert str(outcome.errors["waits"]) == "a user asked"

    def test_names_of_outputs_say_what_they_are_and_do_not_clash(self, deployed: Deployed) -> None:
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

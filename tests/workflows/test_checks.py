"""Checks of notebooks and skipped runs, from the kernel to the record, the page, the command line and Prefect."""

import html
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from autoflow.page.writer import write_page
from autoflow.parser import read_workflows
from autoflow.runs.checks import Check, Checks
from autoflow.runs.records import RunRecord, RunState
from autoflow.runs.run import EndedRun
from autoflow.settings import Settings
from autoflow.system.stop_signal import Shutdown
from tests.conftest import Deployed, write_notebook
from tests.pages import catalogue, data_of, statuses
from tests.waiting import LONG
from tests.workflows.test_runner import DATE, the_run, working

WORKFLOWS = """
    workflows:
      - name: flows
        notebooks:
          first: {filename: first.ipynb, output: {format: [pdf, html]}}
          beside: {filename: beside.ipynb, output: {format: html}}
          decides: {filename: decides.ipynb, parameters: {upstream: first}}
          last: {filename: last.ipynb, parameters: {upstream: decides}}
    available_dates_sensor: {schedule: null, workflows: [{workflow_name: flows}]}
"""

CHECKS = "import autoflow\nautoflow.check('there are rows', True)\n"
WARNS = CHECKS + "autoflow.check('few outliers', False, 'warning', '7 %')"
FAILS = CHECKS + "autoflow.check('no gaps', False, message='3 gaps')"

BESIDE = "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(600)"
DECIDES = """
import autoflow, pathlib, time
while not pathlib.Path('started').exists(): time.sleep(0.05)
autoflow.skip('nobody moved')
"""


def deploy(deployed: Deployed, *, first: str, beside: str, decides: str) -> Settings:
    write_notebook(deployed.inputs / "first.ipynb", first)
    write_notebook(deployed.inputs / "beside.ipynb", beside)
    for name, code in {"decides": decides, "last": "import pathlib; pathlib.Path('last').touch()"}.items():
        write_notebook(deployed.inputs / f"{name}.ipynb", code, parameters="upstream = None")
    deployed.write_workflows(WORKFLOWS)
    return deployed.settings()


def run_once(settings: Settings) -> tuple[RunRecord, EndedRun, str]:
    """Run the workflow; return its record, how it ended for followers, and the name of its state in Prefect."""
    ended: list[EndedRun] = []
    with working(settings, followers=[ended.append]) as runner:
        runner.run(the_run(settings), shutdown=Shutdown())
        assert runner.run(the_run(settings), shutdown=Shutdown()) is None or not ended[0].state.is_success
        # The end of the block does not wait long for Prefect.
        assert runner.shown_runs.join(LONG)
        (record,) = runner.store.runs()[-1:]
        write_page(settings, runner.store, triggers=read_workflows(settings).sensor.triggers)
    with get_client(sync_client=True) as client:
        (flow_run,) = [each for each in client.read_flow_runs(limit=200) if str(each.id) == record.flow_run_id]
    return record, ended[0], flow_run.state_name or ""


def year_of(settings: Settings) -> dict[str, Any]:
    (entry,) = catalogue(settings.outputs_dir)["entries"]
    return data_of(settings.outputs_dir, entry, DATE.year)


@pytest.mark.usefixtures("prefect_url")
def test_skip_ends_the_run_without_reports_and_the_date_is_done(
    deployed: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="autoflow")
    settings = deploy(deployed, first=WARNS, beside=BESIDE, decides=DECIDES)
    record, ended, state_name = run_once(settings)

    assert record.state is ended.state is RunState.SKIPPED
    assert record.skipped == "nobody moved"
    assert record.failure is None
    assert record.warnings == ["few outliers: 7 %"]
    assert (deployed.inputs / "started").exists()
    assert not (deployed.inputs / "last").exists()
    assert all(not each["reports"] for each in record.outputs.values())
    assert [path for path in settings.reports_dir.rglob("*") if path.is_file()] == []
    assert re.search(r"skipped flows 2016-01-07 after \d+ s: nobody moved", caplog.text)
    assert state_name == "Skipped"
    assert statuses(settings.outputs_dir) == {DATE: "skipped"}
    year = year_of(settings)
    assert year["reasons"] == ["nobody moved\nWarning: few outliers: 7 %"]


@pytest.mark.usefixtures("prefect_url")
def test_warnings_are_recorded_and_shown_and_a_failed_check_holds_the_report_back(deployed: Deployed) -> None:
    settings = deploy(deployed, first=WARNS, beside="1", decides="1")
    record, ended, state_name = run_once(settings)
    assert record.state is RunState.SUCCEEDED
    assert record.warnings == ended.outcome.warnings == ["few outliers: 7 %"]
    assert record.checks
    assert Checks.of_json(record.checks["first"]).kept[0] == Check(name="there are rows", ok=True, cell=1)
    assert list(record.checks) == ["first"]
    (report,) = (path for path in record.outputs["first"]["reports"] if path.endswith(".html"))
    text = html.unescape(Path(report).read_text(encoding="utf-8"))
    assert text.count("few outliers: 7 %") == 1
    assert "there are rows" not in text
    assert state_name == "Completed"
    year = year_of(settings)
    assert year["days"][0][-1] == 1
    assert year["reasons"] == ["Warning: few outliers: 7 %"]

    settings = deploy(deployed, first="1", beside=FAILS, decides="1")
    with working(settings) as runner:
        assert runner.run(the_run(settings), shutdown=Shutdown(), again=True) is RunState.FAILED
        record = runner.store.runs()[0]
    assert str(record.failure) == "notebook 'beside', cell 1 (In [1]: import autoflow): CheckFailed: no gaps: 3 gaps"
    assert record.outputs["beside"]["reports"] == []
    assert record.checks
    assert record.checks["beside"]["errors"] == 1

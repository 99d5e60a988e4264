"""Runs on a cluster of real processes."""

import pytest

from autoflow.notebooks.live_files import RunProgress, progress_of_run
from autoflow.runs.records import RunState
from autoflow.specs import NotebookSpec, ReportFormat
from tests.cluster.conftest import Farm, daemon_of, meanwhile, run_of
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("prefect_url")


def test_notebooks_are_executed_with_their_reports_where_workers_are(farm: Farm) -> None:
    first = NotebookSpec(label="first", path=farm.notebook("print(6 * 7)"))
    second = NotebookSpec(
        label="second",
        path=farm.notebook("import json\nprint(json.load(open(upstream))['nbformat'])"),
        parameters={"upstream": "first", "date": "reference_date"},
    )
    run = run_of(first, second)
    with daemon_of(farm, workers=2) as daemon:
        state = daemon.run(run)
        record = daemon.last(run)
        with_report = run_of(farm.notebook("print('hello')"), formats=(ReportFormat.PDF,))
        states = state, daemon.run(with_report)
        report_record = daemon.last(with_report)

    assert states == (RunState.SUCCEEDED, RunState.SUCCEEDED), record.error
    assert set(record.outputs) == {"first", "second"}
    assert report_record.outputs["n0"]["reports"]


def test_output_of_a_notebook_on_a_worker_can_be_read_while_it_runs(farm: Farm) -> None:
    path = farm.notebook("1", "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)")
    run = run_of(path)
    with daemon_of(farm, workers=2) as daemon:
        with meanwhile(daemon, run) as states:
            wait_for(lambda: daemon.store.runs(workflow=run.key.workflow))
            run_id = daemon.last(run).id
            at_work = RunProgress("cell 2 of 2 of n0", 50.0)
            wait_for(lambda: progress_of_run(farm.outputs, run_id) == at_work)
            (farm.inputs / "go").touch()
        assert states == [RunState.SUCCEEDED]

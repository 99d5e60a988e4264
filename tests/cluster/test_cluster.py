"""Runs on a cluster of real processes."""

import pytest

from autoflow.runs.records import RunState
from autoflow.specs import NotebookSpec, ReportFormat
from tests.cluster.conftest import Farm, daemon_of, run_of

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

"""The text of artifacts, without Prefect."""

import datetime

from autoflow.errors import NotebookError, ReportError
from autoflow.orchestration.artifacts import LONGEST_MESSAGE, summary
from autoflow.runs.run import NotebookOutputs, Outcome, WorkflowRun
from autoflow.specs import NotebookSpec, WorkflowSpec
from tests.conftest import Deployed, write_notebook


def the_run(deployed: Deployed) -> WorkflowRun:
    workflow = WorkflowSpec(name="w", notebooks=(NotebookSpec(label="n", path=deployed.inputs / "n.ipynb"),))
    return WorkflowRun(
        workflow=workflow, parameters={}, reference_date=datetime.date(2016, 1, 1), date_ranges=(), failures=0
    )


def test_paths_are_whole_and_in_no_table_whose_columns_cut_them_off(deployed: Deployed) -> None:
    executed = deployed.outputs / "notebooks" / f"{'long' * 40}.ipynb"
    report = executed.with_suffix(".pdf")
    markdown = summary(the_run(deployed), Outcome({"n": NotebookOutputs(executed, (report,))}), deployed.settings())
    lines = markdown.splitlines()
    assert f"- `notebooks/{executed.name}`" in lines
    assert f"- `notebooks/{report.name}`" in lines
    assert "|" not in markdown


def test_error_that_is_too_long_is_cut_between_words_and_says_so(deployed: Deployed) -> None:
    path = "/outputs/notebooks/" + "x" * 100
    outcome = Outcome(errors={"n": ReportError("could not write " + " ".join([path] * 30))})
    markdown = summary(the_run(deployed), outcome, deployed.settings())
    (line,) = [line for line in markdown.splitlines() if line.startswith("could not write")]
    words = line.removeprefix("could not write ").split()
    assert len(line) <= LONGEST_MESSAGE + 2
    assert words[-1] == "…"
    assert set(words[:-1]) == {path}


def test_a_failed_notebook_has_a_link_to_its_cell(deployed: Deployed) -> None:
    executed = write_notebook(deployed.outputs / "notebooks" / "n.ipynb", "1", "2 / 0")
    error = NotebookError("n", 2, "ZeroDivisionError", "division by zero", code="In [2]: 2 / 0")
    outcome = Outcome({"n": NotebookOutputs(executed)}, {"n": error})
    settings = deployed.settings(AUTOFLOW_REPORT_URL_BASE="https://reports.example.org")
    with_address = summary(the_run(deployed), outcome, settings)
    assert "(<https://reports.example.org/notebooks/n.html#cell-2>):\n\n```python\n2 / 0\n```" in with_address
    assert "The cell, `notebooks/n.html#cell-2`:" in summary(the_run(deployed), outcome, deployed.settings())

import pickle
from pathlib import Path

import pytest

from autoflow.errors import AutoflowError
from autoflow.specs import NotebookSpec, SensorSpec, TriggerSpec, WorkflowsFile, WorkflowSpec

RUN = NotebookSpec(label="run", path=Path("/inputs/run.ipynb"), parameters={"date": "reference_date", "n": "count"})
REPORT = NotebookSpec(label="report", path=Path("/inputs/report.ipynb"), parameters={"path": "run"})
WORKFLOW = WorkflowSpec(name="flows", notebooks=(RUN, REPORT))


def test_dependencies_are_the_notebooks_that_parameters_name() -> None:
    assert WORKFLOW.dependencies(REPORT) == {"run"}
    assert WORKFLOW.dependencies(RUN) == frozenset()


def test_workflow_needs_parameters_that_are_neither_labels_nor_automatic() -> None:
    assert WORKFLOW.parameter_names == {"count"}


def test_notebook_before_one_that_it_depends_on_is_refused() -> None:
    with pytest.raises(ValueError, match=r"notebook 'report' must come after \['run'\]"):
        WorkflowSpec(name="flows", notebooks=(REPORT, RUN))


def test_notebook_that_depends_on_itself_is_refused() -> None:
    alone = NotebookSpec(label="run", path=Path("/inputs/run.ipynb"), parameters={"path": "run"})
    with pytest.raises(ValueError, match=r"notebook 'run' must come after \['run'\]"):
        WorkflowSpec(name="flows", notebooks=(alone,))


def test_specs_survive_pickling() -> None:
    sensor = SensorSpec(schedule=None, cdr_types=None, triggers=(TriggerSpec(workflow=WORKFLOW),))
    file = WorkflowsFile(workflows=(WORKFLOW,), sensor=sensor)
    assert pickle.loads(pickle.dumps(file)) == file
    assert file.workflow("flows") == WORKFLOW
    with pytest.raises(AutoflowError, match=r"no workflow 'others' in workflows\.yml, which defines flows"):
        file.workflow("others")

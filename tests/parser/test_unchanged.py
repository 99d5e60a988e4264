"""Files that have not changed are not read again."""

import os
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from autoflow.errors import WorkflowsFileError
from autoflow.parser import read_workflows
from autoflow.specs import WorkflowsFile
from tests.conftest import Deployed

TEXT = """
workflows:
  - name: w
    notebooks: {n: {filename: n.ipynb, parameters: {region: region}, output: {format: pdf, template: t.tpl}}}
available_dates_sensor: {schedule: null, workflows: [{workflow_name: w, parameters: {region: north}}]}
"""


@pytest.fixture
def read(deployed: Deployed) -> Callable[[], WorkflowsFile]:
    """Return what reads a valid workflows.yml."""
    write_declared(deployed.inputs / "n.ipynb", "region")
    (deployed.inputs / "t.tpl").write_text("{% extends 'asciidoc/index.asciidoc.j2' %}")
    (deployed.inputs / "workflows.yml").write_text(TEXT)
    return lambda: read_workflows(deployed.settings())


def write_declared(path: Path, parameter: str) -> None:
    """Write a notebook that declares one parameter."""
    cell = nbformat.v4.new_code_cell(f"{parameter} = 'south'", metadata={"tags": ["parameters"]}, id="only")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)


def keep_times(path: Path, edit: Callable[[], object]) -> None:
    """Edit a file so that its modification time stays."""
    times = path.stat()
    edit()
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_unchanged_files_are_read_once(deployed: Deployed, read: Callable[[], WorkflowsFile]) -> None:
    first = read()
    assert read() is first
    # As when it is saved without an edit.
    (deployed.inputs / "workflows.yml").write_text(TEXT)
    assert read() is first


def test_an_edit_of_any_file_is_noticed_although_size_and_time_stay(
    deployed: Deployed, read: Callable[[], WorkflowsFile]
) -> None:
    inputs = deployed.inputs
    first = read()
    keep_times(inputs / "workflows.yml", lambda: (inputs / "workflows.yml").write_text(TEXT.replace("north", "souTh")))
    second = read()
    assert second.sensor.triggers[0].parameters == {"region": "souTh"} != first.sensor.triggers[0].parameters
    keep_times(inputs / "n.ipynb", lambda: write_declared(inputs / "n.ipynb", "regiom"))
    with pytest.raises(WorkflowsFileError, match="region"):
        read()
    # Mistakes are found again as long as they are there.
    with pytest.raises(WorkflowsFileError, match="region"):
        read()
    write_declared(inputs / "n.ipynb", "region")
    assert read() == second
    (inputs / "t.tpl").unlink()
    with pytest.raises(WorkflowsFileError, match=r"t\.tpl"):
        read()


def test_other_secrets_and_recipients_count_as_a_change(deployed: Deployed, read: Callable[[], WorkflowsFile]) -> None:
    text = TEXT.replace("parameters: {region: north}", "parameters: {region: north}, notify: {failure: ops}")
    (deployed.inputs / "workflows.yml").write_text(text)
    known = deployed.settings(AUTOFLOW_NOTIFY_URLS="ops=json://127.0.0.1:1/")
    assert read_workflows(known) is read_workflows(known)
    with pytest.raises(WorkflowsFileError, match="ops"):
        read()
    (deployed.inputs / "workflows.yml").write_text(TEXT.replace("north", "a-former-token"))
    read()
    with pytest.raises(WorkflowsFileError, match="secret"):
        read_workflows(deployed.settings(FLOWAPI_TOKEN="a-former-token"))


def test_a_kernel_that_is_installed_later_is_noticed(
    deployed: Deployed, read: Callable[[], WorkflowsFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    notebook.metadata["kernelspec"] = {"name": "ir", "display_name": "R", "language": "R"}
    nbformat.write(notebook, deployed.inputs / "n.ipynb")
    (deployed.inputs / "workflows.yml").write_text(TEXT.replace("region: region", "").replace("region: north", ""))
    assert [finding.fails_runs for finding in read().findings] == [True]
    kernel = tmp_path / "kernels" / "ir"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["R", "{connection_file}"], "display_name": "R", "language": "R"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert read().findings == ()

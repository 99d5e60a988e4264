import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from autoflow.notebooks.sources import LARGEST_FILE, NotebookSource, environment, installed_packages, source_as_json
from autoflow.system.git import git_state
from tests.conftest import write_notebook

CELLS = ("import helper\nfrom tools.deep import thing\nimport json", "%matplotlib inline\nopen('data.csv').read()")


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """Return a notebook that imports modules beside it and opens a file."""
    (tmp_path / "helper.py").write_text("import second\nimport os\n", encoding="utf-8")
    (tmp_path / "second.py").write_text("import helper\n", encoding="utf-8")
    (tmp_path / "unused.py").write_text("", encoding="utf-8")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "tools" / "deep.py").write_text("thing = 1\n", encoding="utf-8")
    (tmp_path / "data.csv").write_text("a,b\n", encoding="utf-8")
    path = tmp_path / "n.ipynb"
    write_notebook(path, *CELLS)
    return path


def test_modules_and_files_beside_a_notebook_are_found(notebook: Path) -> None:
    source = NotebookSource.of(notebook)
    assert set(source.modules) == {"helper.py", "second.py", "tools/__init__.py", "tools/deep.py"}
    assert set(source.files) == {"data.csv"}
    assert NotebookSource.from_json(json.loads(json.dumps(source.as_json()))) == source


def change(edit: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def changed(path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        edit(content)
        path.write_text(json.dumps(content), encoding="utf-8")

    return changed


def cell(content: dict[str, object], number: int = 0) -> dict[str, object]:
    cells = content["cells"]
    assert isinstance(cells, list)
    found = cells[number]
    assert isinstance(found, dict)
    return found


SAME = [
    change(lambda content: cell(content).update(execution_count=7)),
    change(lambda content: cell(content).update(outputs=[{"output_type": "stream", "name": "stdout", "text": "x"}])),
    change(lambda content: cell(content).update(id="another-id")),
    change(lambda content: cell(content).update(metadata={"collapsed": True})),
    change(lambda content: cell(content).update(source=CELLS[0].splitlines(keepends=True))),
    change(lambda content: content.update(metadata={"language_info": {"name": "python", "version": "3.99"}})),
    lambda path: path.write_text(json.dumps(json.loads(path.read_text()), indent=4), encoding="utf-8"),
    lambda path: (path.parent / "unused.py").write_text("x = 1", encoding="utf-8"),
]
OTHER = [
    change(lambda content: cell(content).update(source="1")),
    change(lambda content: cell(content).update(cell_type="markdown", outputs=[])),
    change(lambda content: cell(content).update(metadata={"tags": ["skip-execution"]})),
    change(lambda content: content.update(cells=[])),
    lambda path: (path.parent / "second.py").write_text("import helper  # now", encoding="utf-8"),
    lambda path: (path.parent / "tools" / "deep.py").write_text("thing = 2\n", encoding="utf-8"),
    lambda path: (path.parent / "helper.py").unlink(),
    lambda path: (path.parent / "json.py").write_text("", encoding="utf-8"),
]


@pytest.mark.parametrize("edit", SAME)
def test_what_is_no_source_makes_no_difference(notebook: Path, edit: Callable[[Path], object]) -> None:
    before = NotebookSource.of(notebook)
    edit(notebook)
    assert NotebookSource.of(notebook) == before


@pytest.mark.parametrize("edit", OTHER)
def test_source_is_another_after_an_edit(notebook: Path, edit: Callable[[Path], object]) -> None:
    before = NotebookSource.of(notebook)
    edit(notebook)
    after = NotebookSource.of(notebook)
    assert (after.cells, after.modules) != (before.cells, before.modules)


def test_file_that_is_opened_is_recorded_apart_from_the_source(notebook: Path) -> None:
    before = NotebookSource.of(notebook)
    (notebook.parent / "data.csv").write_text("c,d\n", encoding="utf-8")
    after = NotebookSource.of(notebook)
    assert (after.cells, after.modules) == (before.cells, before.modules)
    assert after.files != before.files


def test_files_elsewhere_and_very_large_ones_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    with (folder / "large.bin").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    path = folder / "n.ipynb"
    write_notebook(path, "open('../secret'); open('large.bin'); open('gone'); open('/etc/passwd'); '.'; ''")
    assert NotebookSource.of(path).files == {}


def test_notebook_in_another_language_has_a_digest_only(notebook: Path) -> None:
    kernel = {"name": "ir", "display_name": "R", "language": "R"}
    change(lambda content: content.update(metadata={"kernelspec": kernel}))(notebook)
    source = NotebookSource.of(notebook)
    assert source.cells
    assert not source.modules
    assert not source.files


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"cells": []}'])
def test_notebook_that_cannot_be_read_has_no_source(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "n.ipynb"
    assert source_as_json(path) == {}
    path.write_bytes(content)
    assert source_as_json(path) == {}


def test_environment_names_the_installed_packages_by_a_digest() -> None:
    assert "pytest==" in "\n".join(installed_packages())
    names = [line.partition("==")[0] for line in installed_packages()]
    assert names == sorted(set(names))
    assert set(environment()) == {"version", "python", "packages"}


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-C", str(folder), "-c", "user.name=A", "-c", "user.email=a@example.org", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def test_commit_and_cleanness_of_a_folder_in_git(tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    assert git_state(inputs) is None
    git(tmp_path, "init")
    assert git_state(inputs) is None, "there is no commit yet"
    (inputs / "n.ipynb").write_text("1", encoding="utf-8")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "First")
    state = git_state(inputs)
    assert state
    assert state["is_clean"]
    assert len(state["commit"]) == 40
    (tmp_path / "elsewhere").touch()
    assert git_state(inputs) == state
    (inputs / "new.py").touch()
    assert git_state(inputs) == {**state, "is_clean": False}
    assert git_state(tmp_path / "gone") is None

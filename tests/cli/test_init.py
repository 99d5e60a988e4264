"""`autoflow init`: the folder it makes is complete, and nothing that exists is touched."""

import json
from pathlib import Path

import pytest

from autoflow.cli.init import STARTER
from autoflow.parser import parse_workflows_file
from autoflow.parser.json_schema import json_schema
from tests.cli.conftest import Cli
from tests.parser.schema import check_accepted

NAMES = sorted([*(path.name for path in STARTER.iterdir()), "workflows.schema.json"])


def test_folder_has_a_valid_workflow_and_a_readme(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "my workflows"
    assert cli("init", str(folder)) == 0
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    assert f"  python -m autoflow try '{folder}/report.ipynb' --with-upstream\n" in cli.printed()
    found = parse_workflows_file(folder / "workflows.yml")
    assert not found.findings
    check_accepted(folder / "workflows.yml")
    assert json.loads((folder / "workflows.schema.json").read_text(encoding="utf-8")) == json_schema()
    assert {"README.md", "workflows.yml"} < set(NAMES)


def test_current_folder_is_the_default_and_may_have_other_files(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert cli("init") == 0
    assert "  python -m autoflow try report.ipynb --with-upstream\n" in cli.printed()
    assert (tmp_path / "workflows.yml").is_file()
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_written_where_a_file_exists(cli: Cli, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / name).symlink_to("nowhere")
    error = cli.fails("init", str(folder))
    assert f"{folder} already has {name}: nothing was written" in error
    assert [path.name for path in folder.iterdir()] == [name]


def test_folder_that_is_a_file_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file" in cli.fails("init", str(tmp_path / "file"), code=2)
    error = cli.fails("init", str(tmp_path / "file" / "new"))
    assert error == f"Error: could not write {tmp_path}/file/new: Not a directory; nothing was made\n"

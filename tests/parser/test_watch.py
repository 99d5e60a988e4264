"""The watch over workflows.yml, with a clock of the tests and real files."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autoflow.errors import WorkflowsFileError
from autoflow.parser.watch import RECHECK_SECONDS, Checked, FileWatch
from autoflow.specs import WorkflowsFile
from tests.conftest import Deployed, write_notebook

GOOD = """
workflows: [{{name: {name}, notebooks: {{n: {{filename: n.ipynb}}}}}}]
available_dates_sensor: {{schedule: "{schedule}", workflows: [{{workflow_name: {name}}}]}}
"""


@dataclass
class Watched:
    """A watch over the files in `inputs`, and its clock."""

    inputs: Path
    watch: FileWatch
    now: list[float] = field(default_factory=lambda: [0.0])

    def write(self, *, name: str = "simple", schedule: str = "0 0 1 1 *") -> None:
        (self.inputs / "workflows.yml").write_text(GOOD.format(name=name, schedule=schedule))

    def look(self, seconds: float = 1.0) -> Checked | None:
        self.now[0] += seconds
        return self.watch.look()

    def settled(self) -> Checked | None:
        """Return what the watch finds within two looks, a second apart."""
        return self.look() or self.look()


@pytest.fixture
def watched(deployed: Deployed) -> Iterator[Watched]:
    now = [0.0]
    watched = Watched(deployed.inputs, FileWatch(deployed.settings(), clock=lambda: now[0]), now)
    write_notebook(deployed.inputs / "n.ipynb", "1")
    watched.write()
    first = watched.settled()
    assert first
    assert first.edited == ()
    yield watched
    assert watched.settled() is None, "each edit is reported once"


def schedule(checked: Checked | None) -> str | None:
    assert checked
    assert isinstance(checked.result, WorkflowsFile)
    return checked.result.sensor.schedule


def mistakes(checked: Checked | None) -> tuple[str, ...]:
    assert checked
    assert isinstance(checked.result, WorkflowsFileError)
    return checked.result.problems


def test_an_edit_is_reported_within_two_seconds(watched: Watched) -> None:
    assert watched.look(600) is None
    watched.write(schedule="5 * * * *")
    checked = watched.settled()
    assert schedule(checked) == "5 * * * *"
    assert checked
    assert checked.edited == ("workflows.yml",)


def test_an_editor_that_renames_is_noticed_even_if_size_and_time_stay_the_same(watched: Watched) -> None:
    file, new = watched.inputs / "workflows.yml", watched.inputs / ".new"
    new.write_text(file.read_text().replace("0 0 1 1 *", "0 0 2 2 *"))
    shutil.copystat(file, new)
    new.rename(file)
    assert schedule(watched.settled()) == "0 0 2 2 *"


def test_a_link_that_leads_elsewhere_is_noticed(watched: Watched) -> None:
    file, other = watched.inputs / "workflows.yml", watched.inputs / "other.yml"
    other.write_text(file.read_text().replace("0 0 1 1 *", "0 0 2 2 *"))
    file.unlink()
    file.symlink_to(other.name)
    assert schedule(watched.settled()) == "0 0 2 2 *"


def test_a_file_that_is_half_written_or_gone_for_less_than_a_second_is_not_reported(watched: Watched) -> None:
    file = watched.inputs / "workflows.yml"
    text = file.read_text().replace("0 0 1 1 *", "0 0 2 2 *")
    for part in (text[:40], "", text[:-20]):
        file.write_text(part)
        assert watched.look(0.9) is None
    file.unlink()
    assert watched.look(0.9) is None
    file.write_text(text)
    assert schedule(watched.settled()) == "0 0 2 2 *"


@pytest.mark.parametrize("broken", ["workflows: [", "workflows: []", "", "\0", None])
def test_a_broken_or_missing_file_is_reported_once_and_then_what_mends_it(watched: Watched, broken: str | None) -> None:
    file = watched.inputs / "workflows.yml"
    file.unlink()
    if broken is not None:
        file.write_text(broken)
    assert mistakes(watched.settled())
    assert [watched.look(60) for _ in range(3)] == [None] * 3
    watched.write()
    assert schedule(watched.settled()) == "0 0 1 1 *"


def test_an_edit_that_changes_nothing_that_counts_is_reported_too(watched: Watched) -> None:
    file = watched.inputs / "workflows.yml"
    file.write_text(file.read_text() + "# a comment\n")
    assert schedule(watched.settled()) == "0 0 1 1 *"


def test_a_notebook_that_becomes_invalid_and_valid_again_is_reported(watched: Watched) -> None:
    notebook = watched.inputs / "n.ipynb"
    notebook.write_text("{")
    checked = watched.settled()
    assert "not a valid notebook" in mistakes(checked)[0]
    assert checked
    assert checked.edited == ("n.ipynb",)
    write_notebook(notebook, "2")
    assert schedule(watched.settled()) == "0 0 1 1 *"


def test_a_notebook_that_was_missing_from_a_new_entry_is_found_without_another_edit(watched: Watched) -> None:
    file = watched.inputs / "workflows.yml"
    file.write_text(file.read_text().replace("n.ipynb", "m.ipynb"))
    assert "no file 'm.ipynb'" in mistakes(watched.settled())[0]
    write_notebook(watched.inputs / "m.ipynb", "1")
    checked = watched.look(RECHECK_SECONDS)
    assert schedule(checked) == "0 0 1 1 *"
    assert checked
    assert checked.edited == ()

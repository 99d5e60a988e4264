import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autoflow.notebooks.live import LARGEST_FILE, MOST_AT_ONCE, NO_MORE
from autoflow.notebooks.live_files import (
    LiveEvent,
    LiveFile,
    RunProgress,
    events_of_executed,
    find_live_folder,
    live_folder,
    progress_of_run,
    progress_of_runs,
    remove_abandoned_live_folders,
)
from tests.notebooks.running import SECRET, Ran, Runner
from tests.waiting import LONG, wait_for

WAIT = "import pathlib, time\ndef wait(name):\n    while not pathlib.Path(name).exists(): time.sleep(0.02)\n"
"""A cell that defines how to wait for a file in the notebook's folder."""


class Following:
    """A notebook that runs, and what is seen of it meanwhile."""

    def __init__(self, run: Runner, live: Path) -> None:
        self.events: list[LiveEvent] = []
        self.file = LiveFile(live)
        self._run = run

    @contextlib.contextmanager
    def of(self, *cells: str, live: Path, **arguments: Any) -> Iterator[list[Ran]]:
        ran: list[Ran] = []
        thread = threading.Thread(target=lambda: ran.append(self._run(*cells, live=live, **arguments)))
        thread.start()
        try:
            yield ran
        finally:
            thread.join(LONG)
        self.read()
        self.file.close()

    def read(self) -> str:
        """Return all text that has been seen."""
        self.events += self.file.new_events()
        return "".join(event.text for event in self.events if event.kind != "cell")

    def go(self, name: str) -> None:
        (self._run.folder / "in" / name).touch()


def test_output_of_a_running_notebook_can_be_read(run: Runner, tmp_path: Path) -> None:
    with live_folder(tmp_path, 17, 2) as folder:
        assert folder
        following = Following(run, folder / "flows.jsonl")
        half = len(SECRET) // 2
        cells = (
            WAIT,
            f"import os\nprint('first', {SECRET[:half]!r}, end='', flush=True); wait('1'); print({SECRET[half:]!r}, 2)",
            f"display({{'a': {SECRET!r}}}); print('more'); wait('2'); 1 + 1",
            "1 / 0",
            "'not run'",
        )
        with following.of(*cells, live=folder / "flows.jsonl", secrets=[SECRET]):
            wait_for(lambda: following.read().startswith("first "))
            assert following.read() == "first "
            following.go("1")
            wait_for(lambda: "more" in following.read())
            assert progress_of_run(tmp_path, 17) == RunProgress("cell 3 of 5 of flows", 20.0)  # one of two notebooks
            assert progress_of_runs(tmp_path) == {17: progress_of_run(tmp_path, 17)}
            assert progress_of_run(tmp_path, 1) is None
            following.go("2")
        assert progress_of_run(tmp_path, 17) is None

    events = [(event.kind, event.text) for event in following.events]
    assert [event for event in events if event[0] != "error"] == [
        ("cell", "import pathlib, time"),
        ("cell", "import os"),
        ("stdout", "first "),
        ("stdout", "[secret] 2\n"),
        ("cell", "display({'a': '[secret]'}); print('more'); wait('2'); 1 + 1"),
        ("result", "{'a': '[secret]'}\n"),
        ("stdout", "more\n"),
        ("result", "2\n"),
        ("cell", "1 / 0"),
        ("end", ""),
    ]
    (error,) = [text for kind, text in events if kind == "error"]
    assert "ZeroDivisionError" in error
    assert following.file.is_complete
    assert following.file.executed == "executed.ipynb"
    assert [(event.cell, event.cells) for event in following.events if event.kind == "cell"][-1] == (4, 5)
    assert find_live_folder(tmp_path, 17) is None


def test_executed_notebook_has_what_was_shown_while_it_ran(run: Runner, tmp_path: Path) -> None:
    live = tmp_path / "flows.jsonl"
    ran = run("print('a'); print('b')", "{'a': 1}", "1 / 0", "2", live=live)
    file = LiveFile(live)
    seen = [event for event in file.new_events() if event.kind != "end"]
    file.close()
    shown = list(events_of_executed(ran.executed, "flows"))
    assert [(each.kind, each.text) for each in shown] == [(each.kind, each.text) for each in seen]
    assert [each.text for each in events_of_executed(ran.executed, "flows", first=2)][:2] == ["{'a': 1}", "{'a': 1}\n"]
    assert list(events_of_executed(tmp_path / "gone.ipynb", "flows")) == []


def test_endless_output_makes_a_bounded_file_and_what_is_left_out_is_said(run: Runner, tmp_path: Path) -> None:
    live = tmp_path / "flows.jsonl"
    cells = (
        "import time\nfor _ in range(400): print('x' * 500_000)",
        "for number in range(2000): display(number)",
        "print('end')",
    )
    ran = run(*cells, live=live)
    assert ran.error is None
    file = LiveFile(live)
    events = list(file.new_events())
    file.close()
    assert live.stat().st_size < 2 * LARGEST_FILE
    notes = [event.text for event in events if event.kind == "note"]
    assert any(note.endswith(" MB of output here]\n") for note in notes)
    assert [event.text for event in events if event.kind == "stdout"][-1] == "end\n"
    assert max(len(event.text) for event in events) <= MOST_AT_ONCE


def test_file_that_is_full_has_a_note_and_the_cells(run: Runner, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("autoflow.notebooks.live.LARGEST_FILE", 1000)
    live = tmp_path / "flows.jsonl"
    run("print('x' * 2000)", "print('y')", "1", live=live)
    file = LiveFile(live)
    assert [event.text for event in file.new_events()] == ["print('x' * 2000)", NO_MORE, "print('y')", "1", ""]
    file.close()


def test_file_that_cannot_be_written_does_not_fail_the_run(run: Runner, tmp_path: Path) -> None:
    assert run("1", live=tmp_path / "no" / "flows.jsonl").error is None
    assert run("import sys; sys.exit(3)", live=tmp_path).failure()[1] == "SystemExit"


def test_folder_of_a_process_that_was_killed_is_removed(tmp_path: Path) -> None:
    abandoned = tmp_path / ".live" / "7-abandoned"
    abandoned.mkdir(parents=True)
    with live_folder(tmp_path, 17, 2) as folder:
        remove_abandoned_live_folders(tmp_path)
        assert list((tmp_path / ".live").iterdir()) == [folder]
    with live_folder(tmp_path / "gone", 17, 2) as folder:
        assert folder is None

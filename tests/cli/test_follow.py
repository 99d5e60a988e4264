import datetime
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoflow.cli.follow import Screen
from autoflow.errors import NotebookError
from autoflow.kernels.fork_server import ForkServer
from autoflow.model.store import RunStore
from autoflow.notebooks.execution import Means, Task, execute
from autoflow.notebooks.live_files import LiveEvent, find_live_folder, live_folder
from autoflow.notebooks.redaction import Redaction
from autoflow.runs.records import RunError, RunKey, RunState
from tests.cli.conftest import Cli
from tests.conftest import write_notebook
from tests.environment import steady_environ
from tests.waiting import LONG

KEY = RunKey.of("simple", {"level": 2}, datetime.date(2016, 1, 9))


def record_end(store: RunStore, claim: object, outputs: dict[str, object], *, failed: bool) -> None:
    error = RunError("ZeroDivisionError", "division by zero", "n", 2) if failed else None
    store.finish(claim, RunState.FAILED if failed else RunState.SUCCEEDED, outputs=outputs, error=error)  # type: ignore[arg-type]


@contextmanager
def run_elsewhere(cli: Cli, *cells: str, is_shared: bool = True) -> Iterator[int]:
    """Run two notebooks side by side, as a worker does that shares the outputs folder alone; yield the run's ID."""
    notebooks = cli.deployed.outputs / "notebooks"
    source, ends = write_notebook(cli.deployed.inputs / "two.ipynb", *cells), list[bool]()
    outputs: dict[str, object] = {label: {"notebook": str(notebooks / f"{label}.ipynb")} for label in ("n", "other")}

    def work(label: str, live: Path | None) -> None:
        path = live / f"{label}.jsonl" if live and is_shared else None
        try:
            task = Task(label=label, parameters={}, environment=steady_environ() | {"LABEL": label}, live=path)
            execute(source, notebooks / f"{label}.ipynb", task, Means(fork_server=kernels))
        except NotebookError:
            ends.append(True)

    with cli.store() as store, ForkServer(["json"]) as kernels:
        kernels.keep_private(["LABEL"])
        claim = store.claim(KEY)
        assert claim

        def work_all() -> None:
            with live_folder(cli.deployed.outputs, claim.id, 2) as live:
                threads = [threading.Thread(target=work, args=[label, live]) for label in outputs]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(LONG)
                record_end(store, claim, outputs, failed=bool(ends))

        working = threading.Thread(target=work_all)
        working.start()
        yield claim.id
        working.join(LONG)


CELLS = ("import os, time\nprint('hello from', os.environ['LABEL'], flush=True)\ntime.sleep(1.5)", "1 / 0")


@pytest.mark.parametrize("is_shared", [True, False], ids=["live", "without files"])
def test_follow_shows_the_cells_of_a_run_that_another_process_executes(cli: Cli, *, is_shared: bool) -> None:
    with run_elsewhere(cli, *CELLS, is_shared=is_shared) as run_id:
        assert cli("runs", "show", str(run_id), "--follow") == 1
        lines = cli.printed().splitlines()
    again = cli("runs", "show", str(run_id), "--follow"), cli.printed().splitlines()

    assert lines[0] == f"run {run_id} of simple 2016-01-09, attempt 1: running"
    for label in ("n", "other"):
        own = [line.removeprefix(f"{label} | ") for line in lines if line.startswith(f"{label} | ")]
        assert own[:3] == ["cell 1 of 2: import os, time", f"  hello from {label}", "cell 2 of 2: 1 / 0"]
        assert own[-1] == "  ZeroDivisionError: division by zero"
        assert own == [line.removeprefix(f"{label} | ") for line in again[1] if line.startswith(f"{label} | ")]
    assert "state           failed" in lines
    assert again[0] == 1
    assert find_live_folder(cli.deployed.outputs, run_id) is None


def test_follow_of_a_run_that_succeeded_returns_0(cli: Cli) -> None:
    with run_elsewhere(cli, "print('\\x1b[2J\\x1b]0;title\\x07\\x1b[31mred\\x1b[0m\\r\\x1b[K2%')") as run_id:
        pass
    assert cli("runs", "show", str(run_id), "--follow") == 0
    assert "n |   2%" in cli.printed().splitlines()
    assert "cannot be used together with --json or --packages" in cli.fails(
        "runs", "show", "1", "--follow", "--json", code=2
    )


def test_follow_waits_for_a_run_that_has_not_started_until_it_is_interrupted(cli: Cli) -> None:
    command = [sys.executable, "-m", "autoflow", "runs", "show", "1", "--follow"]
    with subprocess.Popen(command, env=dict(cli.environ), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stderr.readline() == "run 1 has not started yet; waiting for it\n"
        process.send_signal(signal.SIGINT)
        assert (process.stderr.read().strip(), process.wait(LONG)) == ("", 130)

    run_id = cli.record_failure(KEY)
    with cli.store() as store:
        store.delete(run_id)
    later = cli.record_failure(KEY)
    if later > run_id:  # SQLite gives the number of a deleted row at the end again
        assert f"there is no run {run_id};" in cli.fails("runs", "show", str(run_id), "--follow")


def test_crash_of_the_process_that_executes_a_run_ends_following(cli: Cli) -> None:
    with cli.store() as store:
        claim = store.claim(KEY)
    assert claim
    cli.execute_sql("UPDATE runs SET heartbeat_at = '2016-01-01 00:00:00'")
    assert cli("runs", "show", str(claim.id), "--follow") == 1
    assert "state           crashed" in cli.printed()


def test_progress_bar_changes_on_its_line_of_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen(Redaction(()))
    for text in ("\r 1% #", "\r 2% " + "#" * 100, "\r\x1b[K 3% ###\ndone\n"):
        screen.show(LiveEvent(notebook="n", kind="stderr", text=text, cell=1))
    screen.show(LiveEvent(notebook="other", kind="stdout", text="more\n", cell=1))
    screen.end_line()
    erase = "\r\x1b[K"
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    bar = "n |    2% " + "#" * 29
    assert printed == f"n |    1% #{erase}{bar}{erase}n |    3% ###\nn |   done\nother |   more\n"

"""Runs and backfills whose process was killed, and what the next one does."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoflow.runs.records import RunState
from tests.cli.conftest import Cli
from tests.conftest import write_notebook
from tests.waiting import LONG, wait_for

ROOT = Path(__file__).resolve().parents[2]

THREE = """
    workflows:
      - name: three
        notebooks:
          first: {filename: first.ipynb}
          second: {filename: second.ipynb, parameters: {path: first}}
          third: {filename: third.ipynb, parameters: {path: second}}
    available_dates_sensor:
      schedule: null
      workflows: [{workflow_name: three}]
"""


@pytest.fixture
def three(running_cli: Cli, tmp_path: Path) -> Cli:
    """Return verbs for a workflow of three notebooks; each notes that it runs in the file `log`."""
    for label, needs in (("first", None), ("second", "path = ''"), ("third", "path = ''")):
        write_notebook(running_cli.deployed.inputs / f"{label}.ipynb", noting(tmp_path, label), parameters=needs)
    running_cli.deployed.write_workflows(THREE)
    return running_cli.with_environ(AUTOFLOW_HEARTBEAT_TIMEOUT="4")


def noting(folder: Path, label: str) -> str:
    return f"with open({str(folder / 'log')!r}, 'a') as log: print({label!r}, file=log)"


def noted(folder: Path) -> list[str]:
    """Return the notebooks that have run since the last call."""
    log = folder / "log"
    found = log.read_text().split() if log.exists() else []
    log.write_text("")
    return found


@contextmanager
def process_of(cli: Cli, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a verb in a process of its own, with all it starts in a group, and kill all of them at the end."""
    command = [sys.executable, "-m", "autoflow", *arguments]
    with (cli.deployed.outputs / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=dict(cli.environ), stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(LONG)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_run_killed_in_its_second_notebook_is_resumed_with_the_first(
    three: Cli, tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    cli, blocked = three, tmp_path / "blocked"
    if database == "postgresql":
        cli = cli.with_environ(AUTOFLOW_DB_URI=request.getfixturevalue("postgres").uri())
    wait = f"import os, time\nwhile os.path.exists({str(blocked)!r}): time.sleep(0.05)"
    write_notebook(cli.deployed.inputs / "second.ipynb", noting(tmp_path, "second"), wait, parameters="path = ''")
    blocked.touch()
    log = tmp_path / "log"
    with process_of(cli, "run", "three", "--date", "2016-01-10") as process:
        wait_for(lambda: process.poll() is not None or (log.exists() and "second" in log.read_text()))
        assert process.poll() is None, (cli.deployed.outputs / "log").read_text()
    blocked.unlink()
    assert noted(tmp_path) == ["first", "second"]
    (run,) = cli.json("runs")

    wait_for(lambda: cli("retry", str(run["id"]), "--resume") == 0, pause=0.5)
    assert f"it takes over these notebooks of run {run['id']}, unless they have changed: first" in cli.printed()
    assert cli.json("retry", str(run["id"]), "--resume")[0]["takes_over"] == ["first"]
    (crashed,) = cli.json("runs")
    assert (crashed["state"], list(crashed["outputs"])) == ("crashed", ["first"])
    assert cli("run", "three", "--date", "2016-01-10") == 0
    assert noted(tmp_path) == ["second", "third"]
    newest, _ = cli.json("runs")
    assert newest["taken_over"] == {"first": run["id"]}
    assert set(newest["made_from"]["notebooks"]) == {"first", "second", "third"}
    assert cli("runs", "show", str(newest["id"])) == 0
    assert f"), taken over from run {run['id']}\n" in cli.printed()


def test_daemon_that_was_killed_resumes_its_run_by_itself(
    three: Cli, tmp_path: Path, prefect_running: Mapping[str, str]
) -> None:
    cli, blocked, log = three.with_environ(**prefect_running), tmp_path / "blocked", tmp_path / "log"
    entry = "{workflow_name: three, resume: true, earliest_date: 2016-01-10, latest_date: 2016-01-10}"
    cli.deployed.write_workflows(THREE.replace("{workflow_name: three}", entry))
    wait = f"import os, time\nwhile os.path.exists({str(blocked)!r}): time.sleep(0.05)"
    write_notebook(cli.deployed.inputs / "second.ipynb", noting(tmp_path, "second"), wait, parameters="path = ''")
    blocked.touch()
    with process_of(cli) as process:
        wait_for(lambda: process.poll() is not None or (log.exists() and "second" in log.read_text()))
        assert process.poll() is None, (cli.deployed.outputs / "log").read_text()
    blocked.unlink()
    assert noted(tmp_path) == ["first", "second"]
    wait_for(lambda: cli.json("plan")["workflows"][0]["counts"].get("running", 0) == 0, pause=0.5)
    assert cli() == 0
    lines = cli.capsys.readouterr().err
    assert noted(tmp_path) == ["second", "third"]
    newest, crashed = cli.json("runs")
    assert (newest["state"], newest["taken_over"]) == ("succeeded", {"first": crashed["id"]})
    assert f"took over notebook 'first' from run {crashed['id']}" in lines


def test_retry_says_when_nothing_can_be_taken_over(three: Cli, tmp_path: Path) -> None:
    write_notebook(three.deployed.inputs / "first.ipynb", "1 / 0")
    failed = three.json("run", "three", "--date", "2016-01-10", code=1)["id"]
    assert three("retry", str(failed), "--resume") == 0
    assert "it runs all notebooks: " in three.printed()
    assert three.json("retry", str(failed), "--resume")[0]["resumes"] is None
    assert noted(tmp_path) == []


def outdated(cli: Cli) -> int:
    return sum(len(each["dates"]) for each in cli.json("plan", "--outdated")["outdated"] if each["changed"])


def test_backfill_of_outdated_dates_that_was_killed_runs_exactly_the_others(three: Cli, tmp_path: Path) -> None:
    cli, log = three, tmp_path / "log"
    assert cli("backfill", "three", "--from", "2016-01-01", "--to", "2016-01-06") == 0
    assert len(noted(tmp_path)) == 18
    assert outdated(cli) == 0

    second = cli.deployed.inputs / "second.ipynb"
    content = json.loads(second.read_text())
    content["cells"][-1]["execution_count"] = 7
    second.write_text(json.dumps(content))
    assert outdated(cli) == 0  # an output or a count is no change
    # Once two dates are done, the others wait until the backfill is killed.
    blocked = tmp_path / "blocked"
    blocked.touch()
    wait = (
        "import os, pathlib, time\n"
        f"log = pathlib.Path({str(log)!r})\n"
        f"while os.path.exists({str(blocked)!r}) and log.read_text().count('third') > 1: time.sleep(0.05)"
    )
    write_notebook(second, noting(tmp_path, "second"), wait, parameters="path = ''")
    assert outdated(cli) == 6

    with process_of(cli, "backfill", "--reprocess", "outdated"), cli.store() as store:
        wait_for(lambda: len(store.runs(state=RunState.SUPERSEDED)) > 1)
    blocked.unlink()
    with cli.store() as store:
        again = {run.key.reference_date for run in store.runs(state=RunState.SUPERSEDED)}
    left = 6 - len(again)
    assert 0 < left <= 4
    assert outdated(cli) == left
    noted(tmp_path)
    found = cli.json("backfill", "--reprocess", "outdated")
    assert (found["wanted"], found["states"]) == (left, {"succeeded": left})
    assert noted(tmp_path).count("third") == left
    assert outdated(cli) == 0
    assert cli.json("backfill", "--reprocess", "outdated")["would_run"] == []

    # What is above a notebook counts for it, and so does a module that it imports.
    write_notebook(cli.deployed.inputs / "first.ipynb", noting(tmp_path, "first"), "'edited'")
    assert outdated(cli) == 6

import signal
import subprocess
import sys
from pathlib import Path

from autoflow.runs.records import RunState
from tests.cli.conftest import Cli
from tests.conftest import write_notebook
from tests.waiting import LONG, wait_for

ROOT = Path(__file__).resolve().parents[2]


def test_backfill_runs_missing_dates_and_then_failed_ones(running_cli: Cli) -> None:
    cli = running_cli
    whole = ("backfill", "simple", "--from", "2016-01-01", "--to", "2016-01-04")
    (cli.deployed.inputs / "fail").touch()
    assert cli.json("backfill", "simple", "--from", "2016-01-03", "--to", "2016-01-03", code=1)["states"] == {
        "failed": 1
    }
    (cli.deployed.inputs / "fail").unlink()

    dry = cli.json(*whole, "--newest-first", "--dry-run")
    assert dry["would_run"] == ["2016-01-04", "2016-01-02"]
    assert dry["left_out"] == {"dates missing": 1, "failed before": 1}
    assert sorted((each["date"], each["what"]) for each in dry["dates"]) == [
        ("2016-01-01", "dates missing"),
        ("2016-01-02", "to run"),
        ("2016-01-03", "failed before"),
        ("2016-01-04", "to run"),
    ]
    assert cli.json(*whole)["states"] == {"succeeded": 2}
    assert cli.json(*whole)["would_run"] == []
    assert cli.json(*whole, "--reprocess", "failed")["states"] == {"succeeded": 1}
    assert cli.json(*whole, "--reprocess", "failed")["would_run"] == []
    assert len(cli.json(*whole, "--reprocess", "all", "--dry-run")["would_run"]) == 3
    assert [run["reference_date"] for run in cli.json("runs", "--state", "succeeded", "--to", "2016-01-02")] == [
        "2016-01-02"
    ]


def test_interrupted_backfill_continues(running_cli: Cli) -> None:
    cli = running_cli
    write_notebook(cli.deployed.inputs / "n.ipynb", "import time; time.sleep(1)", parameters="level = 1")
    command = [sys.executable, "-m", "autoflow", "backfill", "simple", "--from", "2016-01-01", "--to", "2016-01-12"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=cli.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(cli.deployed.executed)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 130, err
    assert "run the same command again to continue" in out
    assert "Traceback" not in err

    with cli.store() as store:
        done = {run.key.reference_date for run in store.runs(state=RunState.SUCCEEDED)}
    assert 1 <= len(done) < 11
    rest = cli.json("backfill", "simple", "--from", "2016-01-01", "--to", "2016-01-12")
    assert rest["states"] == {"succeeded": 11 - len(done)}
    with cli.store() as store:
        dates = [run.key.reference_date for run in store.runs(state=RunState.SUCCEEDED)]
    assert len(dates) == len(set(dates)) == 11

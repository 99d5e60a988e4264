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
    cli = running_cli.with_environ(AUTOFLOW_SHUTDOWN_GRACE="0")
    # The first date is done at once; the others wait until the backfill has been interrupted.
    source = """
        import os, time
        try:
            open("first", "x").close()
        except FileExistsError:
            while not os.path.exists("go"):
                time.sleep(0.05)
    """
    write_notebook(cli.deployed.inputs / "n.ipynb", source, parameters="level = 1")
    whole = ("backfill", "simple", "--from", "2016-01-01", "--to", "2016-01-05")
    command = [sys.executable, "-m", "autoflow", *whole]
    process = subprocess.Popen(
        command, cwd=ROOT, env=cli.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with cli.store() as store:
        wait_for(lambda: store.runs(state=RunState.SUCCEEDED))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LONG)
    assert process.returncode == 130, err
    assert "run the same command again to continue" in out
    assert "Traceback" not in err

    with cli.store() as store:
        done = {run.key.reference_date for run in store.runs(state=RunState.SUCCEEDED)}
    assert len(done) == 1
    (cli.deployed.inputs / "go").touch()
    rest = cli.json(*whole)
    assert rest["states"] == {"succeeded": 3}
    with cli.store() as store:
        dates = [run.key.reference_date for run in store.runs(state=RunState.SUCCEEDED)]
    assert len(dates) == len(set(dates)) == 4

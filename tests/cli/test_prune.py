import datetime
import re
from collections.abc import Mapping
from pathlib import Path

from autoflow.runs.records import RunKey, RunState
from autoflow.utils import thumbnail_path
from tests.cli.conftest import Cli


def test_prune_deletes_old_outputs_and_keeps_dates_done(running_cli: Cli, prefect_running: Mapping[str, str]) -> None:
    cli = running_cli.with_environ(**prefect_running)
    outputs = cli.json("run", "simple", "--date", "2016-01-05")["outputs"]
    executed, of_others = Path(outputs["n"]["notebook"]), cli.deployed.outputs / "notebooks" / "mine.ipynb"
    of_others.touch()
    nothing = cli.json("prune", "--older-than", "1")
    assert nothing["files"] == 0
    assert executed.exists()

    cli.execute_sql("UPDATE runs SET finished_at = '2020-01-01 00:00:00.000000'")
    assert cli.json("prune", "--older-than", "1", "--dry-run")["files"] == 1
    assert cli("prune", "--older-than", "1", "--dry-run") == 0
    assert re.fullmatch(r"would delete 1 file \(0.0 MB\) of 1 run, and 1 run in Prefect\n", cli.printed())
    assert executed.exists()
    pruned = cli.json("prune", "--older-than", "1")
    assert (pruned["files"], pruned["flow_runs"]) == (1, 1)
    assert not executed.exists()
    assert of_others.exists()
    (run,) = cli.json("runs")
    assert (run["state"], run["outputs"], run["flow_run_id"]) == ("succeeded", {}, None)
    assert run["pruned_at"]
    assert "is done already" in cli.fails("run", "simple", "--date", "2016-01-05")


def test_prune_keeps_paths_on_record_of_files_that_it_does_not_delete(cli: Cli, tmp_path: Path) -> None:
    outputs = cli.deployed.outputs
    reports = {"set before": tmp_path / "before" / "a.pdf", "not mounted": tmp_path / "unmounted" / "a.pdf"}
    reports["set before"].parent.mkdir()
    reports["set before"].touch()
    assert cli("runs") == 0
    for day, report in enumerate((*reports.values(), outputs / "reports" / "b.pdf"), 1):
        notebook = outputs / "notebooks" / f"{day}.ipynb"
        notebook.touch()
        if report.parent == outputs / "reports":
            thumbnail_path(report).parent.mkdir()
            for path in (report, thumbnail_path(report)):
                path.touch()
        with cli.store() as store:
            claim = store.claim(RunKey.of("simple", {}, datetime.date(2016, 1, day)))
            assert claim
            files = {"n": {"notebook": str(notebook), "reports": [str(report)]}}
            assert store.finish(claim, RunState.SUCCEEDED, outputs=files)
    cli.execute_sql("UPDATE runs SET finished_at = '2020-01-01 00:00:00.000000'")

    assert cli.json("prune", "--older-than", "1")["files"] == 4
    assert not [path for path in (outputs / "reports").rglob("*") if path.is_file()]

    assert not list((outputs / "notebooks").iterdir())
    assert reports["set before"].exists()
    kept = [[Path(path) for files in run["outputs"].values() for path in files["reports"]] for run in cli.json("runs")]
    assert kept == [[], [reports["not mounted"]], [reports["set before"]]]
    assert cli.json("prune", "--older-than", "1")["files"] == 0

import re
from pathlib import Path

from tests.cli.conftest import Cli


def test_prune_deletes_old_outputs_and_keeps_dates_done(running_cli: Cli) -> None:
    cli = running_cli
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

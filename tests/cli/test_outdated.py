"""What made a run: recorded, shown, and compared with the notebooks of now."""

import json
from pathlib import Path

import nbformat
import pytest

from tests.cli.conftest import Cli
from tests.conftest import Deployed, write_notebook

WORKFLOWS = """
    workflows:
      - name: two
        notebooks:
          first: {filename: first.ipynb}
          second: {filename: second.ipynb, parameters: {path: first}}
    available_dates_sensor:
      schedule: null
      workflows: [{workflow_name: two, earliest_date: 2016-01-09}]
"""


@pytest.fixture
def inputs(deployed: Deployed) -> Path:
    deployed.write_workflows(WORKFLOWS)
    (deployed.inputs / "helper.py").write_text("x = 1\n", encoding="utf-8")
    write_notebook(deployed.inputs / "first.ipynb", "import helper")
    write_notebook(deployed.inputs / "second.ipynb", parameters="path = ''")
    return deployed.inputs


def outdated(cli: Cli) -> dict[tuple[str, ...], list[str]]:
    return {tuple(each["changed"]): each["dates"] for each in cli.json("plan", "--outdated")["outdated"]}


def test_changed_notebooks_make_dates_outdated_until_they_are_run_again(running_cli: Cli, inputs: Path) -> None:
    cli = running_cli
    assert cli("backfill", "two", "--from", "2016-01-09", "--to", "2016-01-12") == 0
    assert outdated(cli) == {}
    (newest, *_) = cli.json("runs")
    made_from = newest["made_from"]
    assert set(made_from["notebooks"]) == {"first", "second"}
    assert set(made_from["notebooks"]["first"]["modules"]) == {"helper.py"}
    assert cli("runs", "show", str(newest["id"])) == 0
    printed = cli.printed()
    assert "made with       AutoFlow " in printed
    assert "files beside    helper.py" in printed
    assert cli("runs", "show", str(newest["id"]), "--packages") == 0
    assert "\nprefect==" in cli.printed()
    executed = nbformat.read(newest["outputs"]["first"]["notebook"], as_version=4)
    assert executed.metadata["made_from"]["cells"] == made_from["notebooks"]["first"]["cells"]
    assert executed.metadata["peak_memory"] > 10_000_000

    notebook = json.loads((inputs / "second.ipynb").read_text(encoding="utf-8"))
    notebook["cells"][0]["execution_count"] = 9
    (inputs / "second.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    assert outdated(cli) == {}

    write_notebook(inputs / "first.ipynb", "import helper", "1")
    days = [f"2016-01-{day:02}" for day in range(12, 8, -1)]
    assert outdated(cli) == {("first",): days}
    assert cli("plan", "--outdated") == 0
    assert "4 done dates outdated, 0 unknown" in cli.printed()
    assert [*cli.json("backfill", "--reprocess", "outdated", "--dry-run")["would_run"]] == days
    # As if it had been interrupted after two dates, the newest ones.
    assert cli("backfill", "two", "--reprocess", "outdated", "--from", "2016-01-11", "--to", "2016-01-12") == 0
    assert outdated(cli) == {("first",): days[2:]}
    found = cli.json("backfill", "--reprocess", "outdated")
    assert (found["wanted"], found["states"]) == (2, {"succeeded": 2})
    assert outdated(cli) == {}


def test_runs_of_older_versions_are_unknown_not_outdated(running_cli: Cli, inputs: Path) -> None:
    cli = running_cli
    assert cli("run", "two", "--date", "2016-01-12") == 0
    with cli.store() as store, store.database.writing("test") as connection:
        connection.exec_driver_sql("UPDATE runs SET made_from = NULL")
    write_notebook(inputs / "first.ipynb", "2")
    assert outdated(cli) == {(): ["2016-01-12"]}
    assert cli("plan", "--outdated") == 0
    assert "0 done dates outdated, 1 unknown" in cli.printed()
    assert cli.json("backfill", "--reprocess", "outdated", "--dry-run")["would_run"] == []


@pytest.mark.parametrize("missing", [[], ["two"], ["two", "--from", "2016-01-01"], ["--to", "2016-01-01"]])
def test_only_outdated_dates_can_be_run_without_workflow_and_range(cli: Cli, missing: list[str]) -> None:
    assert "missing" in cli.fails("backfill", *missing, code=2)

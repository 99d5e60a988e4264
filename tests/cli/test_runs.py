import datetime

import pytest

from autoflow.runs.records import RunKey
from tests.cli.conftest import Cli
from tests.conftest import write_notebook


def test_runs_lists_only_runs_that_all_options_match(cli: Cli) -> None:
    for workflow, day in (("simple", 1), ("simple", 2), ("simple", 3), ("other", 2)):
        cli.record_failure(RunKey.of(workflow, {"level": 2}, datetime.date(2016, 1, day)))

    def listed(*options: str) -> list[tuple[str, str]]:
        return [(run["workflow"], run["reference_date"]) for run in cli.json("runs", *options)]

    second = ("--from", "2016-01-02", "--to", "2016-01-02")
    assert listed("--state", "failed", *second) == [("other", "2016-01-02"), ("simple", "2016-01-02")]
    assert listed("--workflow", "simple", *second) == [("simple", "2016-01-02")]
    assert listed("--workflow", "simple", "--limit", "1") == [("simple", "2016-01-03")]
    assert listed("--state", "succeeded") == []


def test_runs_show_prints_what_is_known_of_a_run(cli: Cli) -> None:
    run_id = cli.record_failure(RunKey.of("simple", {"level": 2}, datetime.date(2016, 1, 1)))
    assert cli("runs", "show", str(run_id)) == 0
    lines = cli.printed().splitlines()
    assert lines[:3] == [
        f"run             {run_id}: simple 2016-01-01, attempt 1",
        "state           failed",
        "parameters      level=2",
    ]


def test_secret_in_an_old_row_is_not_shown(cli: Cli) -> None:
    """Earlier versions stored such parameters."""
    token = cli.environ["FLOWAPI_TOKEN"]
    key = RunKey.of("simple", {"level": token, "more": [{token: f"x{token}y"}], "number": 2}, datetime.date(2016, 1, 1))
    run_id = cli.record_failure(key)

    (listed,) = cli.json("runs")
    assert listed["parameters"] == {"level": "[secret]", "more": "[secret]", "number": 2}
    listing = (("runs",), ("runs", "show", str(run_id)), ("runs", "show", str(run_id), "--json"))
    for arguments in (*listing, ("retry", str(run_id)), ("forget", str(run_id))):
        assert cli(*arguments) == 0
        # Names of runs show the beginning of a long value.
        assert token[:8] not in cli.printed()


VERBS = (
    ["plan"],
    ["runs"],
    ["retry", "--failed"],
    ["prune", "--older-than", "1"],
    ["validate", "--offline"],
    ["health"],
)
DRY_RUN = ["backfill", "simple", "--from", "2016-01-09", "--to", "2016-01-10", "--dry-run"]


@pytest.mark.parametrize("arguments", [*VERBS, DRY_RUN], ids=lambda arguments: arguments[0])
def test_verb_that_only_looks_makes_no_database(cli: Cli, arguments: list[str]) -> None:
    cli(*arguments)
    assert list(cli.deployed.outputs.rglob("*.db*")) == []


@pytest.mark.parametrize("arguments", [*VERBS, DRY_RUN, ["run", "simple", "--date", "2016-01-10"]], ids=str)
def test_verb_refuses_if_the_database_was_deleted(cli: Cli, arguments: list[str]) -> None:
    (cli.deployed.outputs / "index.html").touch()
    assert cli(*arguments) == 1
    printed = cli.capsys.readouterr()
    assert "autoflow.db is missing, but AutoFlow has run here before" in printed.err + printed.out
    assert list(cli.deployed.outputs.rglob("*.db*")) == []


def test_checks_and_skipped_runs_are_shown_by_all_verbs(running_cli: Cli) -> None:
    cli = running_cli
    write_notebook(
        cli.deployed.inputs / "n.ipynb",
        "import autoflow, pathlib\nautoflow.check('there are rows', True)",
        "autoflow.check('few outliers', False, 'warning', '7 %')",
        "autoflow.check('no gaps', not pathlib.Path('fail').exists(), message='3 gaps')",
        "if pathlib.Path('skip').exists(): autoflow.skip('nobody moved')",
        parameters="level = 1",
    )
    assert cli("run", "simple", "--date", "2016-01-09") == 0
    assert cli.printed().splitlines()[-2:] == ["warning: few outliers: 7 %", "run 1 succeeded"]
    (cli.deployed.inputs / "fail").touch()
    assert cli("run", "simple", "--date", "2016-01-10") == 1
    (cli.deployed.inputs / "skip").touch()
    assert cli("run", "simple", "--date", "2016-01-11") == 1  # a check failed before
    (cli.deployed.inputs / "fail").unlink()
    assert cli("run", "simple", "--date", "2016-01-12") == 0
    assert cli.printed().splitlines()[-1] == "run 4 skipped: nobody moved"
    assert "simple 2016-01-12 was skipped; --force runs it again" in cli.fails("run", "simple", "--date", "2016-01-12")

    assert cli("runs", "show", "2") == 0
    shown = cli.printed()
    assert "checks of n: 1 passed, 1 failed, 1 failed as warnings\n" in shown
    assert "    passed  there are rows (cell 2)\n" in shown
    assert "    warning few outliers: 7 % (cell 3)\n" in shown
    assert "    failed  no gaps: 3 gaps (cell 4)\n" in shown
    assert "    CheckFailed: no gaps: 3 gaps\n" in shown
    assert cli("runs") == 0
    assert "4: skipped: nobody moved\n4: warning: few outliers: 7 %\n" in cli.printed()
    (skipped,) = cli.json("runs", "--state", "skipped")
    assert (skipped["skipped"], skipped["error"]) == ("nobody moved", None)
    assert (skipped["checks"]["n"]["passed"], skipped["checks"]["n"]["warnings"]) == (2, 1)
    assert cli("why", "simple", "2016-01-12") == 0
    assert "is done, without a report, as it was skipped: run 4 ended at 20" in cli.printed()
    assert cli("why", "simple", "2016-01-09") == 0
    assert "; checks warned of: few outliers: 7 %." in cli.printed()
    (plan,) = cli.json("plan", "--dates")["workflows"]
    assert plan["counts"]["skipped"] == 1
    assert cli("plan") == 0
    assert "1 done, 1 skipped" in cli.printed()

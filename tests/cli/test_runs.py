import datetime

import pytest

from autoflow.runs.records import RunKey
from tests.cli.conftest import Cli


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

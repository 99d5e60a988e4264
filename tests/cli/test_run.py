import datetime
from collections.abc import Mapping
from pathlib import Path

from autoflow.runs.records import RunKey
from tests.cli.conftest import FAILS_WHILE_TOLD, Cli

LARGE = 10**99
"""A whole number that no column of a database and no other language takes for one."""


def test_date_is_run_again_only_with_force(running_cli: Cli, prefect_running: Mapping[str, str]) -> None:
    cli = running_cli.with_environ(**prefect_running)
    first = cli.json("run", "simple", "--date", "2016-01-05", "-p", f"level={LARGE}")
    assert first["state"] == "succeeded"
    assert Path(first["outputs"]["n"]["notebook"]).exists()
    assert "is done already; --force" in cli.fails("run", "simple", "--date", "2016-01-05", "-p", f"level={LARGE}")

    (cli.deployed.inputs / "fail").touch()
    forced = ("run", "simple", "--date", "2016-01-05", "-p", f"level={LARGE}", "--force")
    assert cli.json(*forced, code=1)["state"] == "failed"
    assert "is done already" in cli.fails(*forced[:-1])
    (cli.deployed.inputs / "fail").unlink()
    assert cli.json(*forced)["state"] == "succeeded"
    runs = cli.json("runs")
    assert [run["state"] for run in runs] == ["succeeded", "failed", "superseded"]
    assert runs[0]["parameters"] == {"level": LARGE}

    shown = cli.json("runs", "show", str(runs[1]["id"]))
    assert shown["failed_source"] == FAILS_WHILE_TOLD
    assert shown["error"]["error_class"] == "ZeroDivisionError"
    assert shown["notebooks"]["n"]["seconds"] >= 0
    assert shown["prefect"].startswith("http://127.0.0.1")
    assert cli("runs", "show", str(runs[1]["id"])) == 0
    assert "    |     1 / 0" in cli.printed()


def test_run_needs_available_dates_or_force(running_cli: Cli) -> None:
    cli = running_cli
    # The stencil is the day before and the day itself; FlowAPI has the first to the twelfth of January.
    for date, missing in {
        "2016-01-01": "2015-12-31; wait for it",
        "2016-01-13": "2016-01-13; wait for it",
        "2016-01-14": "2016-01-13 to 2016-01-14; wait for them",
    }.items():
        error = cli.fails("run", "simple", "--date", date)
        reason = f"simple {date} cannot run: FlowAPI has no data for {missing}, or use 'autoflow run --force'"
        assert error == f"Error: {reason}\n"
    unreachable = cli.with_environ(FLOWAPI_URL="http://127.0.0.1:9")
    assert "FlowAPI at http://127.0.0.1:9" in unreachable.fails("run", "simple", "--date", "2016-01-05")
    assert cli.json("runs") == []
    assert unreachable.json("run", "simple", "--date", "2016-01-01", "--force")["state"] == "succeeded"


def test_run_needs_no_prefect_and_starts_none(running_cli: Cli) -> None:
    cli = running_cli.with_environ(PREFECT_API_URL="http://127.0.0.1:9/api", PREFECT_HOME="")
    done = cli.json("run", "simple", "--date", "2016-01-05")
    assert done["state"] == "succeeded"
    assert cli.json("runs", "show", str(done["id"]))["prefect"] is None
    alone = running_cli.with_environ(PREFECT_API_URL="", PREFECT_HOME="")
    assert alone.json("run", "simple", "--date", "2016-01-06")["state"] == "succeeded"
    assert not list(cli.deployed.outputs.rglob("server.log"))


def test_given_value_of_another_type_than_the_default_gives_a_warning(cli: Cli) -> None:
    error = cli.fails("run", "simple", "--date", "2016-01-13", "-p", "level=2,5")
    assert (
        "parameter 'level': '2,5' is text, but notebook 'n' declares another type: `level = 1` in n.ipynb, line 1 of "
        "the cell tagged 'parameters'\n"
    ) in error
    assert "declares another type" not in cli.fails("run", "simple", "--date", "2016-01-13", "-p", "level=2")


def test_date_that_is_running_elsewhere_is_not_run(cli: Cli) -> None:
    with cli.store() as store:
        store.claim(RunKey.of("simple", {"level": 2}, datetime.date(2016, 1, 5)))
    assert "is running already" in cli.fails("run", "simple", "--date", "2016-01-05", "--force")
    dry = cli.json("backfill", "simple", "--from", "2016-01-04", "--to", "2016-01-06", "--dry-run")
    assert (dry["would_run"], dry["left_out"]) == (["2016-01-04", "2016-01-06"], {"running": 1})


def test_secret_as_a_parameter_is_refused_and_stored_nowhere(cli: Cli) -> None:
    token = cli.environ["FLOWAPI_TOKEN"]
    for value in (token, f"[1, {{a: x{token}}}]", f"{{unclosed: {token}", f"{{{token}: 1}}"):
        error = cli.fails("run", "simple", "--date", "2016-01-05", "-p", f"level={value}", "--force")
        assert error.startswith("Error: parameter 'level': it contains the token")
        assert token not in error
    assert token not in cli.fails("run", "simple", "--date", "2016-01-05", "-p", token, "--force")

    assert cli.json("runs") == []
    assert token.encode() not in b"".join(path.read_bytes() for path in cli.deployed.outputs.glob("*.db*"))

"""The verbs of the command line, in this process, against a FlowAPI, a Prefect server, kernels and a database."""

import base64
import datetime
import gzip
import json
import signal
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import jwt
import pytest

from autoflow.cli import autoflow, main
from autoflow.model.store import RunStore
from autoflow.runs.records import RunKey, RunState
from autoflow.specs import Json
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook
from tests.waiting import LONG, wait_for

ROOT = Path(__file__).resolve().parents[2]
EARLY = "it is before its earliest_date in workflows.yml, 2016-01-09"
NO_ENTRY = "the sensor in workflows.yml has no entry with its workflow and parameters"
FAILS_WHILE_TOLD = "import pathlib\nif pathlib.Path('fail').exists():\n    1 / 0"


pytestmark = pytest.mark.usefixtures("log_as_before")


@dataclass(frozen=True)
class Cli:
    """Runs verbs."""

    environ: Mapping[str, str]
    deployed: Deployed
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> int:
        self.capsys.readouterr()
        return main(arguments, self.environ)

    def json(self, *arguments: str, code: int = 0) -> Any:
        assert self(*arguments, "--json") == code, self.capsys.readouterr().err
        return json.loads(self.capsys.readouterr().out)

    def fails(self, *arguments: str, code: int = 1) -> str:
        assert self(*arguments) == code
        printed = self.capsys.readouterr()
        assert "Traceback" not in printed.err
        return printed.err

    def store(self) -> "closing[RunStore]":
        return closing(RunStore(f"sqlite:///{self.deployed.outputs}/autoflow.db"))


@pytest.fixture
def cli(deployed: Deployed, example_flowapi: ExampleFlowApi, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Return verbs that need no Prefect; the workflow runs from the ninth of January on, and needs the day before."""
    write_notebook(deployed.inputs / "n.ipynb", FAILS_WHILE_TOLD, parameters="level = 1")
    deployed.write_workflows("""
        workflows:
          - name: simple
            notebooks: {n: {filename: n.ipynb, parameters: {level: level}}}
        available_dates_sensor:
          schedule: null
          workflows:
            - workflow_name: simple
              parameters: {level: 2}
              earliest_date: 2016-01-09
              date_stencil: [[-1, 0]]
              max_attempts: 1
    """)
    environ = {**deployed.environ, "FLOWAPI_URL": example_flowapi.url, "FLOWAPI_TOKEN": example_flowapi.token()}
    return Cli(environ, deployed, capsys)


@pytest.fixture
def running_cli(cli: Cli, prefect_running: Mapping[str, str]) -> Cli:
    """Return verbs with a Prefect API to run with."""
    return Cli({**cli.environ, **prefect_running, "AUTOFLOW_MAX_PARALLEL_RUNS": "2"}, cli.deployed, cli.capsys)


@pytest.mark.parametrize("verb", sorted(autoflow.list_commands(click.Context(autoflow))))
def test_every_verb_has_a_help_text_with_an_example(verb: str, cli: Cli) -> None:
    assert cli(verb, "--help") == 0
    assert f": autoflow {verb}" in cli.capsys.readouterr().out


def test_help_brings_in_no_large_library() -> None:
    code = "import sys; from autoflow.cli import main; main(['--help']); print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    large = {"prefect", "papermill", "pandas", "sqlalchemy", "nbformat", "flowclient", "rich", "yaml"}
    assert large.isdisjoint(out.splitlines()[-1].split())


def test_version_needs_no_settings_and_is_that_of_pyproject_and_image() -> None:
    command = [sys.executable, "-m", "autoflow", "--version"]
    out = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=True).stdout
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert out == f"autoflow {project['version']}\n"
    assert f"ARG VERSION={project['version']}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["run"],
        ["run", "simple"],
        ["run", "simple", "--date", "soon"],
        ["retry"],
        ["prune"],
        ["prune", "--older-than", "99999999"],
        ["runs", "--limit", str(10**20)],
        ["runs", "show", str(2**31)],
        ["retry", str(10**20)],
    ],
)
def test_wrong_usage_ends_with_exit_code_2(cli: Cli, arguments: list[str]) -> None:
    assert "Usage: autoflow" in cli.fails(*arguments, code=2)


def test_validate_tells_a_line_for_each_thing(cli: Cli) -> None:
    found = cli.json("validate")
    assert found["good"]
    notes = {check["subject"]: check["note"] for check in found["checks"]}
    assert notes["FlowAPI"].endswith("has 12 dates from 2016-01-01 to 2016-01-12")
    assert notes["token"].startswith("expires ")
    assert {"settings", "workflows.yml", "notebooks", "templates", "tools", "database", "outputs folder"} < notes.keys()


def test_validate_tells_all_that_is_wrong(cli: Cli, deployed: Deployed) -> None:
    deployed.write_workflows("""
        workflows:
          - name: simple
            notebooks:
              n: {filename: gone.ipynb}
              o: {filename: n.ipynb, output: {format: pdf, template: gone.tpl}}
        available_dates_sensor: {schedule: often, workflows: []}
    """)
    scopes = base64.encodebytes(gzip.compress(json.dumps({"role": ["run"]}).encode())).decode()
    old = jwt.encode({"exp": 1, "user_claims": scopes}, "a-key-that-is-long-enough-for-hs256-to-be-happy")
    wrong = Cli({**cli.environ, "FLOWAPI_TOKEN": old}, deployed, cli.capsys)
    checks = {check["subject"]: check for check in wrong.json("validate", code=1)["checks"]}
    assert "workflows.yml:5" in checks["notebooks"]["problems"][0]
    assert "workflows.yml:6" in checks["templates"]["problems"][0]
    assert "often" in checks["workflows.yml"]["problems"][0]
    assert not checks["FlowAPI"]["good"]
    assert "has expired (1970-01-01" in checks["token"]["problems"][0]
    offline = {check["subject"] for check in wrong.json("validate", "--offline", code=1)["checks"]}
    assert "FlowAPI" not in offline
    assert "token" in offline


def test_validate_calls_nothing_wrong_that_only_could_not_be_checked(cli: Cli, deployed: Deployed) -> None:
    deployed.write_workflows("""
        workflows:
          - name: simple
            notebooks: {n: {filename: gone.ipynb}}
        available_dates_sensor: {schedule: null, workflows: [{workflow_name: simple}]}
    """)
    found = cli.json("validate", "--offline", code=1)
    good = {check["subject"]: check["good"] for check in found["checks"]}
    assert (good["notebooks"], good["workflows.yml"], good["templates"]) == (False, None, None)
    cli("validate", "--offline")
    lines = cli.capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("WRONG")] == ["notebooks"]
    assert "-      templates      not all of it could be checked" in lines


def test_validate_tells_settings_that_are_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate"], {"PATH": "/usr/bin:/bin"}) == 1
    assert "AUTOFLOW_INPUTS_DIR is not set" in capsys.readouterr().out


def test_validate_tells_a_database_that_start_would_refuse(cli: Cli, tmp_path: Path) -> None:
    def database(**environ: str) -> tuple[str, list[str]]:
        found = Cli({**cli.environ, **environ}, cli.deployed, cli.capsys)
        assert found("validate", "--json") in {0, 1}
        checks = json.loads(cli.capsys.readouterr().out)["checks"]
        return next((check["note"], check["problems"]) for check in checks if check["subject"] == "database")

    made = tmp_path / "made" / "at" / "start"
    assert database(AUTOFLOW_OUTPUTS_DIR=str(made)) == (f"{made}/autoflow.db, created at the first start", [])
    _, (problem,) = database(AUTOFLOW_DB_URI=f"sqlite:///{tmp_path}/missing/runs.db")
    assert problem.endswith(f"there is no folder {tmp_path}/missing; create it, or check AUTOFLOW_DB_URI")
    assert not (tmp_path / "missing").exists()

    assert cli("runs") == 0
    with closing(sqlite3.connect(cli.deployed.outputs / "autoflow.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    _, (problem,) = database()
    assert "was made by a newer version of AutoFlow" in problem


def test_plan_gives_up_runs_that_crashed(cli: Cli) -> None:
    quick = Cli({**cli.environ, "AUTOFLOW_HEARTBEAT_TIMEOUT": "20"}, cli.deployed, cli.capsys)
    assert cli("runs") == 0
    with cli.store() as store:
        store.claim(RunKey.of("simple", {"level": 2}, datetime.date(2016, 1, 10)))
    half_a_minute_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=30)
    with closing(sqlite3.connect(cli.deployed.outputs / "autoflow.db")) as connection:
        connection.execute("UPDATE runs SET heartbeat_at = ?", [f"{half_a_minute_ago:%Y-%m-%d %H:%M:%S.%f}"])
        connection.commit()
    assert cli.json("plan")["workflows"][0]["counts"]["running"] == 1
    counts = quick.json("plan")["workflows"][0]["counts"]
    assert (counts["running"], counts["due"]) == (0, 4)


def test_plan_shows_the_status_of_each_date(cli: Cli) -> None:
    content = cli.json("plan", "--dates")
    (plan,) = content["workflows"]
    assert content["available_dates"] == 12
    assert {name: count for name, count in plan["counts"].items() if count} == {"due": 4, "before earliest_date": 8}
    assert next(each["date"] for each in plan["dates"] if each["standing"] == "due") == "2016-01-09"
    assert cli("plan", "--dates") == 0
    assert "2016-01-09   due" in cli.capsys.readouterr().out


def test_run_runs_once_and_again_only_by_force(running_cli: Cli) -> None:
    cli = running_cli
    first = cli.json("run", "simple", "--date", "2016-01-05", "-p", "level=5")
    assert first["state"] == "succeeded"
    assert Path(first["outputs"]["n"]["notebook"]).exists()
    assert "is done already; --force" in cli.fails("run", "simple", "--date", "2016-01-05", "-p", "level=5")

    (cli.deployed.inputs / "fail").touch()
    forced = ("run", "simple", "--date", "2016-01-05", "-p", "level=5", "--force")
    assert cli.json(*forced, code=1)["state"] == "failed"
    assert "is done already" in cli.fails(*forced[:-1])
    (cli.deployed.inputs / "fail").unlink()
    assert cli.json(*forced)["state"] == "succeeded"
    runs = cli.json("runs")
    assert [run["state"] for run in runs] == ["succeeded", "failed", "superseded"]
    assert runs[0]["parameters"] == {"level": 5}

    shown = cli.json("runs", "show", str(runs[1]["id"]))
    assert shown["failed_source"] == FAILS_WHILE_TOLD
    assert shown["error"]["error_class"] == "ZeroDivisionError"
    assert shown["notebooks"]["n"]["seconds"] >= 0
    assert shown["prefect"].startswith("http://127.0.0.1")
    assert cli("runs", "show", str(runs[1]["id"])) == 0
    assert "    |     1 / 0" in cli.capsys.readouterr().out


def test_run_for_dates_that_are_not_available_is_refused_at_once_but_by_force(running_cli: Cli) -> None:
    cli = running_cli
    cli("runs")
    # The stencil is the day before and the day itself; FlowAPI has the first to the twelfth of January.
    for date, missing in {
        "2016-01-01": "2015-12-31; wait for it",
        "2016-01-13": "2016-01-13; wait for it",
        "2016-01-14": "2016-01-13 to 2016-01-14; wait for them",
    }.items():
        error = cli.fails("run", "simple", "--date", date)
        reason = f"simple {date} cannot run: FlowAPI has no data for {missing}, or use 'autoflow run --force'"
        assert error == f"Error: {reason}\n"
    unreachable = Cli({**cli.environ, "FLOWAPI_URL": "http://127.0.0.1:9"}, cli.deployed, cli.capsys)
    assert "FlowAPI at http://127.0.0.1:9" in unreachable.fails("run", "simple", "--date", "2016-01-05")
    assert cli.json("runs") == []
    assert unreachable.json("run", "simple", "--date", "2016-01-01", "--force")["state"] == "succeeded"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "other", "--date", "2016-01-05"], "there is no workflow 'other'"),
        (["backfill", "other", "--from", "2016-01-05", "--to", "2016-01-05"], "there is no workflow 'other'"),
        (["run", "simple", "--date", "2016-01-05", "-p", "level=[1"], "it is no YAML"),
        (
            ["run", "simple", "--date", "2016-01-05", "-p", "level=012"],
            "'012' would be read as the number 10; put it in quotes, or write 10",
        ),
        (
            ["run", "simple", "--date", "2016-01-05", "-p", 'level="\\ud800"'],
            "the text has a character that cannot be stored",
        ),
        (
            ["run", "simple", "--date", "2016-01-05", "-p", "typo=1"],
            "workflow 'simple' takes the parameters ['level']; missing or too many: typo",
        ),
        (["runs", "show", "99"], "there is no run 99"),
        (["runs", "show", str(2**31 - 1)], "there is no run 2147483647"),
        (["retry", "99"], "there is no run 99"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(cli: Cli, arguments: list[str], message: str) -> None:
    error = cli.fails(*arguments)
    assert error.startswith("Error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    # It is told at once, before a Prefect server is started.
    assert not (cli.deployed.outputs / "prefect").exists()


def test_what_runs_elsewhere_is_not_run(cli: Cli) -> None:
    assert cli("runs") == 0
    with cli.store() as store:
        store.claim(RunKey.of("simple", {"level": 2}, datetime.date(2016, 1, 5)))
    assert "is running already" in cli.fails("run", "simple", "--date", "2016-01-05", "--force")
    dry = cli.json("backfill", "simple", "--from", "2016-01-04", "--to", "2016-01-06", "--dry-run")
    assert dry == {"would_run": ["2016-01-04", "2016-01-06"], "left_out": {"running": 1}}


@pytest.mark.parametrize("arguments", [("retry", "1"), ("run", "simple", "--date", "2016-01-10", "--force")])
def test_a_run_that_crashed_while_the_clock_was_ahead_is_no_reason_to_refuse(
    running_cli: Cli, arguments: tuple[str, ...]
) -> None:
    cli = Cli({**running_cli.environ, "AUTOFLOW_HEARTBEAT_TIMEOUT": "3"}, running_cli.deployed, running_cli.capsys)
    ahead = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(days=365)
    database = f"sqlite:///{cli.deployed.outputs}/autoflow.db"
    with closing(RunStore(database, clock=lambda: ahead)) as store:
        store.migrate()
        store.claim(RunKey.of("simple", {"level": 2}, datetime.date(2016, 1, 10)))

    assert cli(*arguments) == 0, cli.capsys.readouterr().err

    with cli.store() as store:
        assert store.runs()[-1].state is RunState.CRASHED


def test_backfill_runs_what_is_missing_and_then_what_failed(running_cli: Cli) -> None:
    cli = running_cli
    whole = ("backfill", "simple", "--from", "2016-01-01", "--to", "2016-01-04")
    (cli.deployed.inputs / "fail").touch()
    assert cli.json("backfill", "simple", "--from", "2016-01-03", "--to", "2016-01-03", code=1)["states"] == {
        "failed": 1
    }
    (cli.deployed.inputs / "fail").unlink()

    dry = cli.json(*whole, "--newest-first", "--dry-run")
    assert dry == {"would_run": ["2016-01-04", "2016-01-02"], "left_out": {"dates missing": 1, "failed before": 1}}
    assert cli.json(*whole)["states"] == {"succeeded": 2}
    assert cli.json(*whole)["would_run"] == []
    assert cli.json(*whole, "--reprocess", "failed")["states"] == {"succeeded": 1}
    assert cli.json(*whole, "--reprocess", "failed")["would_run"] == []
    assert len(cli.json(*whole, "--reprocess", "all", "--dry-run")["would_run"]) == 3
    assert [run["reference_date"] for run in cli.json("runs", "--state", "succeeded", "--to", "2016-01-02")] == [
        "2016-01-02"
    ]


def test_backfill_that_was_interrupted_goes_on(running_cli: Cli) -> None:
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
    assert "the same command goes on from here" in out
    assert "Traceback" not in err

    with cli.store() as store:
        done = {run.key.reference_date for run in store.runs(state=RunState.SUCCEEDED)}
    assert 1 <= len(done) < 11
    rest = cli.json("backfill", "simple", "--from", "2016-01-01", "--to", "2016-01-12")
    assert rest["states"] == {"succeeded": 11 - len(done)}
    with cli.store() as store:
        dates = [run.key.reference_date for run in store.runs(state=RunState.SUCCEEDED)]
    assert len(dates) == len(set(dates)) == 11


def test_retry_makes_what_was_given_up_due_again(running_cli: Cli) -> None:
    cli = running_cli
    (cli.deployed.inputs / "fail").touch()
    failed = [cli.json("run", "simple", "--date", date, code=1)["id"] for date in ("2016-01-09", "2016-01-10")]

    def statuses() -> list[str]:
        dates = cli.json("plan", "--dates")["workflows"][0]["dates"]
        return [each["standing"] for each in dates if each["date"] in {"2016-01-09", "2016-01-10"}]

    assert statuses() == ["given up", "given up"]
    due = {"workflow": "simple", "never_due": None}
    assert cli.json("retry", str(failed[1])) == [{**due, "reference_date": "2016-01-10"}]
    assert statuses() == ["given up", "due"]
    assert cli.json("retry", "--failed") == [{**due, "reference_date": "2016-01-09"}]
    assert statuses() == ["due", "due"]
    assert cli.json("retry", "--failed") == []


@pytest.mark.parametrize(
    ("workflow", "level", "date", "reason"),
    [
        ("simple", 2, "2016-01-05", f"{EARLY}; to run it now: autoflow run simple --date 2016-01-05 -p level=2"),
        (
            "simple",
            "a",
            "2016-01-10",
            f"""{NO_ENTRY}; to run it now: autoflow run simple --date 2016-01-10 -p 'level="a"'""",
        ),
        ("gone", 2, "2016-01-10", NO_ENTRY),
    ],
)
def test_retry_tells_what_no_tick_will_run(cli: Cli, workflow: str, level: Json, date: str, reason: str) -> None:
    run_id = failed(cli, RunKey.of(workflow, {"level": level}, datetime.date.fromisoformat(date)))
    assert cli("retry", str(run_id)) == 0
    assert cli.capsys.readouterr().out == f"{workflow} {date} is forgiven, but no tick will run it: {reason}\n"


def test_retry_tells_what_is_due_again(cli: Cli) -> None:
    failed(cli, RunKey.of("simple", {"level": 2}, datetime.date(2016, 1, 10)))
    assert cli("retry", "--failed") == 0
    assert cli.capsys.readouterr().out == "simple 2016-01-10 is due again if its dates are available\n"


def failed(cli: Cli, key: RunKey) -> int:
    """Record a run that failed; return its number."""
    assert cli("runs") == 0
    with cli.store() as store:
        claim = store.claim(key)
        assert claim
        store.finish(claim, RunState.FAILED)
    return claim.id


def test_prune_deletes_old_outputs_and_leaves_what_is_done_done(running_cli: Cli) -> None:
    cli = running_cli
    outputs = cli.json("run", "simple", "--date", "2016-01-05")["outputs"]
    executed, of_others = Path(outputs["n"]["notebook"]), cli.deployed.outputs / "notebooks" / "mine.ipynb"
    of_others.touch()
    nothing = cli.json("prune", "--older-than", "1")
    assert nothing["files"] == 0
    assert executed.exists()

    with closing(sqlite3.connect(cli.deployed.outputs / "autoflow.db")) as connection:
        connection.execute("UPDATE runs SET finished_at = '2020-01-01 00:00:00.000000'")
        connection.commit()
    assert cli.json("prune", "--older-than", "1", "--dry-run")["files"] == 1
    assert executed.exists()
    pruned = cli.json("prune", "--older-than", "1")
    assert (pruned["files"], pruned["flow_runs"]) == (1, 1)
    assert not executed.exists()
    assert of_others.exists()
    (run,) = cli.json("runs")
    assert (run["state"], run["outputs"], run["flow_run_id"]) == ("succeeded", {}, None)
    assert run["pruned_at"]
    assert "is done already" in cli.fails("run", "simple", "--date", "2016-01-05")


def test_health_without_a_daemon_is_bad(cli: Cli) -> None:
    found = cli.json("health", code=1)
    assert {check["subject"]: check["problems"] for check in found["checks"]} == {
        "database": [],
        "Prefect API": ["no daemon is running"],
        "ticks": ["no daemon is running"],
    }

"""What verbs have in common: help, and messages about wrong usage."""

import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from autoflow.cli import autoflow
from tests.cli.conftest import Cli

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("verb", sorted(autoflow.list_commands(click.Context(autoflow))))
def test_help_of_each_verb_has_an_example(verb: str, cli: Cli) -> None:
    assert cli(verb, "--help") == 0
    assert f": autoflow {verb}" in cli.printed()


def test_help_imports_no_large_library() -> None:
    code = "import sys; from autoflow.cli import main; main(['--help']); print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    large = {"prefect", "pydantic", "papermill", "pandas", "sqlalchemy", "nbformat", "flowclient", "rich", "yaml"}
    assert large.isdisjoint(out.splitlines()[-1].split())


def test_version_needs_no_settings_and_is_that_of_pyproject_and_image() -> None:
    command = [sys.executable, "-m", "autoflow", "--version"]
    out = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=True).stdout
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert out == f"autoflow {project['version']}\n"
    assert f"ARG VERSION={project['version']}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_verb_works_without_standard_streams(closed: str) -> None:
    command = ["sh", "-c", f'"$0" -m autoflow --version {closed}', sys.executable]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stderr == ""


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
def test_wrong_usage_has_exit_code_2(cli: Cli, arguments: list[str]) -> None:
    assert "Usage: autoflow" in cli.fails(*arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "other", "--date", "2016-01-05"], "there is no workflow 'other'"),
        (["backfill", "other", "--from", "2016-01-05", "--to", "2016-01-05"], "there is no workflow 'other'"),
        (["run", "simple", "--date", "2016-01-05", "-p", "level=[1"], "invalid YAML"),
        (
            ["run", "simple", "--date", "2016-01-05", "-p", "level=012"],
            "YAML reads 012 as the number 10; write '012' for text, or 10",
        ),
        (
            ["run", "simple", "--date", "2016-01-05", "-p", 'level="\\ud800"'],
            "the text contains a character that cannot be stored",
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
def test_wrong_arguments_are_explained_in_one_line(cli: Cli, arguments: list[str], message: str) -> None:
    error = cli.fails(*arguments)
    assert error.startswith("Error: ")
    assert message in error
    assert len(error.splitlines()) == 1
    # Immediately, before a Prefect server is started.
    assert not (cli.deployed.outputs / "prefect").exists()

"""A folder written for FlowKit's AutoFlow runs: its notebooks, template, config.toml and stack, with what its page says."""

import re
import shutil
from importlib import metadata
from pathlib import Path
from string import Template

import nbformat
import pytest
import yaml

from autoflow.cli import main
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed
from tests.postgres import Postgres
from tests.reports.convert import images_in, title_of, words_of

FOLDER = Path(__file__).resolve().parent / "flowkit"
DAY = "2016-01-12"


def stack_environ(variables: dict[str, str], secrets: dict[str, str]) -> dict[str, str]:
    """Return the environment that docker would give the stack's service; secrets are read like variables."""
    service = yaml.safe_load((FOLDER / "docker-stack.yml").read_text(encoding="utf-8"))["services"]["autoflow"]
    assert set(service["secrets"]) == set(secrets)
    filled = {name: Template(value).substitute(variables) for name, value in service["environment"].items()}
    return {**filled, **secrets}


class Operator:
    """Does what an operator does, and reads what AutoFlow prints."""

    def __init__(self, environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
        self.environ = environ
        self._capsys = capsys
        self.inputs = Path(environ["AUTOFLOW_INPUTS_DIR"])

    def autoflow(self, *arguments: str) -> tuple[int, str]:
        code = main(list(arguments), self.environ)
        printed = self._capsys.readouterr()
        return code, printed.out + printed.err

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.inputs / name).read_text(encoding="utf-8")
        assert old in text
        (self.inputs / name).write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def operator(
    deployed: Deployed,
    example_flowapi: ExampleFlowApi,
    postgres: Postgres,
    prefect_running: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> Operator:
    shutil.copytree(FOLDER / "inputs", deployed.inputs, dirs_exist_ok=True)
    variables = {
        "AUTOFLOW_LOG_LEVEL": "INFO",
        "AUTOFLOW_INPUTS_DIR": str(deployed.inputs),
        "AUTOFLOW_OUTPUTS_DIR": str(deployed.outputs),
        "AUTOFLOW_DB_URI": postgres.uri("{}"),
        "FLOWAPI_URL": example_flowapi.url,
        "CONFIG_DIR": str(FOLDER / "config"),
    }
    secrets = {"AUTOFLOW_DB_PASSWORD": "autoflow", "FLOWAPI_TOKEN": example_flowapi.token()}
    return Operator({**deployed.environ, **prefect_running, **stack_environ(variables, secrets)}, capsys)


def days_used(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


@pytest.mark.usefixtures("log_as_before")
def test_a_folder_of_flowkit_runs_once_its_page_has_been_followed(operator: Operator, deployed: Deployed) -> None:
    # The symptom: a single day is an empty interval for flowclient.
    code, log = operator.autoflow("start", "--once")
    assert code == 1
    assert "Could not parse query spec." in log
    assert "needs 'interval_ends: excluded' in workflows.yml" in operator.autoflow("runs", "show", "1")[1]

    # Its cure. After it, a name that pandas dropped.
    operator.change("workflows.yml", "  cdr_types", "  interval_ends: excluded\n  cdr_types")
    assert operator.autoflow("retry", "--failed")[0] == 0
    code, log = operator.autoflow("start", "--once")
    hint = f'pandas {metadata.version("pandas")} no longer has Styler.hide_index; use Styler.hide(axis="index")'
    assert (code, hint in log) == (1, True)
    assert hint in operator.autoflow("runs", "show", "2")[1]

    operator.change("moves_report.ipynb", "hide_index()", "hide(axis=\\\"index\\\")")
    assert operator.autoflow("retry", "--failed")[0] == 0
    code, log = operator.autoflow("start", "--once")
    assert code == 0, log
    assert days_used(deployed.executed()[-2]) == "Days used: [['2016-01-01', '2016-01-08'], ['2016-01-11', '2016-01-12']]\n"
    (report,) = deployed.reports()
    check(report)

    # The folder runs with included ends as well, if its stencil has the ends that flowclient excludes.
    operator.change("workflows.yml", "interval_ends: excluded", "interval_ends: included")
    operator.change("workflows.yml", "- -1", "- [-1, 0]")
    code, log = operator.autoflow("run", "moves", "--date", "2016-01-11")
    assert code == 0, log
    assert days_used(deployed.reports_of("2016-01-11")) == "..."


def check(report: Path) -> None:
    """Check that a report shows what its template and its notebook say."""
    words = words_of(report)
    assert title_of(report) == "Moves of people"
    assert images_in(report) >= 2

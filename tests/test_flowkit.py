"""A folder written for FlowKit's AutoFlow runs here, once what its page says has been changed."""

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
from tests.reports.convert import images_in, words_of

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
    # The kernels import what is preloaded by default.
    environ = {**deployed.environ, **prefect_running, "AUTOFLOW_PRELOAD": ""}
    return Operator({**environ, **stack_environ(variables, secrets)}, capsys)


def days_used(deployed: Deployed, date: str) -> str:
    """Return what the report's notebook printed about its dates when it last ran for `date`."""
    notebook = max(path for path in deployed.executed() if f"__report__{date}__" in path.name)
    cells = nbformat.read(notebook, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


@pytest.mark.usefixtures("log_as_before")
def test_a_folder_of_flowkit_runs_once_its_page_has_been_followed(operator: Operator, deployed: Deployed) -> None:
    # The symptom: for flowclient, a single day is an interval without a day.
    code, log = operator.autoflow("start", "--once")
    assert (code, "Could not parse query spec." in log) == (1, True), log
    assert "needs 'interval_ends: excluded' in workflows.yml" in operator.autoflow("runs", "show", "1")[1]

    # With its cure, the next one: a name that pandas dropped.
    operator.change("workflows.yml", "  cdr_types", "  interval_ends: excluded\n  cdr_types")
    code, log = operator.autoflow("run", "moves", "--date", DAY)
    hint = f'pandas {metadata.version("pandas")} no longer has Styler.hide_index; use Styler.hide(axis="index")'
    assert (code, hint in log) == (1, True), log
    assert hint in operator.autoflow("runs", "show", "2")[1]

    operator.change("moves_report.ipynb", "hide_index()", r"hide(axis=\"index\")")
    assert operator.autoflow("retry", "--failed")[0] == 0
    code, log = operator.autoflow("start", "--once")
    assert code == 0, log
    assert days_used(deployed, DAY) == "Days used: [['2016-01-01', '2016-01-08'], ['2016-01-11', '2016-01-12']]\n"
    (report,) = deployed.reports()
    check(report)

    # The folder runs with included ends as well, if its stencil names the day after the last day that flowclient gets.
    operator.change("workflows.yml", "interval_ends: excluded", "interval_ends: included")
    operator.change("workflows.yml", "- -1", "- [-1, 0]")
    code, log = operator.autoflow("run", "moves", "--date", "2016-01-11")
    assert code == 0, log
    assert (
        days_used(deployed, "2016-01-11") == "Days used: [['2016-01-01', '2016-01-07'], ['2016-01-10', '2016-01-11']]\n"
    )


def check(report: Path) -> None:
    """Check that a report shows what its template and its notebook say."""
    words = words_of(report)
    assert words.startswith("Moves of people Days used: ")
    assert "Days used: [['2016-01-01', '2016-01-08'], ['2016-01-11', '2016-01-12']]" in words
    assert re.search(r"pcod_from pcod_to value VM \d \d\d VM \d \d\d \d+", words), words
    assert images_in(report) == 2  # the SVG is a drawing
    assert words.count("pcod_to") == 2, words
    assert re.search(r"\{'VM \d \d\d': \d+", words), words
    assert not re.search(r"----|image::|&\w+;|\[(?:png|svg|jpeg)\]", words), words

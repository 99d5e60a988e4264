"""The notebook and workflows.yml of the tutorial and of README work as described."""

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pytest

from autoflow.cli import main
from autoflow.parser import read_workflows
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed
from tests.test_docs import README, page

TUTORIAL = page("tutorial.md")


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def follower(deployed: Deployed, tmp_path: Path) -> Deployed:
    """Return the folders of a user who has written the tutorial's notebook."""
    (command,) = (block for block in blocks("bash", TUTORIAL) if "new_notebook" in block)
    program = command.removeprefix("python - <<'END'\n").removesuffix("END\n")
    inputs = tmp_path / "tutorial" / "inputs"
    inputs.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", program], env={**deployed.environ, "HOME": str(tmp_path)}, check=True)
    (inputs / "moves.ipynb").rename(deployed.inputs / "moves.ipynb")
    return deployed


@pytest.mark.parametrize("text", [README, TUTORIAL], ids=["README", "tutorial"])
def test_first_workflow_is_valid(follower: Deployed, text: str) -> None:
    follower.write_workflows(blocks("yaml", text)[0])
    (trigger,) = read_workflows(follower.settings()).sensor.triggers
    assert trigger.workflow.name == "moves"
    assert trigger.parameters == {"unit": "admin2"}


def commands(section: str) -> list[list[str]]:
    """Return AutoFlow's commands in a section of the tutorial, as their arguments."""
    text = TUTORIAL.split(f"\n## {section}", 1)[1].split("\n## ", 1)[0]
    start = "python -m autoflow"
    lines = [line for block in blocks("bash", text) for line in block.splitlines() if line.startswith(start)]
    return [shlex.split(line)[3:] for line in lines]


def test_tutorials_commands_lead_from_nothing_to_reports_and_to_the_second_edit_and_its_token_allows_one_unit(
    follower: Deployed,
    example_flowapi: ExampleFlowApi,
    prefect_running: Mapping[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flowapi = {"FLOWAPI_URL": example_flowapi.url, "FLOWAPI_TOKEN": example_flowapi.token()}
    # The kernels import pandas and matplotlib, so these are preloaded.
    environ = {**follower.environ, **prefect_running, **flowapi, "AUTOFLOW_PRELOAD": ""}
    places = {"~/tutorial/inputs": str(follower.inputs), "~": str(tmp_path)}

    def shown(command: list[str]) -> str:
        for place, folder in places.items():
            command = [word.replace(place, folder) for word in command]
        capsys.readouterr()
        assert main([word for word in command if word != "--watch"], environ) == 0, command
        return capsys.readouterr().out

    follower.write_workflows(blocks("yaml", TUTORIAL)[0])
    (validate,) = commands("4.")
    assert {line.split()[0] for line in shown(validate).splitlines()} == {"ok"}
    plan, start = commands("5.")
    assert "3 due" in shown(plan)
    shown(start)
    assert [path.suffix for path in follower.reports()] == [".pdf"] * 3
    for executed in follower.executed():
        outputs = nbformat.read(executed, as_version=4).cells[-1].outputs
        assert {kind for output in outputs for kind in output.get("data", {})} >= {"image/png", "text/html"}

    tried, outdated, again, init, first = commands("8.")
    assert "for 2016-01-12, the newest date that could run" in shown(tried)
    notebook = follower.inputs / "moves.ipynb"
    notebook.write_text(notebook.read_text(encoding="utf-8").replace("People who arrived", "Arrivals"), "utf-8")
    assert "3 done dates outdated" in shown(outdated)
    shown(again)
    assert len(follower.reports()) == 6
    assert "3 done dates outdated" not in shown(outdated)
    made = shown(init)
    assert f"try {tmp_path}/my-workflows/report.ipynb --with-upstream" in made
    assert "report.pdf" in shown(first)

    done = follower.executed()
    assert main(["run", "moves", "--date", "2016-01-12", "-p", "unit=admin3"], environ) == 1
    (failed,) = set(follower.executed()) - set(done)
    assert "User claims verification failed" in failed.read_text(encoding="utf-8")

import base64
import datetime
import gzip
import json
from pathlib import Path

import jwt
import pytest

from autoflow.cli import main
from autoflow.runs.records import RunKey
from tests.cli.conftest import Cli
from tests.conftest import Deployed, write_notebook
from tests.disks import fill, small_disk


def test_validate_has_a_line_for_each_check(cli: Cli) -> None:
    found = cli.json("validate")
    assert found["good"]
    notes = {check["subject"]: check["note"] for check in found["checks"]}
    assert notes["FlowAPI"].endswith("has 12 dates from 2016-01-01 to 2016-01-12")
    assert notes["token"].startswith("expires ")
    assert notes["workflows.yml"] == "1 workflow, 1 sensor entry, no schedule"
    assert {"settings", "workflows.yml", "notebooks", "templates", "tools", "database", "outputs folder"} < notes.keys()


def test_validate_shows_all_problems(cli: Cli, deployed: Deployed) -> None:
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
    wrong = cli.with_environ(FLOWAPI_TOKEN=old)
    checks = {check["subject"]: check for check in wrong.json("validate", code=1)["checks"]}
    assert "workflows.yml:5" in checks["notebooks"]["problems"][0]
    assert "workflows.yml:6" in checks["templates"]["problems"][0]
    assert "often" in checks["workflows.yml"]["problems"][0]
    assert not checks["FlowAPI"]["good"]
    assert "has expired (1970-01-01" in checks["token"]["problems"][0]
    offline = {check["subject"] for check in wrong.json("validate", "--offline", code=1)["checks"]}
    assert "FlowAPI" not in offline
    assert "token" in offline


def test_unchecked_subject_is_not_reported_as_a_problem(cli: Cli, deployed: Deployed) -> None:
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
    lines = cli.printed().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("WRONG")] == ["notebooks"]
    assert "-      templates      not fully checked, because workflows.yml has problems" in lines


def test_validate_tries_templates_on_every_kind_of_output(cli: Cli, deployed: Deployed) -> None:
    folder = deployed.inputs
    (folder / "good.tpl").write_text("{% extends 'asciidoc.tpl' %}{% block footer %}\nThe end\n{% endblock %}")
    (folder / "svg.tpl").write_text(
        "{% extends 'asciidoc.tpl' %}\n{% block data_svg %}\n{{ 1 | nothing }}{% endblock %}"
    )
    (folder / "default.tpl").write_text("{% extends 'asciidoc.tpl' %}\n{% block stream %}\n\n= {{ 1 }}{% endblock %}")
    deployed.write_workflows("""
        workflows:
          - name: simple
            notebooks:
              n: {filename: n.ipynb, output: {format: pdf, template: good.tpl}}
              o: {filename: n.ipynb, output: {format: [pdf, html], template: svg.tpl}}
              p: {filename: n.ipynb, output: {format: html}}
        available_dates_sensor: {schedule: null, workflows: [{workflow_name: simple}]}
    """)
    default = cli.with_environ(PREFECT__ASCIIDOC_TEMPLATE_PATH=str(folder / "default.tpl"))

    checks = {check["subject"]: check for check in default.json("validate", "--offline", code=1)["checks"]}

    refused, undefined = checks["templates"]["problems"]
    assert refused.startswith(f"{folder / 'default.tpl'}:4: asciidoctor: level 0 sections")
    assert undefined.startswith(f"{folder / 'svg.tpl'}:3: No filter named 'nothing': correct the name")


def test_validate_shows_problems_of_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate"], {"PATH": "/usr/bin:/bin"}) == 1
    assert "AUTOFLOW_INPUTS_DIR is not set" in capsys.readouterr().out


def test_validate_refuses_the_databases_that_start_refuses(cli: Cli, tmp_path: Path) -> None:
    def database(**environ: str) -> tuple[str, list[str]]:
        found = cli.with_environ(**environ)
        assert found("validate", "--json") in {0, 1}
        checks = json.loads(cli.printed())["checks"]
        return next((check["note"], check["problems"]) for check in checks if check["subject"] == "database")

    made = tmp_path / "made" / "at" / "start"
    assert database(AUTOFLOW_OUTPUTS_DIR=str(made)) == (f"{made}/autoflow.db, created at the first start", [])
    _, (problem,) = database(AUTOFLOW_DB_URI=f"sqlite:///{tmp_path}/missing/runs.db")
    assert problem.endswith(f"there is no folder {tmp_path}/missing; create it, or check AUTOFLOW_DB_URI")
    assert not (tmp_path / "missing").exists()

    with cli.store():
        pass
    cli.execute_sql("UPDATE alembic_version SET version_num = '9999'")
    _, (problem,) = database()
    assert "was made by a newer version of AutoFlow" in problem


@pytest.mark.parametrize(("left", "code", "word"), [(10_000, 1, "full"), (1_000_000, 0, "nearly full")])
def test_validate_reports_a_disk_without_room(cli: Cli, left: int, code: int, word: str) -> None:
    notebooks = cli.deployed.outputs / "notebooks"
    with small_disk(notebooks, "size=30m"):
        fill(notebooks, left=left)
        checks = cli.json("validate", "--offline", code=code)["checks"]
    (disks,) = [check for check in checks if check["subject"] == "disks"]
    assert disks["good"] is (False if code else None)
    assert f"the disk of {notebooks} is {word}: " in " ".join([*disks["problems"], disks["note"]])


def test_validate_warns_of_values_that_notebooks_do_not_expect(cli: Cli, deployed: Deployed) -> None:
    write_notebook(deployed.inputs / "n.ipynb", parameters="level = 'admin2'\nflowapi_url = ''")
    checks = {check["subject"]: check for check in cli.json("validate", "--offline")["checks"]}
    assert checks["workflows.yml"]["good"]
    missing, wrong = checks["workflows.yml"]["warnings"]
    assert missing.startswith("workflows.yml:4: workflows[0].notebooks.n.parameters.flowapi_url: ")
    assert wrong.startswith(
        "workflows.yml:9: available_dates_sensor.workflows[0].parameters.level: 2 is a whole number"
    )
    assert cli("validate", "--offline") == 0
    lines = cli.printed().splitlines()
    assert f"note   workflows.yml  {missing}" in lines
    assert f"{'':<23}{wrong}" in lines


def test_validate_reports_a_kernel_that_is_not_installed(cli: Cli, deployed: Deployed) -> None:
    write_notebook(deployed.inputs / "n.ipynb", parameters="level <- 1", kernelspec={"name": "ir", "display_name": "R"})
    found = cli.json("validate", "--offline", code=1)
    (notebooks,) = [check for check in found["checks"] if check["subject"] == "notebooks"]
    assert notebooks["problems"] == [
        (
            "workflows.yml:4: workflows[0].notebooks.n.filename: 'n.ipynb' cannot run: no kernel named 'ir' is "
            "installed; install one where AutoFlow runs, or choose another kernel in the notebook and save it"
        )
    ]


def test_validate_refuses_a_notebook_of_two_gigabytes(cli: Cli, deployed: Deployed) -> None:
    with (deployed.inputs / "n.ipynb").open("wb") as file:
        file.truncate(2 * 1024**3)
    found = cli.json("validate", "--offline", code=1)
    (notebooks,) = [check for check in found["checks"] if check["subject"] == "notebooks"]
    assert notebooks["problems"] == [
        (
            "workflows.yml:4: workflows[0].notebooks.n.filename: 'n.ipynb' is not a valid notebook: it has 2,048 MiB, "
            "and the limit is 100; clear its outputs and save it"
        )
    ]


def test_validate_warns_of_an_edit_that_makes_many_dates_due(cli: Cli, deployed: Deployed) -> None:
    deployed.write_workflows("""
        workflows:
          - name: simple
            notebooks: {n: {filename: n.ipynb, parameters: {level: level}}}
        available_dates_sensor:
          schedule: null
          workflows: [{workflow_name: simple, for_each: {level: [1, 2, 3]}}]
    """)

    def due() -> tuple[str, list[str]]:
        checks = cli.json("validate")["checks"]
        return next((check["note"], check["warnings"]) for check in checks if check["subject"] == "due dates")

    assert due() == ("36 runs", [])
    cli.record_failure(RunKey.of("simple", {"level": 0}, datetime.date(2016, 1, 5)))
    note, (warning,) = due()
    assert note == "36 runs"
    assert warning.startswith("36 dates are due that no run has done with these names and parameters: simple:1 (12), ")
    cli.record_failure(RunKey.of("simple", {"level": 1}, datetime.date(2016, 1, 5)))
    assert due()[1] == []

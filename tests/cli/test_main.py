import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from autoflow.cli import main
from autoflow.orchestration.prefect_api import free_port
from autoflow.settings import Settings
from tests.conftest import TOKEN_OF_NO_USE, Deployed, write_notebook
from tests.waiting import LONG

pytestmark = pytest.mark.usefixtures("log_as_before")

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """How a program ended: `seconds` are those that it kept the processor busy."""

    code: int
    out: str
    err: str
    seconds: float


def run(environ: Mapping[str, str]) -> Ended:
    """Run AutoFlow in a process with this environment until it ends."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "autoflow"]
    ended = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=LONG, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert TOKEN_OF_NO_USE not in ended.stdout + ended.stderr
    return Ended(ended.returncode, ended.stdout, ended.stderr, seconds)


def test_threads_within_rust_do_not_abort_the_exit() -> None:
    """At its exit, Python ends the threads of libraries, and aborts if one is within a library such as pydantic's."""
    code = """if True:
        import runpy, sys, threading, time
        from pydantic_core import SchemaValidator, core_schema
        waits = SchemaValidator(core_schema.no_info_plain_validator_function(lambda _: time.sleep(0.001)))
        def run():
            while True:
                waits.validate_python(1)
        for _ in range(4):
            threading.Thread(target=run, daemon=True).start()
        sys.argv = ["autoflow", "--version"]
        runpy.run_module("autoflow", run_name="__main__", alter_sys=True)
    """
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("autoflow ")


Broken = Callable[[Callable[[Settings], int]], None]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    """Return what replaces all of the daemon by a function: one with a bug, or one that ends."""

    def replace(behaviour: Callable[[Settings], int]) -> None:
        monkeypatch.setattr("autoflow.app.main", lambda settings, **_: behaviour(settings))

    return replace


def misuse_token(settings: Settings) -> int:
    return int(settings.flowapi_token.get_secret_value())


def be_interrupted(_: Settings) -> int:
    raise KeyboardInterrupt


GOOD = """\
workflows:
  - name: flows
    notebooks:
      run: {filename: run.ipynb}
available_dates_sensor:
  schedule: null
  workflows:
    - workflow_name: flows
"""


def test_all_missing_settings_are_reported_at_once() -> None:
    ended = run({"PATH": "/usr/bin:/bin"})
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.splitlines() == [
        "AutoFlow cannot start, because settings are missing or invalid:",
        "AUTOFLOW_INPUTS_DIR is not set: the folder with workflows.yml and the notebooks",
        "AUTOFLOW_OUTPUTS_DIR is not set: the folder for executed notebooks, reports and AutoFlow's own databases",
        "FLOWAPI_URL is not set: the address of FlowAPI, such as https://flowapi.example.org:9090",
        "FLOWAPI_TOKEN is not set: the access token for FlowAPI",
    ]
    assert ended.seconds < 5


def test_single_problem_is_reported_in_one_line(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {**deployed.environ, "AUTOFLOW_MAX_PARALLEL_RUNS": "many"}) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "AutoFlow cannot start, because settings are missing or invalid: "
        "AUTOFLOW_MAX_PARALLEL_RUNS: 'many' is not a whole number from 1 to 1000000\n"
    )


def test_ten_mistakes_in_workflows_file_are_reported_at_once_with_their_lines(deployed: Deployed) -> None:
    write_notebook(deployed.inputs / "run.ipynb", "print(1)", parameters="unit = 'admin2'")
    deployed.write_workflows(
        """\
        workflows:
          - name: flows
            notebooks:
              run: {filename: run.ipynb, parameters: {unti: unit}}
              report: {filename: report.ipynb}
              reference_date: {filename: run.ipynb}
          - name: flows
            notebooks: {run: {filename: run.ipynb, output: {format: docx}}}
          - name: empty
            notebooks: {}
        available_dates_sensor:
          schedule: every day
          cdr_types: [calls, letters]
          surprise: 1
          workflows:
            - workflow_name: 7
            - workflow_name: flows
              date_stencil: [[1, 2, 3]]
              earliest_date: 2016-02-30
        """
    )
    ended = run(deployed.environ)
    assert (ended.code, ended.out) == (1, "")
    first, *problems = ended.err.splitlines()
    assert first == "AutoFlow cannot start:"
    lines = [int(match[1]) for problem in problems if (match := re.match(r"workflows\.yml:(\d+): \S+: ", problem))]
    assert len(lines) == len(problems)
    assert {4, 5, 6, 7, 8, 10, 12, 13, 14, 18, 19} <= set(lines)
    assert lines == sorted(lines)
    assert ended.seconds < 5


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[" * 10_000, b"just text"])
def test_file_that_is_not_a_workflows_file_is_reported_in_one_line(
    deployed: Deployed, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (deployed.inputs / "workflows.yml").write_bytes(content)
    assert main([], deployed.environ) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("AutoFlow cannot start: workflows.yml:1")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["runs", "--workflow", b"\xff"], ["run", b"\xff", "--date", "2016-01-01"]])
def test_argument_that_is_not_text_is_reported_in_one_line(deployed: Deployed, arguments: list[str | bytes]) -> None:
    command = [sys.executable, "-m", "autoflow", *arguments]
    ended = subprocess.run(command, env=deployed.environ, cwd=ROOT, capture_output=True, timeout=LONG, check=False)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr == b"Error: '\\udcff' is not valid UTF-8\n"


def test_database_that_does_not_answer_is_reported_in_one_line_without_its_password(
    deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    write_notebook(deployed.inputs / "run.ipynb", "print(1)")
    deployed.write_workflows(GOOD)
    port = free_port()
    password = {
        "AUTOFLOW_DB_URI": f"postgresql://autoflow:{{}}@127.0.0.1:{port}/runs",
        "AUTOFLOW_DB_PASSWORD": "p@ss/w:rd{}%",
    }
    assert main([], {**deployed.environ, **password}) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"AutoFlow cannot start: the database of runs at 127.0.0.1:{port}/runs cannot be prepared")
    assert len(err.splitlines()) == 1
    assert "p@ss" not in err
    assert "p%40ss" not in err


def test_bug_is_reported_with_a_traceback_without_secrets(
    deployed: Deployed, broken: Broken, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(misuse_token)
    assert main([], deployed.environ) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback (most recent call last)" in err
    assert "ValueError: invalid literal for int() with base 10: '[secret]'" in err
    assert err.endswith("AutoFlow has a bug; please report the lines above.\n")
    assert TOKEN_OF_NO_USE not in err


def test_end_of_a_daemon_that_logs_in_json_is_a_line_of_json(
    deployed: Deployed, broken: Broken, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {**deployed.environ, "AUTOFLOW_LOG_FORMAT": "json"}
    deployed.write_workflows("workflows: 5\nsurprise: 1")
    assert main([], environ) == 1
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert line["level"] == "CRITICAL"
    assert line["message"].startswith("AutoFlow cannot start: workflows.yml:1: ")
    broken(misuse_token)
    assert main([], environ) == 3
    err = capsys.readouterr().err
    (line,) = [json.loads(line) for line in err.splitlines()]
    assert line["message"] == "AutoFlow has a bug; please report this line"
    assert "ValueError" in line["traceback"]
    assert TOKEN_OF_NO_USE not in err


def test_interruption_has_no_traceback(deployed: Deployed, broken: Broken, capsys: pytest.CaptureFixture[str]) -> None:
    broken(be_interrupted)
    assert main([], deployed.environ) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("code", [0, 1])
def test_exit_code_is_that_of_the_daemon(deployed: Deployed, broken: Broken, code: int) -> None:
    broken(lambda _: code)
    assert main([], deployed.environ) == code

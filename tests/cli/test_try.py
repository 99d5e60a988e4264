"""`autoflow try`: one notebook as a workflow would execute it, without a daemon, Prefect or a record."""

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from autoflow.cli import main
from autoflow.utils import readable_path
from tests.cli.conftest import Cli
from tests.conftest import write_notebook
from tests.environment import steady_environ
from tests.waiting import LONG, wait_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_starter_becomes_a_report_without_settings_and_without_prefect(tmp_path: Path, scratch: Path) -> None:
    folder = tmp_path / "starter"
    names = ("AUTOFLOW_", "FLOWAPI_", "PREFECT_")
    environ = {name: value for name, value in steady_environ().items() if not name.startswith(names)}
    environ["TMPDIR"] = str(scratch)
    code = (
        "import sys; from autoflow.cli import main\n"
        f"assert main(['init', {str(folder)!r}]) == 0\n"
        f"assert main(['try', {str(folder / 'report.ipynb')!r}, '--with-upstream']) == 0\n"
        "print(*(name for name in sys.modules if name == 'prefect'))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "", "Prefect was imported"
    assert any(line.startswith("report | cell 5 of 6: ") for line in lines)
    (report,) = scratch.glob("autoflow-try-*/report.pdf")
    assert report.read_bytes().startswith(b"%PDF")
    assert f"  {report}" in lines
    assert not (folder / "outputs").exists()


def test_parameters_come_from_the_workflow_the_command_line_and_flowapi(cli: Cli, scratch: Path) -> None:
    inputs = cli.deployed.inputs
    write_notebook(inputs / "n.ipynb", "print(level, day, ranges)", parameters="level = 1\nday = ''\nranges = []")
    text = (inputs / "workflows.yml").read_text(encoding="utf-8")
    names = "{level: level, day: reference_date, ranges: date_ranges}"
    (inputs / "workflows.yml").write_text(text.replace("{level: level}", names), encoding="utf-8")
    notebook = str(inputs / "n.ipynb")
    assert cli("try", notebook) == 0
    printed = cli.printed()
    assert "for 2016-01-12, the newest date that could run" in printed
    assert "2 2016-01-12 [['2016-01-11', '2016-01-12']]" in printed
    assert cli("try", notebook, "--date", "2016-01-10", "-p", "level=5") == 0
    assert "5 2016-01-10 [['2016-01-09', '2016-01-10']]" in cli.printed()
    assert "has no parameter 'lvl'; it has: day, level, ranges" in cli.fails("try", notebook, "-p", "lvl=5")
    assert "'other' does not use n.ipynb; used by: simple" in cli.fails("try", notebook, "--entry", "other")
    assert not (cli.deployed.outputs / "autoflow.db").exists()
    assert all(path.parent.parent == scratch for path in scratch.rglob("n.ipynb"))


def test_folders_for_files_are_in_the_scratch_folder_and_need_no_date(cli: Cli, scratch: Path) -> None:
    inputs = cli.deployed.inputs
    source = "import pathlib; [pathlib.Path(each, 'x').touch() for each in (run_dir, shared)]; print('made')"
    write_notebook(inputs / "n.ipynb", source, parameters="level = 1\nrun_dir = ''\nshared = ''")
    text = (inputs / "workflows.yml").read_text(encoding="utf-8")
    names = "{level: level, run_dir: run_dir, shared: shared_dir}"
    (inputs / "workflows.yml").write_text(text.replace("{level: level}", names), encoding="utf-8")
    assert cli.with_environ(FLOWAPI_URL="http://127.0.0.1:9")("try", str(inputs / "n.ipynb")) == 0
    assert "made" in cli.printed()
    (folder,) = scratch.glob("autoflow-try-*")
    assert (folder / "run_dir" / "x").exists()
    assert (folder / "shared_dir" / "x").exists()
    assert not (cli.deployed.outputs / "shared_dirs").exists()


def test_notebook_of_no_workflow_runs_with_its_defaults_and_its_error_is_shown(
    tmp_path: Path, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = write_notebook(tmp_path / "alone.ipynb", "print('value', x)", "1 / 0", parameters="x = 1")
    assert main(["try", str(notebook), "-p", "x=7"], steady_environ()) == 1
    printed = capsys.readouterr()
    assert "alone |   value 7" in printed.out
    assert "ZeroDivisionError" in printed.err
    (executed,) = scratch.glob("autoflow-try-*/alone.ipynb")
    assert json.loads(executed.read_text(encoding="utf-8"))["metadata"]["papermill"]
    assert not readable_path(executed).exists()


def test_newest_executed_copy_of_an_upstream_notebook_is_used(cli: Cli) -> None:
    inputs, notebooks = cli.deployed.inputs, cli.deployed.outputs / "notebooks"
    write_notebook(inputs / "first.ipynb", "1")
    write_notebook(inputs / "second.ipynb", "print('got', path)", parameters="path = ''")
    cli.deployed.write_workflows("""
        workflows:
          - name: two
            notebooks:
              first: {filename: first.ipynb}
              second: {filename: second.ipynb, parameters: {path: first}}
        available_dates_sensor: {schedule: null, workflows: [{workflow_name: two}]}
    """)
    notebook = str(inputs / "second.ipynb")
    assert "there is no executed copy of 'first'" in cli.fails("try", notebook)
    notebooks.mkdir(parents=True, exist_ok=True)
    for day in ("2016-01-01", "2016-01-02"):
        write_notebook(notebooks / f"two__first__{day}__44136fa3__20260101T000000.000Z.ipynb", "1")
    assert cli("try", notebook, "--date", "2016-01-01") == 0
    assert f"got {notebooks}/two__first__2016-01-01__" in cli.printed()


def test_mistakes_in_workflows_yml_are_named_and_a_fixed_one_is_used(cli: Cli) -> None:
    inputs = cli.deployed.inputs
    good = (inputs / "workflows.yml").read_text(encoding="utf-8")
    (inputs / "workflows.yml").write_text("workflows: 7\n", encoding="utf-8")
    assert "workflows.yml:1" in cli.fails("try", str(inputs / "n.ipynb"))
    (inputs / "workflows.yml").write_text(good, encoding="utf-8")
    assert cli("try", str(inputs / "n.ipynb")) == 0


def has_run(log: Path, times: int) -> bool:
    return log.read_text(encoding="utf-8").count("waiting for") == times


def test_watched_notebook_runs_again_each_time_it_is_saved_also_after_an_error(tmp_path: Path, scratch: Path) -> None:
    notebook = write_notebook(tmp_path / "watched.ipynb", "print('first')")
    names = ("AUTOFLOW_", "FLOWAPI_", "PREFECT_")
    environ = {name: value for name, value in steady_environ().items() if not name.startswith(names)}
    environ |= {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "autoflow", "try", str(notebook), "--watch"]
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=file, stderr=subprocess.STDOUT)
    try:
        for number, (cell, shown) in enumerate(
            [("print('first')", "first"), ("1 / 0", "ZeroDivisionError"), ("print('third')", "third")], 1
        ):
            if number > 1:
                # As editors do, which replace the file.
                write_notebook(tmp_path / "new.ipynb", cell).replace(notebook)
            wait_for(partial(has_run, log, number))
            assert shown in log.read_text(encoding="utf-8")
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(LONG)
    assert code == 0
    assert len(list(scratch.glob("autoflow-try-*"))) == 1


def test_skip_ends_well_and_a_failed_check_does_not(cli: Cli, tmp_path: Path) -> None:
    skips = write_notebook(tmp_path / "skips.ipynb", "import autoflow", "autoflow.skip('no data on Sundays')")
    assert cli("try", str(skips)) == 0
    assert "skipped: no data on Sundays; nothing was recorded" in cli.printed()
    fails = write_notebook(tmp_path / "fails.ipynb", "import autoflow", "autoflow.check('rows', False, message='none')")
    assert "rows: none" in cli.fails("try", str(fails))

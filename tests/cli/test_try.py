"""`autoflow try`: one notebook as a workflow would execute it, without a daemon, Prefect or a record."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import nbformat
import pytest

from autoflow.cli import main
from autoflow.utils import readable_path
from tests.cli.conftest import Cli
from tests.conftest import write_notebook
from tests.environment import LITTLE_PRELOADED, steady_environ
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
    assert "n.ipynb is not a notebook of other; it is used by: simple (as 'n')" in cli.fails(
        "try", notebook, "--entry", "other"
    )
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
    for time_order, (name, cell) in enumerate(
        [
            ("two__first__2016-01-01__44136fa3", "1"),
            ("two__first__2016-01-02__44136fa3", "1"),
            ("two--north__first__2016-01-03__00000000", "1"),
            ("two_more__first__2016-01-04__44136fa3", "1"),
            ("two__first__2016-01-05__month__44136fa3", "1"),
        ]
    ):
        copy = write_notebook(notebooks / f"{name}__20260101T000000.000Z.ipynb", cell)
        os.utime(copy, (time_order, time_order))
    # Failed and skipped runs leave copies, too.
    for day, done in (("2016-01-06", {"exception": True}), ("2016-01-07", {})):
        copy = notebooks / f"two__first__{day}__44136fa3__20260101T000000.000Z.ipynb"
        content = nbformat.read(write_notebook(copy, "1"), as_version=4)
        content.metadata["papermill"] = done
        content.cells[0].metadata["papermill"] = {"status": "completed" if done else "pending"}
        nbformat.write(content, copy)
    assert cli("try", notebook, "--date", "2016-01-01") == 0
    assert f"got {notebooks}/two__first__2016-01-01__" in cli.printed()
    assert cli("try", notebook) == 0
    assert f"got {notebooks}/two__first__2016-01-02__" in cli.printed()
    assert not [path for path in cli.deployed.outputs.rglob("*") if path.is_file() and path.parent != notebooks]


def test_executed_copies_are_found_without_a_token_and_settings_that_are_not_set_are_named(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs, notebooks = cli.deployed.inputs, cli.deployed.outputs / "notebooks"
    write_notebook(inputs / "first.ipynb", "1")
    write_notebook(inputs / "second.ipynb", "print('got', path, day, url)", parameters="path = day = url = 'unknown'")
    cli.deployed.write_workflows("""
        workflows:
          - name: two
            notebooks:
              first: {filename: first.ipynb}
              second: {filename: second.ipynb, parameters: {path: first, day: reference_date, url: flowapi_url}}
        available_dates_sensor: {schedule: null, workflows: [{workflow_name: two}]}
    """)
    environ = {name: value for name, value in cli.deployed.environ.items() if name != "FLOWAPI_TOKEN"}
    notebooks.mkdir(parents=True, exist_ok=True)
    write_notebook(notebooks / "two__first__2016-01-01__44136fa3__20260101T000000.000Z.ipynb", "1")
    assert main(["try", str(inputs / "second.ipynb")], environ) == 0
    printed = capsys.readouterr().out
    assert "FLOWAPI_TOKEN is not set: parameters that depend on the date keep their defaults" in printed
    assert f"got {notebooks}/two__first__2016-01-01__" in printed
    assert f" unknown {environ['FLOWAPI_URL']}" in printed


def test_notebook_of_several_entries_or_labels_says_which_is_chosen_and_how_to_choose_another(
    cli: Cli, scratch: Path
) -> None:
    inputs = cli.deployed.inputs
    notebook = str(write_notebook(inputs / "shared.ipynb", "print('value', v)", parameters="v = 0"))
    cli.deployed.write_workflows("""
        workflows:
          - name: two
            notebooks:
              a: {filename: shared.ipynb, parameters: {v: va}}
              b: {filename: shared.ipynb, parameters: {v: vb}, memory: 2G}
          - {name: other, notebooks: {x: {filename: shared.ipynb, parameters: {v: v}}}}
        available_dates_sensor:
          schedule: null
          workflows:
            - {workflow_name: two, every: month, parameters: {va: 1, vb: 2}}
            - {workflow_name: other, for_each: {v: [10, 20]}}
    """)
    assert cli("try", notebook) == 0
    printed = cli.printed()
    chosen = "notebook 'a' of two; --label chooses another: b; --entry chooses another: other:10, other:20"
    assert chosen in printed
    assert "value 1" in printed
    assert cli("try", notebook, "--label", "b", "-p", "v=7") == 0
    assert "b |   value 7" in cli.printed()
    assert cli("try", notebook, "--entry", "other:20") == 0
    assert "x |   value 20" in cli.printed()
    known = "it is used by: two (as 'a'), two (as 'b'), other:10 (as 'x'), other:20 (as 'x')"
    before = set(scratch.iterdir())
    failed = cli.fails("try", notebook, "--label", "c", "--entry", "two")
    assert f"shared.ipynb is not notebook 'c' of two; {known}" in failed
    assert "no month ends on 2016-01-15" in cli.fails("try", notebook, "--date", "2016-01-15")
    assert set(scratch.iterdir()) == before, "nothing was executed"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.ipynb", "hello", "text.ipynb is not a valid notebook: it is not valid JSON"),
        ("list.ipynb", "[]", "list.ipynb is not a valid notebook"),
        ("script.py", "print(1)", "script.py is not a valid notebook"),
    ],
)
def test_file_that_is_not_a_notebook_is_refused(
    cli: Cli, tmp_path: Path, scratch: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert message in cli.fails("try", str(tmp_path / name))
    assert list(scratch.iterdir()) == []


def test_kernel_that_is_not_installed_is_named(cli: Cli, tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "n.ipynb", "1")
    content = nbformat.read(notebook, as_version=4)
    content.metadata["kernelspec"] = {"name": "julia-1.9", "display_name": "Julia", "language": "julia"}
    nbformat.write(content, notebook)
    assert "julia-1.9" in cli.fails("try", str(notebook))


def test_mistakes_in_workflows_yml_are_named_and_a_fixed_one_is_used(cli: Cli) -> None:
    inputs = cli.deployed.inputs
    good = (inputs / "workflows.yml").read_text(encoding="utf-8")
    (inputs / "workflows.yml").write_text("workflows: 7\n", encoding="utf-8")
    assert "workflows.yml:1" in cli.fails("try", str(inputs / "n.ipynb"))
    (inputs / "workflows.yml").write_text(good, encoding="utf-8")
    assert cli("try", str(inputs / "n.ipynb")) == 0


def has_run(log: Path, times: int) -> bool:
    return log.read_text(encoding="utf-8").count("waiting for") == times


@contextmanager
def watching(notebook: Path, log: Path, scratch: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `autoflow try --watch` without settings but one, to save time, for the duration of the block."""
    names = ("AUTOFLOW_", "FLOWAPI_", "PREFECT_")
    environ = {name: value for name, value in steady_environ().items() if not name.startswith(names)}
    environ |= {"TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1", **LITTLE_PRELOADED}
    command = [sys.executable, "-m", "autoflow", "try", str(notebook), "--watch", *options]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=file, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(LONG)


def test_watched_notebook_runs_again_each_time_it_is_saved_also_after_an_error(tmp_path: Path, scratch: Path) -> None:
    notebook = write_notebook(tmp_path / "watched.ipynb", "print('first')")
    log = tmp_path / "log"
    with watching(notebook, log, scratch) as process:
        for number, (cell, shown) in enumerate(
            [("print('first')", "first"), ("1 / 0", "ZeroDivisionError"), ("print('third')", "third")], 1
        ):
            if number > 1:
                # As editors do, which replace the file.
                write_notebook(tmp_path / "new.ipynb", cell).replace(notebook)
            wait_for(partial(has_run, log, number))
            assert shown in log.read_text(encoding="utf-8")
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == 0
    assert len(list(scratch.glob("autoflow-try-*"))) == 1


def test_watch_notices_saves_while_it_runs_and_of_imported_modules_and_upstream_notebooks(
    tmp_path: Path, scratch: Path
) -> None:
    (tmp_path / "helper.py").write_text("value = 'one'")
    write_notebook(tmp_path / "first.ipynb", "print('upstream one')")
    (tmp_path / "workflows.yml").write_text(
        textwrap.dedent("""
            workflows:
              - name: two
                notebooks:
                  first: {filename: first.ipynb}
                  second: {filename: second.ipynb, parameters: {path: first}}
            available_dates_sensor: {schedule: null, workflows: [{workflow_name: two}]}
        """)
    )
    waits = "import time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)"
    cells = ("import pathlib, helper\nprint('helper', helper.value, flush=True)", waits)
    notebook = write_notebook(tmp_path / "second.ipynb", *cells, parameters="path = ''")
    log = tmp_path / "log"
    with watching(notebook, log, scratch, "--with-upstream") as process:
        wait_for(lambda: "helper one" in log.read_text(encoding="utf-8"))
        write_notebook(notebook, *cells, "print('saved meanwhile')", parameters="path = ''")
        (tmp_path / "go").touch()
        wait_for(partial(has_run, log, 2))
        assert "saved meanwhile" in log.read_text(encoding="utf-8")
        (tmp_path / "helper.py").write_text("value = 'other'")
        wait_for(partial(has_run, log, 3))
        assert "helper other" in log.read_text(encoding="utf-8")
        write_notebook(tmp_path / "first.ipynb", "print('upstream two')")
        wait_for(partial(has_run, log, 4))
        assert "upstream two" in log.read_text(encoding="utf-8")
        (tmp_path / "go").unlink()
        write_notebook(notebook, *cells, "print('ended')", parameters="path = ''")
        wait_for(lambda: log.read_text(encoding="utf-8").count("helper other") == 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(LONG) == 130
    assert "Traceback" not in log.read_text(encoding="utf-8")


def test_skip_ends_well_and_a_failed_check_does_not(cli: Cli, tmp_path: Path) -> None:
    skips = write_notebook(tmp_path / "skips.ipynb", "import autoflow", "autoflow.skip('no data on Sundays')")
    assert cli("try", str(skips)) == 0
    assert "skipped: no data on Sundays; nothing was recorded" in cli.printed()
    fails = write_notebook(tmp_path / "fails.ipynb", "import autoflow", "autoflow.check('rows', False, message='none')")
    assert "rows: none" in cli.fails("try", str(fails))


def test_folders_of_runs_are_in_the_scratch_folder(cli: Cli, scratch: Path) -> None:
    cell = "import pathlib\nfor each in (run_dir, shared_dir): (pathlib.Path(each) / 'kept').touch()"
    notebook = write_notebook(cli.deployed.inputs / "kept.ipynb", cell, parameters="run_dir = shared_dir = ''")
    cli.deployed.write_workflows("""
        workflows:
          - name: keeps
            notebooks: {n: {filename: kept.ipynb, parameters: {run_dir: run_dir, shared_dir: shared_dir}}}
        available_dates_sensor: {schedule: null, workflows: [{workflow_name: keeps}]}
    """)
    assert cli("try", str(notebook)) == 0
    (folder,) = scratch.iterdir()
    assert {path.parent.parent for path in folder.rglob("kept")} == {folder}
    assert len(list(folder.rglob("kept"))) == 2
    assert not [path for path in cli.deployed.outputs.rglob("*") if path.is_file()]

"""Notebooks in real kernels: their parameters, their outputs, and how they fail."""

import contextlib
import datetime as dt
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from autoflow.errors import RunStopped
from autoflow.notebooks.executed import ExecutedNotebook
from autoflow.notebooks.execution import Means, Task, execute
from autoflow.system.stop_signal import StopSignal
from tests.conftest import PYTHON, write_notebook
from tests.notebooks.running import Ran, Runner
from tests.waiting import LONG, wait_for


def test_kernel_is_forked_where_there_is_a_server(run: Runner) -> None:
    ran = run("import os; print(open(f'/proc/{os.getppid()}/cmdline').read())")
    assert ("warm_process" in ran.printed()) == (run.fork_server is not None)


def test_notebook_runs_in_its_folder_with_its_environment_and_reports_each_cell(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "in" / "n.ipynb", "import os, helper", "print(os.environ['COLOUR'], helper.x)")
    (tmp_path / "in" / "helper.py").write_text("x = 7")
    cells: list[tuple[int, int]] = []
    task = Task(label="flows", parameters={}, environment={**os.environ, "COLOUR": "blue"})
    means = Means(on_cell=lambda number, count: cells.append((number, count)))
    execute(notebook, tmp_path / "out.ipynb", task, means)
    ran = Ran(tmp_path / "out.ipynb", None)
    assert ran.printed(1) == "blue 7\n"
    assert cells == [(1, 2), (2, 2)]
    assert ran.states == ["completed", "completed"]
    assert ran.notebook.metadata.papermill.input_path == "n.ipynb"
    assert ran.notebook.metadata.language_info.name == "python"


ODD_VALUES = [
    "quotes \" and ' and \"\"\" and '''",
    "newline\n and tab\t and return\r",
    "back\\slash \\n \\u0041 \\",
    "{braces} {0} {{x}} %s $x `y`",
    "نص عربي, 中文, 😀, \u2028",
    {"a": [1, -2.5, True, None, "x"], "é": {"nested": []}},
    10**25,
    "",
]


def test_parameters_arrive_unchanged(run: Runner) -> None:
    values = {f"value_{number}": value for number, value in enumerate(ODD_VALUES)}
    parameters = "".join(f"{name} = None\n" for name in values)
    ran = run(f"import json; print(json.dumps([{', '.join(values)}]))", parameters=parameters, values=values)
    assert ran.error is None
    assert json.loads(ran.printed(2)) == ODD_VALUES


def test_parameters_are_made_strict_json(run: Runner) -> None:
    values = {"day": dt.date(2016, 1, 2), "pair": (1, 2), "map": {1: "one"}}
    ran = run("print([day, pair, map])", parameters="day = pair = map = None", values=values)
    assert ran.printed(2) == "['2016-01-02', [1, 2], {'1': 'one'}]\n"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x"])
def test_parameter_that_json_does_not_know_is_refused(run: Runner, value: object) -> None:
    cell, error_class, message = run("1", parameters="x = 1", values={"x": value}).failure()
    assert (cell, error_class) == (None, "ParameterError")
    assert message.startswith("the value of parameter 'x' cannot be passed to a notebook: ")


@pytest.mark.parametrize(
    ("code", "death"),
    [
        ("import os; os._exit(3)", "the kernel died: it ended with exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "the kernel died: killed by SIGKILL, possibly out of memory"),
        ("import ctypes; ctypes.string_at(0)", "the kernel died: killed by SIGSEGV"),
    ],
)
def test_dead_kernel_fails_the_cell_that_was_running(run: Runner, code: str, death: str) -> None:
    ran = run("1", code, "3")
    assert ran.failure() == (2, "DeadKernelError", death)
    assert ran.states == ["completed", "failed", "pending"]


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "exit()", "raise SystemExit"])
def test_notebook_that_ends_itself_early_has_not_succeeded(run: Runner, code: str) -> None:
    ran = run("1", code, "3")
    assert ran.failure() == (3, "NotRun", "the notebook exited before this cell")
    assert ran.states == ["completed", "completed", "pending"]


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "quit()"])
def test_notebook_may_end_itself_in_its_last_cell(run: Runner, code: str) -> None:
    ran = run("1", code, "")
    assert ran.error is None
    assert ran.states == ["completed"] * 3


def test_error_names_the_cell_as_its_author_counts_it_and_quotes_its_first_line(run: Runner, tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "n.ipynb", "1", "# total\ntotal = 1 / 0", parameters="value = 1")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell("# Title"))
    nbformat.write(notebook, path)
    seen: list[tuple[int, int]] = []
    ran = run.run(path, values={"value": 2}, on_cell=lambda *numbers: seen.append(numbers))
    assert str(ran.error) == "notebook 'flows', cell 4 (In [4]: # total): ZeroDivisionError: division by zero"
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    executed = ExecutedNotebook.read(ran.executed)
    assert executed
    assert executed.source(4) == "# total\ntotal = 1 / 0"

    # The author goes on with the executed copy, whose added cell is one of the notebook's own now.
    path.write_text(ran.executed.read_text())
    again = run.run(path, values={"value": 3})
    assert str(again.error).startswith("notebook 'flows', cell 5 (In [4]: # total): ")


def test_quoted_line_is_short_and_has_no_secret(run: Runner) -> None:
    ran = run(f"x = 'a.token.of.no.use' + 3 # {'long' * 50}", secrets=["a.token.of.no.use"])
    assert str(ran.error).startswith("notebook 'flows', cell 1 (In [1]: x = '[secret]' + 3 # long")
    assert len(str(ran.error)) < 250


def test_exit_with_a_status_is_a_failure(run: Runner) -> None:
    assert run("import sys; sys.exit(3)").failure() == (1, "SystemExit", "3")


def test_exception_is_reported_without_colours_and_shortened(run: Runner) -> None:
    cell, error_class, message = run("1", r"raise KeyError('\x1b[31mred\x1b[0m' + 'x' * 10_000)").failure()
    assert (cell, error_class) == (2, "KeyError")
    assert len(message) == 2003
    assert "\x1b" not in message
    assert message.endswith("x...")


def test_input_fails_the_cell(run: Runner) -> None:
    assert run("input()").failure()[:2] == (1, "StdinNotImplementedError")


def test_timeout_ends_an_endless_loop(run: Runner) -> None:
    # The kernel may take longer than that to start where the machine is busy.
    for timeout in (2, 8, 32):
        ran = run("print('before', flush=True)", "while True: pass", timeout=timeout)
        if ran.states[0] == "completed":
            break
    assert ran.failure() == (2, "Timeout", f"the notebook took longer than {timeout} s")
    assert ran.states == ["completed", "failed"]


@pytest.fixture
def notebook_that_never_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kernelspec = {"name": "slow", "display_name": "slow", "language": "python"}
    spec = tmp_path / "kernels" / "slow" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({**kernelspec, "argv": ["sleep", "600"]}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    return write_notebook(tmp_path / "in" / "notebook.ipynb", "1", kernelspec=kernelspec)


def test_timeout_covers_the_start_of_the_kernel(run: Runner, notebook_that_never_starts: Path) -> None:
    ran = run.run(notebook_that_never_starts, timeout=0.3)
    assert ran.failure() == (None, "Timeout", "the notebook took longer than 0.3 s")
    assert ran.states == ["pending"]


def test_child_process_ends_with_its_kernel_while_other_runs_continue(run: Runner, tmp_path: Path) -> None:
    code = """
        import subprocess
        for command in (["sleep", "601"], ["setsid", "-f", "env", "-i", "sleep", "601"]):
            subprocess.Popen(command)
    """
    other = Runner(tmp_path / "other", run.fork_server)
    with ThreadPoolExecutor(1) as pool:
        going_on = pool.submit(other, "import time; time.sleep(2); print('done')")
        assert run(code).error is None
        assert going_on.result(LONG).printed() == "done\n"


def test_tagged_cells_are_left_out_or_may_fail(tmp_path: Path, run: Runner) -> None:
    path = write_notebook(tmp_path / "n.ipynb", "1/0", "raise RuntimeError", "print('end')")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].metadata["tags"] = ["skip-execution"]
    notebook.cells[0].outputs = [nbformat.v4.new_output("stream", text="of an earlier run")]
    notebook.cells[1].metadata["tags"] = ["raises-exception"]
    nbformat.write(notebook, path)
    ran = run.run(path)
    assert ran.error is None
    assert ran.printed(2) == "end\n"
    assert ran.states == ["pending", "completed", "completed"]
    assert ran.notebook.cells[0].outputs == []


@pytest.mark.parametrize("cells", [[], [nbformat.v4.new_markdown_cell("# Only words")]])
def test_notebook_without_code_succeeds(tmp_path: Path, run: Runner, cells: list[nbformat.NotebookNode]) -> None:
    path = tmp_path / "n.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    ran = run.run(path)
    assert ran.error is None
    assert [cell.source for cell in ran.notebook.cells] == [cell.source for cell in cells]


@pytest.mark.parametrize(
    ("command", "start_timeout", "message"),
    [
        (["sh", "-c", "echo 'no ipykernel here' >&2; exit 4"], 60, "it ended with exit status 4 (no ipykernel here)"),
        (["sh", "-c", "sleep 600"], 0.5, "within 0.5 s"),
    ],
)
def test_kernel_that_does_not_start_fails_the_run(
    run: Runner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    start_timeout: float,
    message: str,
) -> None:
    spec = tmp_path / "kernels" / "broken" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": command, "display_name": "", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    path = write_notebook(tmp_path / "n.ipynb", "1", kernelspec={**PYTHON, "name": "broken"})
    ran = run.run(path, start_timeout=start_timeout)
    cell, error_class, reported = ran.failure()
    assert (cell, error_class) == (None, "KernelStartError")
    assert reported.startswith("the kernel did not start")
    assert message in reported
    assert ran.states == ["pending"]


@pytest.mark.parametrize(
    ("cells", "stop_in_cell", "states"),
    [
        (["1"], 0, ["pending"]),
        (["1", "import time; time.sleep(600)", "3"], 2, ["completed", "failed", "pending"]),
    ],
)
def test_run_stops_when_asked_to(run: Runner, cells: list[str], stop_in_cell: int, states: list[str]) -> None:
    stop = StopSignal(StopSignal())
    if stop_in_cell == 0:
        stop.set("a user cancelled it")

    def on_cell(number: int, _: int) -> None:
        if number == stop_in_cell:
            threading.Timer(0.2, stop.set, ["a user cancelled it"]).start()

    started = time.monotonic()
    ran = run(*cells, stop=stop, on_cell=on_cell)
    assert isinstance(ran.error, RunStopped)
    assert str(ran.error) == "a user cancelled it"
    assert ran.states == states if stop_in_cell else len(ran.notebook.cells) == 1
    assert time.monotonic() - started < LONG


def test_run_stops_while_its_kernel_starts(run: Runner, notebook_that_never_starts: Path) -> None:
    parent = StopSignal()
    timer = threading.Timer(0.5, parent.set, ["AutoFlow is stopping"])
    timer.start()
    ran = run.run(notebook_that_never_starts, stop=StopSignal(parent))
    timer.join()
    assert isinstance(ran.error, RunStopped)
    assert ran.states == ["pending"]


def test_run_whose_cells_are_done_has_succeeded_even_if_it_is_asked_to_stop(run: Runner, tmp_path: Path) -> None:
    stop, ending = StopSignal(), tmp_path / "ending"
    code = f"""
        import atexit, pathlib, time
        atexit.register(lambda: (pathlib.Path({str(ending)!r}).touch(), time.sleep(0.5)))
    """

    def stop_at_the_end() -> None:
        wait_for(ending.exists)
        stop.set("too late")

    thread = threading.Thread(target=stop_at_the_end)
    thread.start()
    ran = run(code, stop=stop)
    thread.join()
    assert ran.error is None
    assert ran.states == ["completed"]


def test_executed_notebook_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "n.ipynb", "1")
    with pytest.raises(FileNotFoundError):
        execute(notebook, tmp_path / "no" / "x.ipynb", Task(label="flows", parameters={}, environment=os.environ))


def test_many_runs_in_threads_leave_no_thread_and_no_file_open(tmp_path: Path, run: Runner) -> None:
    def run_one(number: int) -> str:
        return Runner(tmp_path / str(number), run.fork_server)(f"print({number})").printed()

    def look() -> tuple[int, int, int]:
        # Libraries such as pyarrow have threads that come and go; those of zmq have its name.
        zmq_threads = []
        for comm in Path("/proc/self/task").glob("*/comm"):
            with contextlib.suppress(OSError):  # The thread has ended.
                zmq_threads += [name for name in [comm.read_text()] if name.startswith("ZMQ")]
        return psutil.Process().num_fds(), threading.active_count(), len(zmq_threads)

    run_one(0)
    before = look()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run_one, range(8))) == [f"{number}\n" for number in range(8)]
    # Something of the first run, too, may go only now.
    wait_for(lambda: all(count <= limit for count, limit in zip(look(), before, strict=True)))


def test_failed_runs_leave_no_file_open(run: Runner) -> None:
    failing: list[tuple[str, dict[str, Any]]] = [
        ("1/0", {}),
        ("import os; os._exit(1)", {}),
        ("while True: pass", {"timeout": 1}),
        ("1", {"timeout": 0.001}),
        ("1", {"start_timeout": 0.001}),
    ]
    run("1")
    before = psutil.Process().num_fds()
    for code, arguments in failing:
        assert run(code, **arguments).error
    wait_for(lambda: psutil.Process().num_fds() <= before)

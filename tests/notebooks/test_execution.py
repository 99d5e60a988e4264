"""Notebooks in real kernels: what they get, what they leave, and how they fail."""

import contextlib
import datetime as dt
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from autoflow.errors import NotebookError, RunStopped
from autoflow.kernels.fork_server import ForkServer
from autoflow.notebooks.execution import execute
from autoflow.notebooks.outputs import OUTPUT_LIMIT
from autoflow.notebooks.reading import declared_parameters, read_notebook
from autoflow.stop_signal import StopSignal
from tests.conftest import PYTHON, Deployed, write_notebook
from tests.environment import steady_environ
from tests.waiting import LONG, wait_for

SECRET = 'tok.en-"with"\\<odd> characters'


@pytest.fixture(scope="module", params=["ordinary", "forked"], autouse=True)
def fork_server(request: pytest.FixtureRequest) -> Iterator[ForkServer | None]:
    if request.param == "ordinary":
        yield None
        return
    with pytest.MonkeyPatch.context() as monkeypatch, ForkServer(idle_seconds=600) as server:
        monkeypatch.setattr("autoflow.kernels.fork_server.FORK_TIMEOUT", LONG)
        server.warm_up(steady_environ())
        assert server.wait_until_warm(LONG)
        yield server


def state_of_process() -> tuple[object, ...]:
    return Path.cwd(), steady_environ(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    assert tmp_path.exists()  # made before the folder for temporary files changes
    processes = psutil.Process().children(recursive=True)
    before = state_of_process()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield
        assert list(Path(folder).iterdir()) == []
    wait_for(lambda: psutil.Process().children(recursive=True) == processes)
    monkeypatch.undo()
    assert state_of_process() == before


@dataclass
class Ran:
    """How a notebook went."""

    executed: Path
    error: NotebookError | RunStopped | None

    @property
    def notebook(self) -> nbformat.NotebookNode:
        notebook: nbformat.NotebookNode = nbformat.read(self.executed, as_version=4)
        nbformat.validate(notebook)
        return notebook

    @property
    def states(self) -> list[str]:
        return [cell.metadata.papermill.status for cell in self.notebook.cells]

    def printed(self, index: int = 0) -> str:
        return "".join(output.text for output in self.notebook.cells[index].outputs if "text" in output)

    def failure(self) -> tuple[int | None, str, str]:
        assert isinstance(self.error, NotebookError)
        return self.error.cell, self.error.error_class, self.error.error_message


@dataclass
class Runner:
    """Runs notebooks in threads, as the daemon does."""

    folder: Path
    fork_server: ForkServer | None

    def __call__(self, *cells: str, parameters: str | None = None, **arguments: Any) -> Ran:
        return self.run(
            write_notebook(self.folder / "in" / "notebook.ipynb", *cells, parameters=parameters), **arguments
        )

    def run(self, path: Path, *, values: dict[str, Any] | None = None, **arguments: Any) -> Ran:
        executed = self.folder / "executed.ipynb"

        def run() -> NotebookError | RunStopped | None:
            try:
                execute(
                    path,
                    executed,
                    label="flows",
                    parameters=values or {},
                    environment=steady_environ(),
                    fork_server=self.fork_server,
                    **arguments,
                )
            except (NotebookError, RunStopped) as error:
                return error
            return None

        with ThreadPoolExecutor(1) as pool:
            return Ran(executed, pool.submit(run).result(LONG))


@pytest.fixture
def run(tmp_path: Path, fork_server: ForkServer | None) -> Runner:
    return Runner(tmp_path, fork_server)


def test_kernel_is_forked_where_there_is_a_server(run: Runner) -> None:
    ran = run("import os; print(open(f'/proc/{os.getppid()}/cmdline').read())")
    assert ("warm_process" in ran.printed()) == (run.fork_server is not None)


def test_notebook_runs_in_its_folder_with_its_environment_and_tells_of_each_cell(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "in" / "n.ipynb", "import os, helper", "print(os.environ['COLOUR'], helper.x)")
    (tmp_path / "in" / "helper.py").write_text("x = 7")
    cells: list[tuple[int, int]] = []
    execute(
        notebook,
        tmp_path / "out.ipynb",
        label="flows",
        parameters={},
        environment={**os.environ, "COLOUR": "blue"},
        on_cell=lambda number, count: cells.append((number, count)),
    )
    ran = Ran(tmp_path / "out.ipynb", None)
    assert ran.printed(1) == "blue 7\n"
    assert cells == [(1, 2), (2, 2)]
    assert ran.states == ["completed", "completed"]
    assert ran.notebook.metadata.papermill.input_path == "n.ipynb"
    assert ran.notebook.metadata.language_info.name == "python"


@pytest.mark.parametrize(
    "value",
    [
        "quotes \" and ' and \"\"\" and '''",
        "newline\n and tab\t and return\r",
        "back\\slash \\n \\u0041 \\",
        "{braces} {0} {{x}} %s $x `y`",
        "نص عربي, 中文, 😀, \u2028",
        {"a": [1, -2.5, True, None, "x"], "é": {"nested": []}},
        10**25,
        "",
    ],
)
def test_parameters_arrive_unchanged(run: Runner, value: object) -> None:
    ran = run("import json; print(json.dumps(value))", parameters="value = None", values={"value": value})
    assert ran.error is None
    assert json.loads(ran.printed(2)) == value


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
    assert ran.failure() == (3, "NotRun", "the notebook ended itself before this cell")
    assert ran.states == ["completed", "completed", "pending"]


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "quit()"])
def test_notebook_may_end_itself_in_its_last_cell(run: Runner, code: str) -> None:
    ran = run("1", code, "")
    assert ran.error is None
    assert ran.states == ["completed"] * 3


def test_exit_with_a_status_is_a_failure(run: Runner) -> None:
    assert run("import sys; sys.exit(3)").failure() == (1, "SystemExit", "3")


def test_exception_is_told_without_colours_and_not_in_full_length(run: Runner) -> None:
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


def test_child_process_ends_with_its_kernel_while_other_runs_go_on(run: Runner, tmp_path: Path) -> None:
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


def test_endless_output_takes_bounded_memory(run: Runner) -> None:
    before = psutil.Process().memory_info().rss
    peak = [before]
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], psutil.Process().memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    ran = run("import time\nwhile True: print('y' * 100_000); time.sleep(0.0002)", timeout=5)
    done.set()
    looking.join()
    assert ran.failure()[1] == "Timeout"
    assert peak[0] - before < 400e6
    assert ran.executed.stat().st_size < 2 * OUTPUT_LIMIT
    last = ran.notebook.cells[0].outputs[-1].text
    assert last.endswith("MB of this cell's output: a notebook keeps 20 MB in all]\n")


@pytest.mark.parametrize(
    "code",
    [
        "print('x' * 200_000_000)",
        "for _ in range(20): print('x' * 10_000_000, flush=True)",
        "from IPython.display import HTML\nHTML('x' * 200_000_000)",
        "print('y\\n' * 15_000_000)",
    ],
)
def test_huge_output_is_left_out_and_the_run_succeeds(run: Runner, code: str) -> None:
    ran = run(code, "'a' * 9_000_000")
    assert ran.error is None
    assert "[AutoFlow left out " in ran.printed()
    assert len(ran.notebook.cells[1].outputs[0].data["text/plain"]) == 9_000_002
    assert ran.executed.stat().st_size < 2 * OUTPUT_LIMIT


def test_huge_exception_fails_the_run(run: Runner) -> None:
    ran = run("raise ValueError('x' * 50_000_000)", "2")
    assert ran.failure()[:2] == (1, "ExceptionTooLong")
    assert ran.executed.stat().st_size < 1e6


def test_glued_data_that_is_too_much_fails_the_run_rather_than_vanish(run: Runner) -> None:
    ran = run("import scrapbook\nscrapbook.glue('x', 'x' * 21_000_000)", "2")
    assert ran.failure()[:2] == (1, "OutputTooLarge")


def test_every_one_of_many_small_outputs_arrives(run: Runner) -> None:
    code = "for i in range(400): display(i); print(i, flush=True)"
    outputs = run(code).notebook.cells[0].outputs
    assert [output["data"]["text/plain"] for output in outputs if "data" in output] == [str(i) for i in range(400)]


def test_progress_that_is_cleared_uses_up_nothing(run: Runner) -> None:
    code = """
        from IPython.display import clear_output
        for i in range(12):
            clear_output(wait=True)
            print(str(i % 10) * 4_000_000)
        handle = display("0", display_id=True)
        for i in range(12):
            handle.update("x" * 4_000_000)
        handle.update("last")
    """
    outputs = run(code).notebook.cells[0].outputs
    assert outputs[0].text == "1" * 4_000_000 + "\n"
    assert outputs[1].data["text/plain"] == "'last'"
    assert len(outputs) == 2


def test_output_that_is_nested_too_deeply_is_left_out(run: Runner) -> None:
    ran = run(
        """
        from IPython.display import JSON, display
        deep = []
        for _ in range(450):
            deep = [deep]
        display(JSON({"deep": deep}))
        """,
        "import scrapbook as sb; sb.glue('deep', deep, encoder='json')",
    )
    assert "left out an output that is nested" in ran.notebook.cells[0].outputs[0].data["text/plain"]
    assert ran.failure()[:2] == (2, "OutputTooLarge")


def test_metadata_of_papermills_that_is_none_of_its_does_no_harm(tmp_path: Path, run: Runner) -> None:
    path = write_notebook(tmp_path / "n.ipynb", "print(1)")
    content = json.loads(path.read_text())
    content["metadata"]["papermill"] = None
    path.write_text(json.dumps(content))
    ran = run.run(path)
    assert ran.error is None
    assert ran.notebook.metadata["papermill"]["output_path"]


def test_half_a_character_does_not_spoil_the_notebook(tmp_path: Path, run: Runner) -> None:
    cell = {"cell_type": "markdown", "metadata": {}, "source": "\ud83d half", "id": "x"}
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}))
    ran = run.run(path)
    assert ran.error is None
    assert ran.notebook.cells[0].source == "? half"


OLD = {
    "nbformat": 3,
    "nbformat_minor": 0,
    "metadata": {"name": "old"},
    "worksheets": [
        {
            "metadata": {},
            "cells": [
                {"cell_type": "heading", "level": 1, "metadata": {}, "source": ["Old"]},
                {
                    "cell_type": "code",
                    "collapsed": False,
                    "input": ["print(6 * 7)"],
                    "language": "python",
                    "metadata": {"tags": ["parameters"]},
                    "outputs": [],
                },
            ],
        }
    ],
}
"""A notebook as IPython wrote them until 2015."""


def test_notebook_in_an_old_format_is_run_in_the_new_one(tmp_path: Path, run: Runner) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps(OLD))
    assert declared_parameters(path) == frozenset()
    ran = run.run(path)
    assert ran.error is None
    assert ran.notebook.nbformat == 4
    assert ran.printed(1) == "42\n"


@pytest.mark.parametrize("worksheets", [None, [{"cells": None}]])
def test_notebook_in_an_old_format_without_its_cells_is_none(tmp_path: Path, worksheets: object) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({**OLD, "worksheets": worksheets, "cells": [{"cell_type": "code"}]}))
    with pytest.raises(ValueError, match="it is not a Jupyter notebook"):
        read_notebook(path)


def test_byte_order_mark_before_a_notebook_does_no_harm(tmp_path: Path, run: Runner) -> None:
    path = write_notebook(tmp_path / "n.ipynb", "print(1)")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert run.run(path).error is None


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
    "kernelspec",
    [None, {**PYTHON, "name": "conda-env-gone-py"}, {"name": "gone", "display_name": "", "language": "python"}],
)
def test_python_notebook_falls_back_to_the_python_that_is_there(
    tmp_path: Path, run: Runner, kernelspec: dict[str, str] | None
) -> None:
    ran = run.run(write_notebook(tmp_path / "n.ipynb", "print(1)", kernelspec=kernelspec), values={"x": 1})
    assert ran.error is None
    assert ran.printed(1) == "1\n"


def test_kernel_of_another_language_that_is_missing_is_told(tmp_path: Path, run: Runner) -> None:
    kernelspec = {"name": "ir", "display_name": "R", "language": "R"}
    ran = run.run(write_notebook(tmp_path / "n.ipynb", "1", kernelspec=kernelspec))
    assert ran.failure() == (None, "NoSuchKernel", "there is no kernel called 'ir' on this machine")
    assert len(ran.notebook.cells) == 1


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
    cell, error_class, told = ran.failure()
    assert (cell, error_class) == (None, "KernelStartError")
    assert told.startswith("the kernel did not start")
    assert message in told
    assert ran.states == ["pending"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{not json", "it is not JSON"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": ["\xff"]}', "it is not UTF-8 text"),
        (b'["x"]', "it is not a Jupyter notebook"),
        (b'{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "it is not a Jupyter notebook"),
        (b"[" * 100_000, "it is not JSON"),
        (None, "No such file or directory"),
    ],
)
def test_file_that_is_no_notebook_fails_the_run(
    tmp_path: Path, run: Runner, content: bytes | None, message: str
) -> None:
    path = tmp_path / "n.ipynb"
    if content is not None:
        path.write_bytes(content)
    ran = run.run(path)
    assert ran.failure()[0] is None
    assert f"n.ipynb cannot be run: {message}" in ran.failure()[2]
    assert not ran.executed.exists()


def test_cell_ids_that_are_missing_or_wrong_are_mended_without_a_word(tmp_path: Path) -> None:
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["a\n", "b"]}
    cells = [cell, {**cell, "id": "same"}, {**cell, "id": "same"}, {**cell, "id": "not allowed"}]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    notebook = read_notebook(path)
    assert len({cell.id for cell in notebook.cells}) == 4
    assert notebook.cells[0].source == "a\nb"


def test_declared_parameters_are_those_of_the_tagged_cell(tmp_path: Path) -> None:
    assert declared_parameters(write_notebook(tmp_path / "n.ipynb", "y = 1", parameters="x = 1")) == frozenset({"x"})
    assert declared_parameters(write_notebook(tmp_path / "n.ipynb", "y = 1")) == frozenset()


def test_secrets_are_taken_out_of_everything(tmp_path: Path, run: Runner) -> None:
    path = write_notebook(tmp_path / "n.ipynb", "s = value", parameters="value = 1")
    notebook = nbformat.read(path, as_version=4)
    sources = [
        f"# {SECRET}\nprint(s[:9], end='', flush=True); print(s[9:])",
        "from IPython.display import HTML, JSON; import html; HTML(html.escape(s))",
        "display(JSON({'lines': [s[:9], s[9:]], s: s}))",
        "raise ValueError('\\x1b[31m' + s[:9] + '\\x1b[1m' + s[9:])",
    ]
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in sources]
    notebook.cells[0].metadata["note"] = [SECRET]
    notebook.metadata["note"] = {SECRET: SECRET}
    nbformat.write(notebook, path)
    ran = run.run(path, values={"value": SECRET}, secrets=[SECRET, "short"])
    assert ran.failure() == (7, "ValueError", "[secret]")
    assert ran.printed(3) == "[secret]\n"
    text = ran.executed.read_text(encoding="utf-8")
    for traces in (SECRET, SECRET[9:], json.dumps(SECRET[9:])[1:-1], "&lt;odd&gt; characters"):
        assert traces not in text.replace("s[9:]", "")


def test_token_over_several_lines_or_in_its_parts_is_taken_out(run: Runner, deployed: Deployed) -> None:
    parts = [character * 60 for character in "hps"]
    settings = deployed.settings(FLOWAPI_TOKEN=".".join(parts))
    ran = run(
        f"parts = {parts}",
        "import textwrap; print('it is', textwrap.fill('.'.join(parts), 50), 'so')",
        "print(parts[2])",
        secrets=settings.secrets,
    )
    assert ran.printed(1) == "it is [secret] so\n"
    assert ran.printed(2) == "[secret]\n"


def test_secret_that_is_a_word_of_the_format_leaves_a_notebook(run: Runner) -> None:
    ran = run("print('stdout')", secrets=["stdout", "source", "outputs", "cell_type", "stream"])
    assert ran.printed() == "[secret]\n"


@pytest.mark.parametrize(
    ("cells", "stop_in_cell", "states"),
    [
        (["1"], 0, ["pending"]),
        (["1", "import time; time.sleep(600)", "3"], 2, ["completed", "failed", "pending"]),
    ],
)
def test_run_stops_when_it_is_asked_to(run: Runner, cells: list[str], stop_in_cell: int, states: list[str]) -> None:
    stop = StopSignal(StopSignal())
    if stop_in_cell == 0:
        stop.set("somebody cancelled it")

    def on_cell(number: int, _: int) -> None:
        if number == stop_in_cell:
            threading.Timer(0.2, stop.set, ["somebody cancelled it"]).start()

    started = time.monotonic()
    ran = run(*cells, stop=stop, on_cell=on_cell)
    assert isinstance(ran.error, RunStopped)
    assert str(ran.error) == "somebody cancelled it"
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


def test_run_whose_cells_are_done_has_succeeded_even_if_it_is_asked_to_stop(run: Runner) -> None:
    stop = StopSignal()
    code = "import atexit, time; atexit.register(time.sleep, 1)"
    timer: list[threading.Timer] = []

    def on_cell(_: int, __: int) -> None:
        timer.append(threading.Timer(0.6, stop.set, ["too late"]))
        timer[0].start()

    ran = run(code, stop=stop, on_cell=on_cell)
    timer[0].join()
    assert ran.error is None
    assert ran.states == ["completed"]


def test_executed_notebook_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "n.ipynb", "1")
    with pytest.raises(FileNotFoundError):
        execute(notebook, tmp_path / "no" / "x.ipynb", label="flows", parameters={}, environment=os.environ)


def test_many_runs_in_threads_leave_no_thread_and_no_file_open(tmp_path: Path, run: Runner) -> None:
    def run_one(number: int) -> str:
        return Runner(tmp_path / str(number), run.fork_server)(f"print({number})").printed()

    def look() -> tuple[int, int, list[str]]:
        # Libraries such as pyarrow have threads that come and go; those of zmq have its name.
        zmq_threads = []
        for comm in Path("/proc/self/task").glob("*/comm"):
            with contextlib.suppress(OSError):  # The thread has ended.
                zmq_threads += [name for name in [comm.read_text()] if name.startswith("ZMQ")]
        return psutil.Process().num_fds(), threading.active_count(), zmq_threads

    run_one(0)
    before = look()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run_one, range(20))) == [f"{number}\n" for number in range(20)]
    assert look() == before


def test_failed_runs_leave_no_file_open(run: Runner) -> None:
    failing: list[Callable[[], Ran]] = [
        lambda: run("1/0"),
        lambda: run("import os; os._exit(1)"),
        lambda: run("while True: pass", timeout=1),
        lambda: run("1", timeout=0.001),
        lambda: run("1", start_timeout=0.001),
    ]
    run("1")
    before = psutil.Process().num_fds()
    for fail in failing:
        assert fail().error
    assert psutil.Process().num_fds() == before

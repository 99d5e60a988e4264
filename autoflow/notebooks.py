"""Runs one notebook, through papermill, and writes down what came of it."""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG

from autoflow.errors import NotebookError, RunStopped
from autoflow.kernels import PYTHON_KERNEL, Kernel, is_installed, new_kernel
from autoflow.specs import Json
from autoflow.stop_signal import StopSignal
from autoflow.utils import redact, whole_file

KERNEL_START_TIMEOUT = 60
"""How long a kernel may take until it answers, in seconds."""

CellCallback = Callable[[int, int], None]
"""Called as each cell starts, with its number counted from 1 and the number of cells."""

# Papermill says at INFO and WARNING what the parser has checked already or the run's own record tells.
logging.getLogger("papermill").setLevel(logging.ERROR)


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Read the notebook at `path`, in the newest format.

    Raises
    ------
    ValueError
        If the file is not a notebook; the message says why.
    OSError
        If it cannot be read.

    """
    try:
        notebook = nbformat.read(path, as_version=4)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except nbformat.reader.NotJSONError:
        raise ValueError("it is not JSON") from None
    except (nbformat.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is not a Jupyter notebook ({error})".splitlines()[0]) from error
    if not isinstance(notebook.get("cells"), list):
        raise ValueError("it is not a Jupyter notebook (it has no cells)")  # noqa: TRY004 - it is the file's content
    return cast("nbformat.NotebookNode", notebook)


def declared_parameters(path: Path) -> frozenset[str] | None:
    """Return the names that the notebook at `path` assigns in its cell tagged `parameters`.

    None where papermill cannot tell, because it does not know the language. A notebook without such a cell declares
    no parameters.

    Raises
    ------
    ValueError
        If the file is not a notebook.
    OSError
        If it cannot be read.

    """
    notebook = read_notebook(path)
    if not _is_python(notebook):
        return None
    _choose_kernel(notebook)
    # The node rather than its path: papermill fills braces in a path as if they were parameters.
    return frozenset(papermill.inspect_notebook(notebook))


def execute(  # noqa: PLR0913 - each is a thing of its own
    notebook: Path,
    executed: Path,
    *,
    label: str,
    parameters: Mapping[str, Json],
    environment: Mapping[str, str],
    secrets: Iterable[str] = (),
    timeout: float | None = None,
    stop: StopSignal | None = None,
    on_cell: CellCallback | None = None,
) -> None:
    """Run `notebook` with `parameters` in a kernel of its own and write the executed notebook to `executed`.

    The kernel works in the folder of `notebook`, with the variables of `environment`. `timeout` is for the whole
    notebook, in seconds. `executed` is written when the run has ended, well or not, as far as it came; none of
    `secrets` appears in it. `label` is what errors call the notebook.

    Raises
    ------
    NotebookError
        If a cell raised an exception, the kernel died or did not start, the timeout passed, or the notebook ended
        itself before its last cell.
    RunStopped
        If `stop` was set.

    """
    try:
        node = read_notebook(notebook)
    except (ValueError, OSError) as error:
        raise NotebookError(label, None, type(error).__name__, f"{notebook.name} cannot be run: {error}") from error
    kernel_name = _choose_kernel(node)
    if not is_installed(kernel_name):
        raise NotebookError(label, None, "NoSuchKernel", f"there is no kernel called '{kernel_name}' on this machine")
    with new_kernel(kernel_name) as kernel, _ending(kernel, timeout, stop) as ending:
        execution = _Execution(kernel=kernel, folder=notebook.parent, environment=environment, on_cell=on_cell)
        try:
            _run_papermill(node, kernel_name, parameters, execution)
        except Exception as error:
            execution.blame_running_cell()
            raise _explained(error, label, execution, ending) from error
        finally:
            node = execution.notebook or node
            node.metadata.setdefault("papermill", {}).update(input_path=notebook.name, output_path=executed.name)
            _write(node, executed, secrets)
    if (cell := execution.first_cell_not_run()) is not None:
        raise NotebookError(label, cell, "NotRun", "the notebook ended itself before this cell")


@dataclass
class _Execution:
    """What AutoFlow's engine for papermill is told, and what it tells in turn."""

    kernel: Kernel
    folder: Path
    environment: Mapping[str, str]
    on_cell: CellCallback | None
    notebook: nbformat.NotebookNode | None = None
    started: set[int] = field(default_factory=set)
    running: int | None = None

    def cell_starts(self, index: int) -> None:
        self.started.add(index)
        self.running = index
        if self.on_cell and self.notebook:
            self.on_cell(index + 1, len(self.notebook.cells))

    def blame_running_cell(self) -> None:
        """Set right what papermill writes of a kernel that died: that every cell has completed."""
        if self.notebook is None:
            return
        # Papermill's banner would shift the numbers of the cells that errors name.
        self.notebook.cells = [
            cell for cell in self.notebook.cells if ERROR_MARKER_TAG not in cell.metadata.get("tags", [])
        ]
        for index, cell in enumerate(self.notebook.cells):
            if index == self.running:
                cell.metadata.papermill.update(status="failed", exception=True)
            elif index not in self.started:
                cell.metadata.papermill.update(status="pending")

    def first_cell_not_run(self) -> int | None:
        """Return the number, from 1, of the first code cell that should have run and did not."""
        for number, cell in enumerate(self.notebook.cells if self.notebook else (), start=1):
            skipped = "skip-execution" in cell.metadata.get("tags", [])
            if cell.cell_type == "code" and cell.source.strip() and not skipped and cell.execution_count is None:
                return number
        return None


class _CountingManager(NotebookExecutionManager):  # type: ignore[misc]
    """Papermill's record of a run, which tells the execution of each cell that starts."""

    execution: _Execution

    def cell_start(self, cell: nbformat.NotebookNode, cell_index: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401 - papermill's signature
        super().cell_start(cell, cell_index, **kwargs)
        if cell_index is not None:
            self.execution.cell_starts(cell_index)


class _AutoflowEngine(Engine):  # type: ignore[misc]
    """Papermill's way of plugging in how a notebook is run: in a kernel that AutoFlow started and can kill."""

    @classmethod
    def execute_notebook(
        cls, nb: nbformat.NotebookNode, kernel_name: str, *, execution: _Execution, **_: object
    ) -> nbformat.NotebookNode:
        manager = _CountingManager(nb, progress_bar=False, autosave_cell_every=0)
        manager.execution = execution
        execution.notebook = nb
        manager.notebook_start()
        try:
            client = PapermillNotebookClient(
                manager, km=execution.kernel, kernel_name=kernel_name, startup_timeout=KERNEL_START_TIMEOUT
            )
            client.execute(env=dict(execution.environment), cwd=str(execution.folder), cleanup_kc=True)
        finally:
            manager.notebook_complete()
        return cast("nbformat.NotebookNode", manager.nb)


papermill_engines.register("autoflow", _AutoflowEngine)


def _run_papermill(
    node: nbformat.NotebookNode, kernel_name: str, parameters: Mapping[str, Json], execution: _Execution
) -> None:
    papermill.execute_notebook(
        node,
        None,
        # Through JSON, because papermill writes a tuple as a text and NaN as something that is not JSON.
        parameters=json.loads(json.dumps(parameters, allow_nan=False)),
        engine_name="autoflow",
        kernel_name=kernel_name,
        progress_bar=False,
        execution=execution,
    )


@dataclass
class _Ending:
    """Why a kernel was killed before its notebook was done, if it was."""

    timed_out_after: float | None = None
    stopped_because: str | None = None


@contextmanager
def _ending(kernel: Kernel, timeout: float | None, stop: StopSignal | None) -> Iterator[_Ending]:
    """Kill `kernel` when `timeout` seconds have passed or `stop` is set."""
    ending = _Ending()

    def time_is_up() -> None:
        ending.timed_out_after = timeout
        kernel.kill_group()

    def asked_to_stop() -> None:
        ending.stopped_because = stop.reason if stop else ""
        kernel.kill_group()

    timer = threading.Timer(timeout, time_is_up) if timeout else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        with (stop or StopSignal()).calling(asked_to_stop):
            yield ending
    finally:
        if timer:
            timer.cancel()


def _explained(error: Exception, label: str, execution: _Execution, ending: _Ending) -> NotebookError | RunStopped:
    """Return what `error`, raised by papermill or below it, means for the notebook."""
    cell = None if execution.running is None else execution.running + 1
    if ending.stopped_because is not None:
        return RunStopped(ending.stopped_because)
    if ending.timed_out_after is not None:
        return NotebookError(label, cell, "Timeout", f"the notebook took longer than {ending.timed_out_after:g} s")
    if isinstance(error, PapermillExecutionError):
        return NotebookError(label, error.cell_index + 1, error.ename, error.evalue)
    if isinstance(error, DeadKernelError):
        return NotebookError(label, cell, "DeadKernelError", "the kernel died")
    reason = str(error) if cell else f"the kernel did not start: {error}"
    return NotebookError(label, cell, type(error).__name__, reason)


def _is_python(notebook: nbformat.NotebookNode) -> bool:
    """Tell whether the notebook is in Python, as one that does not say is taken to be."""
    kernelspec = notebook.metadata.get("kernelspec", {})
    language = notebook.metadata.get("language_info", {}).get("name") or kernelspec.get("language")
    if language:
        return str(language).lower() in {"python", "ipython"}
    name = str(kernelspec.get("name", PYTHON_KERNEL))
    return name.startswith(("python", "conda-env")) or not is_installed(name)


def _choose_kernel(notebook: nbformat.NotebookNode) -> str:
    """Return the kernel to run `notebook` with, and have its metadata say so.

    A Python notebook without a kernelspec, or with one that is not installed here, runs with AutoFlow's own Python.
    """
    name = str(notebook.metadata.get("kernelspec", {}).get("name") or PYTHON_KERNEL)
    if not is_installed(name) and _is_python(notebook):
        name = PYTHON_KERNEL
    if _is_python(notebook):
        notebook.metadata.setdefault("language_info", {}).setdefault("name", "python")
        notebook.metadata["kernelspec"] = {
            "name": name,
            "display_name": notebook.metadata.get("kernelspec", {}).get("display_name", name),
            "language": "python",
        }
    return name


def _write(notebook: nbformat.NotebookNode, path: Path, secrets: Iterable[str]) -> None:
    """Write `notebook` to `path`, whole or not at all, with `secrets` taken out of sources and outputs alike."""
    clean = nbformat.from_dict(_without(tuple(secrets), notebook))
    with whole_file(path) as temporary:
        temporary.write_text(nbformat.writes(clean) + "\n", encoding="utf-8")


def _without(secrets: tuple[str, ...], value: Any) -> Any:  # noqa: ANN401 - any part of a notebook
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, Mapping):
        return {redact(key, secrets): _without(secrets, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(secrets, item) for item in value]
    return value

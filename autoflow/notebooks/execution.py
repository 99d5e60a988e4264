"""Run one notebook with papermill and write the executed notebook."""

import asyncio
import contextlib
import datetime
import json
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import DeadKernelError
from nbformat.v4.rwbase import split_lines, strip_transient

from autoflow.errors import NotebookError, RunSkipped, RunStopped
from autoflow.kernels.fork_server import ForkServer
from autoflow.kernels.kernel import (
    PYTHON_KERNEL,
    SHUTDOWN_GRACE,
    Kernel,
    KernelStartError,
    new_kernel,
)
from autoflow.notebooks.checks import CHECK_FAILED, CheckLog, failure_of
from autoflow.notebooks.executed import (
    cell_numbers,
    first_line_of,
    number_cells,
    prompt_of,
    record_checks,
    record_peak_memory,
)
from autoflow.notebooks.hints import TIMEOUT, with_hint, with_note
from autoflow.notebooks.live import LiveOutput
from autoflow.notebooks.outputs import BoundedClient, CellFailedError
from autoflow.notebooks.reading import InvalidNotebookError, choose_kernel, missing_kernel, read_notebook
from autoflow.notebooks.redaction import Redaction, without_ansi_codes
from autoflow.notebooks.scraps import scrap_hint
from autoflow.runs.checks import Checks
from autoflow.specs import NO_TIMEOUT, Json
from autoflow.system.lean_imports import hidden
from autoflow.system.stop_signal import StopSignal
from autoflow.utils import whole_file

# papermill would import pyarrow for hdfs:// paths; our notebooks are files.
with hidden("pyarrow"):
    import papermill
    from papermill.engines import NotebookExecutionManager

KERNEL_START_TIMEOUT = 60.0
"""How long a kernel may take to answer, in seconds."""

LONGEST_MESSAGE = 2000
"""How much of the message of a notebook's exception an error repeats, in characters."""


CellCallback = Callable[[int, int], None]
"""Called as each cell of the author starts, with its number, counted from 1, and the number of such cells."""

# The parser has checked what papermill warns about; what they log as errors is raised as well.
logging.getLogger("papermill").setLevel(logging.ERROR)
logging.getLogger("traitlets").setLevel(logging.CRITICAL)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A notebook to execute, with its parameters and limits.

    `label` is its name in messages. `timeout` and `start_timeout`, of its kernel, are in seconds, `memory` is in bytes.
    The executed notebook has `made_from` in its metadata, and `secrets` nowhere; until it is written, outputs are in
    the file `live`.
    """

    label: str
    parameters: Mapping[str, Json]
    environment: Mapping[str, str]
    secrets: Iterable[str] = ()
    timeout: float = NO_TIMEOUT
    memory: int | None = None
    made_from: Mapping[str, Any] | None = None
    start_timeout: float = KERNEL_START_TIMEOUT
    live: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Means:
    """How work is stopped, watched and helped.

    `on_cell` is called for each cell. Kernels start faster with a `fork_server`. `confirm` is called right before each
    file appears in its place, and may raise RunStopped to prevent it. `on_checks` is called with the notebook's checks
    once it has ended, however it has.
    """

    stop: StopSignal = field(default_factory=StopSignal)
    on_cell: CellCallback | None = None
    fork_server: ForkServer | None = None
    confirm: Callable[[], None] | None = None
    on_checks: Callable[[Checks], None] | None = None


def execute(notebook: Path, executed: Path, task: Task, means: Means | None = None) -> None:
    """Run `notebook` in a kernel of its own and write the executed notebook to `executed`.

    The kernel works in the folder of `notebook`. `executed` is written unless `notebook` cannot be read or
    `means.confirm` raises.

    Raises
    ------
    NotebookError, RunSkipped, RunStopped, OSError
        If the notebook or a check fails, is too slow or too large; if it skips its run; if `means.stop` is set; or if
        `executed` cannot be written.

    """
    node, means = _read(notebook, task.label, task.made_from), means or Means()
    output = LiveOutput(task.live, Redaction(task.secrets), {"notebook": task.label, "executed": executed.name})
    run = _Run(node, notebook.parent, task, means, output)
    try:
        run.to_the_end()
    except Exception as error:  # noqa: BLE001 - any exception fails this run, and no other
        _raise_if_stopped(means.stop, error)
        raise _explained(error, run) from None
    finally:
        if means.on_checks:
            means.on_checks(run.checks.checks)
        run.write(notebook, executed)


def _raise_if_stopped(stop: StopSignal, error: Exception) -> None:
    """Raise RunStopped if `stop` may have caused the error."""
    if not isinstance(error, CellFailedError | _FailedError | _SkippedError):
        stop.raise_if_set()


def _read(notebook: Path, label: str, made_from: Mapping[str, Any] | None) -> nbformat.NotebookNode:
    try:
        node = read_notebook(notebook)
    except InvalidNotebookError as error:
        message = f"{notebook.name} is not a valid notebook: {error}"
        raise NotebookError(label, None, type(error).__name__, message) from error
    except OSError as error:
        message = f"cannot read {notebook.name}: {error.strerror}"
        raise NotebookError(label, None, type(error).__name__, message) from error
    if made_from is not None:
        node.metadata["made_from"] = dict(made_from)
    return node


@dataclass(frozen=True)
class _Limits:
    """The reasons to end a run before the end of its notebook."""

    timeout: float
    stop: StopSignal

    async def watch(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`; raise if the timeout passes or the stop signal is set before it is done."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()

        def ask() -> None:
            with contextlib.suppress(RuntimeError):  # The loop is closed: the run ended at the same moment.
                loop.call_soon_threadsafe(asked.set)

        working, asking = asyncio.ensure_future(work), asyncio.ensure_future(asked.wait())
        try:
            with self.stop.calling(ask):
                seconds = None if self.timeout == NO_TIMEOUT else self.timeout
                await asyncio.wait({working, asking}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise (
                    RunStopped(self.stop.reason)
                    if asking.done()
                    else _FailedError(TIMEOUT, f"the notebook took longer than {self.timeout:g} s")
                )
        finally:
            working.cancel()
            asking.cancel()
            await asyncio.gather(working, asking, return_exceptions=True)
        working.result()


class _FailedError(Exception):
    """A notebook failed for another reason than a failed cell."""

    def __init__(self, error_class: str, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class


class _SkippedError(Exception):
    """A notebook has skipped its run."""


@dataclass
class _Run:
    """A notebook that runs in a kernel. `position` is the index of the current cell, `numbers` those of all cells."""

    node: nbformat.NotebookNode
    folder: Path
    task: Task
    means: Means
    output: LiveOutput
    kernel_name: str = PYTHON_KERNEL
    kernel: Kernel | None = None
    position: int | None = None
    numbers: Sequence[int | None] = ()

    def __post_init__(self) -> None:
        """Start without checks."""
        self.checks = CheckLog(self.redaction, ())

    def to_the_end(self) -> None:
        """Run all cells."""
        self._prepare()
        limits = _Limits(self.task.timeout, self.means.stop)
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(self._run_in_kernel(limits))

    def _prepare(self) -> None:
        """Choose the kernel, clear earlier outputs, number the cells, and have papermill insert the parameters."""
        for cell in self.node.cells:
            if cell.cell_type == "code":
                cell.update(outputs=[], execution_count=None)
        if missing := missing_kernel(self.node):
            raise _FailedError("NoSuchKernel", missing)
        number_cells(self.node.cells)
        self.kernel_name = choose_kernel(self.node)
        values = {name: _strict_json(name, value) for name, value in self.task.parameters.items()}
        self.node = papermill.execute_notebook(
            self.node, None, values, kernel_name=self.kernel_name, prepare_only=True, progress_bar=False
        )
        self.numbers = cell_numbers(self.node.cells)
        self.checks = CheckLog(self.redaction, self.numbers)

    async def _run_in_kernel(self, limits: _Limits) -> None:
        """Run the cells in a kernel of their own, which is gone afterwards."""
        limits.stop.raise_if_set()
        record = NotebookExecutionManager(self.node, progress_bar=False, autosave_cell_every=0)
        record.notebook_start()
        grace = 0.0
        with new_kernel(self.kernel_name, self.means.fork_server) as kernel:
            self.kernel = kernel
            keeping = asyncio.create_task(kernel.keep(lambda: limits.stop.seconds_left))
            try:
                await limits.watch(self._run_cells(kernel, record))
                grace = SHUTDOWN_GRACE
            except (CellFailedError, _SkippedError):
                grace = SHUTDOWN_GRACE
                raise
            finally:
                _complete(record)
                await kernel.end(grace=grace)
                keeping.cancel()
                record_peak_memory(self.node.metadata, kernel.peak_memory)

    async def _run_cells(self, kernel: Kernel, record: NotebookExecutionManager) -> None:
        task = self.task
        connection = await kernel.connect(
            task.environment, self.folder, start_timeout=task.start_timeout, memory=task.memory
        )
        self.node.metadata["language_info"] = connection.language_info
        client = BoundedClient(record, km=kernel, kernel_name=self.kernel_name, live=self.output, checks=self.checks)
        client.kc = connection
        try:
            with self.output.written():
                await self._run_each(client, record)
        finally:
            client.settle()

    async def _run_each(self, client: BoundedClient, record: NotebookExecutionManager) -> None:
        for index, cell in enumerate(self.node.cells):
            self.position = index
            if _is_skipped(cell):
                continue
            if client.asked_to_exit and cell.cell_type == "code" and cell.source.strip():
                raise CellFailedError("NotRun", "the notebook exited before this cell")
            await self._run_cell(index, client, record)
            if client.skipped:
                self._raise_if_check_failed()
                raise _SkippedError(client.skipped)
        self._raise_if_check_failed()

    def _raise_if_check_failed(self) -> None:
        """Raise CellFailedError for the cell of the first check that failed, if there is one."""
        if failed := self.checks.checks.failed_errors:
            self.position = self.numbers.index(failed[0].cell)
            raise CellFailedError(CHECK_FAILED, failure_of(self.checks.checks))

    async def _run_cell(self, index: int, client: BoundedClient, record: NotebookExecutionManager) -> None:
        cell = self.node.cells[index]
        if number := self.numbers[index]:
            self._cell_starts(cell, number, max(filter(None, self.numbers)))
        record.cell_start(cell, index)
        try:
            await client.run_cell(cell, index)
        except BaseException:
            record.cell_exception(cell, index)
            raise
        finally:
            self.output.cell_ended()
            record.cell_complete(cell, index)

    def _cell_starts(self, cell: nbformat.NotebookNode, number: int, cells: int) -> None:
        if self.means.on_cell:
            self.means.on_cell(number, cells)
        if cell.cell_type == "code":
            self.output.cell_started(number, cells, first_line_of({"source": self.redaction.of_text(cell.source)}))

    @property
    def redaction(self) -> Redaction:
        """What removes the secrets."""
        return self.output.redaction

    @property
    def source(self) -> str:
        """The source of the current cell; empty if there is none."""
        return "" if self.position is None else str(self.node.cells[self.position].source)

    @property
    def traceback(self) -> str:
        """The tracebacks in the outputs of the current cell; empty if there is none."""
        outputs = [] if self.position is None else self.node.cells[self.position].get("outputs", [])
        lines = [line for output in outputs for line in output.get("traceback", ())]
        return without_ansi_codes("\n".join(lines))

    def write(self, notebook: Path, executed: Path) -> None:
        """Write the notebook, as it is now, to `executed`, without secrets."""
        record_checks(self.node.metadata, self.checks.checks)
        self.node.metadata.setdefault("papermill", {}).update(input_path=notebook.name, output_path=executed.name)
        _write(self.redaction.of_notebook(self.node), executed, self.means.confirm)

    def place(self) -> tuple[int | None, str | None]:
        """Return the number of the current cell and its beginning; None if it is not one of the author's."""
        number = None if self.position is None else self.numbers[self.position]
        if self.position is None or number is None:
            return None, None
        source = without_ansi_codes(self.redaction.of_text(self.source))
        return number, prompt_of({**self.node.cells[self.position], "source": source})

    def reason(self, error: Exception) -> tuple[str, str]:
        """Return the class and the message to report for `error`."""
        if isinstance(error, _FailedError | CellFailedError):
            return error.error_class, str(error)
        if self.kernel and self.kernel.out_of_memory:
            return "OutOfMemory", self.kernel.out_of_memory
        if isinstance(error, DeadKernelError) and self.kernel:
            return "DeadKernelError", f"the kernel died: {self.kernel.death()}"
        return type(error).__name__, str(error)


def _explained(error: Exception, run: _Run) -> NotebookError | RunSkipped:
    """Return the error to report for `error`, without secrets."""
    if isinstance(error, _SkippedError):
        return RunSkipped(run.task.label, run.place()[0], str(error))
    note = run.redaction.of_text(scrap_hint(*run.reason(error), run.source, run.task.parameters))
    if run.checks.checks.errors and run.reason(error)[0] != CHECK_FAILED:
        note = note or f"{CHECK_FAILED} before: {failure_of(run.checks.checks)}"
    error_class, message = (run.redaction.of_text(without_ansi_codes(text)).strip() for text in run.reason(error))
    sources = (cell.source for cell in run.node.cells)
    is_own = run.kernel_name == PYTHON_KERNEL
    message = with_hint(error_class, message, sources, has_own_python=is_own, traceback=run.traceback)
    if len(message) > LONGEST_MESSAGE:
        message = f"{message[:LONGEST_MESSAGE]}..."
    message = with_note(message, note)
    cell, code = run.place()
    is_death = isinstance(error, DeadKernelError | KernelStartError) and error_class != "OutOfMemory"
    return NotebookError(run.task.label, cell, error_class[:LONGEST_MESSAGE], message, code=code, is_death=is_death)


def _complete(record: NotebookExecutionManager) -> None:
    """Record the end of a run; cells that were not started stay pending, which papermill would mark as completed."""
    not_started = [cell for cell in record.nb.cells if cell.metadata.papermill["status"] == record.PENDING]
    record.notebook_complete()
    for cell in not_started:
        cell.metadata.papermill["status"] = record.PENDING


def _is_skipped(cell: nbformat.NotebookNode) -> bool:
    """Return whether `cell` is code tagged to be skipped."""
    return cell.cell_type == "code" and "skip-execution" in cell.metadata.get("tags", [])


def _strict_json(name: str, value: Json) -> Any:
    """Return the value of the parameter `name` as strict JSON; papermill would write a tuple as text, and NaN."""
    try:
        return json.loads(json.dumps(value, allow_nan=False, default=_isoformat))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"the value of parameter '{name}' cannot be passed to a notebook: {error}"
        raise _FailedError("ParameterError", message) from error


def _isoformat(value: object) -> str:
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not a JSON type")


def _write(notebook: nbformat.NotebookNode, path: Path, confirm: Callable[[], None] | None) -> None:
    """Write `notebook`, which is changed, to `path`, completely or not at all."""
    # Not with `nbformat.write`, which makes several copies of the whole text.
    options: dict[str, Any] = {"indent": 1, "sort_keys": True, "separators": (",", ": "), "ensure_ascii": False}
    # A notebook can print lone surrogates, which UTF-8 cannot encode.
    with whole_file(path, confirm) as temporary, temporary.open("w", encoding="utf-8", errors="replace") as file:
        json.dump(strip_transient(split_lines(notebook)), file, **options)
        file.write("\n")

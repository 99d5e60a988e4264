"""Executes the notebooks of a run, each in a thread; Prefect has no part in it."""

import datetime
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from pathlib import Path

from autoflow.cluster.work import Place, ThisMachine, Work
from autoflow.dates.periods import Every
from autoflow.errors import AutoflowError, RunSkipped
from autoflow.notebooks.execution import CellCallback
from autoflow.notebooks.live_files import live_name
from autoflow.notebooks.sources import source_as_json
from autoflow.runs.records import utc_now
from autoflow.runs.run import NotebookOutputs, Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import RUN_DIRS, SHARED_DIRS, Json, NotebookSpec
from autoflow.system.log import bugs_logged, current_log_fields, lines_heard, log_fields
from autoflow.system.stop_signal import StopSignal
from autoflow.utils import name_part

MOST_LINES = 1000
"""How many lines of the log are kept of a run that Prefect does not show yet."""

Progress = Callable[[str, int, int], None]
"""Called when a cell starts: with the notebook's label, the cell's number counted from 1, and the number of cells."""


@dataclass(frozen=True, kw_only=True)
class Display:
    """How others see a run at work: `progress` is called for each cell, and `live` is the folder for its output."""

    progress: Progress | None = None
    live: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """The arguments of a notebook's task.

    The names of its output files start with `stem`, and its log lines have `log_fields`. `live` is the name of the file
    for its output while it runs. `folders` are those that notebooks can use, from the outputs folder on.
    """

    run: WorkflowRun
    notebook: NotebookSpec
    stem: str
    settings: Settings
    outcome: Outcome
    stop: StopSignal
    place: Place
    on_cell: CellCallback | None = None
    log_fields: Mapping[str, str | int] = field(default_factory=dict)
    live: str | None = None
    folders: Mapping[str, str] = field(default_factory=dict)


class Lines:
    """The lines of the log that belong to a run: they are kept until `send_with` is called, and then passed on.

    Only the last ones are kept. It may be used from all threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[logging.LogRecord] = deque(maxlen=MOST_LINES)
        self._send: Callable[[logging.LogRecord], None] | None = None

    def add(self, line: logging.LogRecord) -> None:
        """Pass a line on, or keep it."""
        with self._lock:
            if self._send is None:
                self._kept.append(line)
            else:
                self._send(line)

    def send_with(self, send: Callable[[logging.LogRecord], None]) -> None:
        """Call `send` with each line from now on, first with those that were kept; it must return quickly."""
        with self._lock:
            self._send = send
            while self._kept:
                send(self._kept.popleft())


class NotRunError(AutoflowError):
    """A notebook was not run, because one that it needs failed."""


class Execution:
    """The notebooks of `run` at work: each begins as soon as those that it needs are done.

    They run in threads of their own from `start` on, and write their results into `outcome`. They end early if `stop`
    is set. They are executed in `place`, by default on this machine, and are shown on `display`. `lines` are what they
    log.
    """

    def __init__(
        self,
        run: WorkflowRun,
        settings: Settings,
        *,
        outcome: Outcome | None = None,
        stop: StopSignal | None = None,
        display: Display | None = None,
        place: Place | None = None,
    ) -> None:
        self.run = run
        self.settings = settings
        self.outcome = Outcome() if outcome is None else outcome
        self._stop = StopSignal(stop)  # a notebook that skips the run sets it
        self._display = display or Display()
        self._place = place or ThisMachine(settings)
        self.lines = Lines()
        self._ends: dict[str, Future[NotebookOutputs]] = {each.label: Future() for each in run.workflow.notebooks}
        self._lock = threading.Lock()
        self._has_started = False

    def start(self) -> None:
        """Start the notebooks, unless that was done before."""
        with self._lock:
            if self._has_started:
                return
            self._has_started = True
        stamp = _stamp(utc_now())
        for notebook in self.run.workflow.notebooks:
            name = f"{self.run}: {notebook.label}"
            threading.Thread(target=self._run, args=[self._step(notebook, stamp)], name=name, daemon=True).start()

    def wait(self) -> None:
        """Wait until all notebooks have ended."""
        wait(self._ends.values())

    @property
    def has_ended(self) -> bool:
        """Whether all notebooks have ended."""
        return all(end.done() for end in self._ends.values())

    def outputs_of(self, label: str) -> NotebookOutputs:
        """Wait until a notebook has ended; return its outputs, or raise its error."""
        return self._ends[label].result()

    def _step(self, notebook: NotebookSpec, stamp: str) -> Step:
        display = self._display
        return Step(
            run=self.run,
            notebook=notebook,
            stem=_stem(self.run, notebook, stamp),
            settings=self.settings,
            outcome=self.outcome,
            stop=self._stop,
            place=self._place,
            on_cell=functools.partial(display.progress, notebook.label) if display.progress else None,
            log_fields={**current_log_fields(), "notebook": notebook.label},
            live=live_name(display.live, name_part(notebook.label)) if display.live else None,
            folders=_folders(self.run, stamp),
        )

    def _run(self, step: Step) -> None:
        end = self._ends[step.notebook.label]
        needed = sorted(self.run.workflow.dependencies(step.notebook))
        try:
            upstream = {label: self.outputs_of(label) for label in needed}
        except AutoflowError:
            end.set_exception(NotRunError(f"'{step.notebook.label}' was not run: a notebook that it needs failed"))
            return
        try:
            with lines_heard(self.lines.add):
                end.set_result(_carry_out(step, upstream))
        except AutoflowError as error:
            end.set_exception(error)


def _carry_out(step: Step, upstream: Mapping[str, NotebookOutputs]) -> NotebookOutputs:
    """Run one notebook, and write its result or its error into the outcome of its run."""
    label, started = step.notebook.label, time.monotonic()
    try:
        with log_fields(**step.log_fields), bugs_logged(step.settings.secrets):
            outputs = run_notebook(step, upstream)
    except AutoflowError as error:
        step.outcome.errors[label] = error
        if isinstance(error, RunSkipped):
            # The notebooks beside it are of no use any more.
            step.stop.set(f"notebook '{label}' has skipped the run")
        raise
    finally:
        step.outcome.seconds[label] = time.monotonic() - started
    step.outcome.outputs[label] = outputs
    return outputs


def run_notebook(step: Step, upstream: Mapping[str, NotebookOutputs]) -> NotebookOutputs:
    """Run one notebook and make its reports.

    Raises
    ------
    NotebookError, ReportError, RunSkipped, RunStopped, NoRoomError
        The executed notebook is written anyway, with the cells that have run.
    WorkerLostError
        If the notebook may still be running on another machine.

    """
    step.outcome.sources[step.notebook.label] = source_as_json(step.notebook.path)
    result = step.place.carry_out(_work(step, upstream), stop=step.stop, on_cell=step.on_cell)
    step.outcome.checks[step.notebook.label] = result.checks
    if result.outputs:
        step.outcome.outputs[step.notebook.label] = result.outputs
    if result.error:
        raise result.error
    return step.outcome.outputs[step.notebook.label]


def _work(step: Step, upstream: Mapping[str, NotebookOutputs]) -> Work:
    """Return what is to be done: the notebook with its values, and its reports."""
    run, notebook, settings = step.run, step.notebook, step.settings
    return Work(
        label=notebook.label,
        notebook=notebook.path,
        sources=notebook.parameters,
        values=_values(run),
        upstream={label: outputs.executed.name for label, outputs in upstream.items()},
        stem=step.stem,
        live=step.live,
        timeout=settings.notebook_timeout if notebook.timeout is None else notebook.timeout,
        report_timeout=settings.report_timeout,
        formats=notebook.output.formats if notebook.output else (),
        template=notebook.output.template if notebook.output else None,
        title=run.title or run.workflow.name,
        dates=run.dates_text,
        memory=notebook.memory,
        pool=notebook.pool,
        secrets=notebook.secrets,
        hidden=notebook.hidden,
        folders={name: path for name, path in step.folders.items() if _is_automatic(name, notebook, run)},
    )


def _is_automatic(name: str, notebook: NotebookSpec, run: WorkflowRun) -> bool:
    """Return whether this name, if a notebook has it as a source, is neither a label nor a parameter of the run."""
    return name in {*notebook.parameters.values()} - run.workflow.labels - run.parameters.keys()


def _folders(run: WorkflowRun, stamp: str) -> dict[str, str]:
    """Return the folders for files of notebooks, from the outputs folder on: that of the run, and that of its entry."""
    label = (name_part(run.label),) if run.label else ()
    every = () if run.every is Every.DAY else (run.every.value,)
    workflow, parameters = name_part(run.workflow.name), run.key.parameters_hash[:8]
    own = "__".join(("--".join((workflow, *label)), run.reference_date.isoformat(), *every, parameters, stamp))
    shared = "__".join((workflow, *every, run.key.parameters_hash[:16]))
    return {"run_dir": f"{RUN_DIRS}/{own}", "shared_dir": f"{SHARED_DIRS}/{shared}"}


def _values(run: WorkflowRun) -> dict[str, Json]:
    """Return the values that notebooks can use, by their names in workflows.yml."""
    values: dict[str, Json] = {"missing_dates": [date.isoformat() for date in run.missing_dates]}
    return {
        **values,
        **run.parameters,
        "reference_date": run.reference_date.isoformat(),
        "date_ranges": [list(interval.as_strings()) for interval in run.date_ranges],
    }


def _stem(run: WorkflowRun, notebook: NotebookSpec, stamp: str) -> str:
    """Return the stem of a notebook's output files: workflow, label, notebook, date, parameters, and time."""
    workflow = "--".join(name_part(name) for name in (run.workflow.name, run.label) if name)
    every = () if run.every is Every.DAY else (run.every.value,)
    date = run.reference_date.isoformat()
    return "__".join((workflow, name_part(notebook.label), date, *every, run.key.parameters_hash[:8], stamp))


def _stamp(time_utc: datetime.datetime) -> str:
    """Return a time for a filename, to the millisecond."""
    return f"{time_utc:%Y%m%dT%H%M%S}.{time_utc.microsecond // 1000:03d}Z"

"""Workflows as Prefect flows, with a task for each notebook."""

import datetime
import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import prefect
from prefect.cache_policies import NO_CACHE
from prefect.context import TagsContext
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from autoflow.dates.periods import Every
from autoflow.errors import AutoflowError, NoRoomError, NotebookError, ReportError, RunStopped
from autoflow.kernels.fork_server import ForkServer
from autoflow.notebooks.execution import CellCallback, execute
from autoflow.notebooks.live_files import SUFFIX
from autoflow.notebooks.redaction import Redaction
from autoflow.orchestration.artifacts import show_outcome
from autoflow.orchestration.flow_runs import result_storage
from autoflow.reports import ReportContext, convert
from autoflow.runs.records import utc_now
from autoflow.runs.run import NotebookOutputs, Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import Json, NotebookSpec, WorkflowSpec
from autoflow.system.disk import NO_ROOM, full_disk, says_no_room
from autoflow.system.log import bugs_logged
from autoflow.system.stop_signal import StopSignal

LONGEST_NAME_PART = 60
"""The longest part of a filename that comes from a workflow's or notebook's name, in bytes; a filename may have 255."""

Progress = Callable[[str, int, int], None]
"""Called when a cell starts: with the notebook's label, the cell's number counted from 1, and the number of cells."""


@dataclass(frozen=True, kw_only=True)
class Display:
    """How others see a run at work: `progress` is called for each cell, and `live` is the folder for its output."""

    progress: Progress | None = None
    live: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """The arguments of a notebook's task. The names of its output files start with `stem`.

    `live` is the file for its output while it runs.
    """

    run: WorkflowRun
    notebook: NotebookSpec
    stem: str
    settings: Settings
    outcome: Outcome
    stop: StopSignal
    on_cell: CellCallback | None = None
    live: Path | None = None
    fork_server: ForkServer | None = None


def make_notebooks_workflow(
    run: WorkflowRun,
    settings: Settings,
    *,
    outcome: Outcome | None = None,
    stop: StopSignal | None = None,
    display: Display | None = None,
    fork_server: ForkServer | None = None,
    done: Callable[[], None] | None = None,
) -> "prefect.Flow[[str, list[list[str]], dict[str, Any]], Any]":
    """Return a Prefect flow that runs the notebooks of `run.workflow`, each as soon as those that it needs are done.

    The flow takes the reference date, the date ranges and the parameters, for display in Prefect; it fails if a
    notebook fails, and is cancelled if `stop` is set. It writes the results into `outcome`, even if the Prefect API
    fails, and shows the notebooks on `display`. It calls `done` when all notebooks have ended, before Prefect learns of
    it. Kernels start faster with a `fork_server`.
    """
    outcome = Outcome() if outcome is None else outcome
    steps = _steps(run, settings, outcome, stop or StopSignal(), display or Display(), fork_server)

    @prefect.flow(
        name=_prefect_name(run.workflow.name),
        flow_run_name=_constant(str(run)),
        task_runner=_task_runner(len(run.workflow.notebooks)),
        persist_result=False,
        result_storage=result_storage(settings),
        validate_parameters=False,
    )
    def notebooks_workflow(reference_date: str, date_ranges: list[list[str]], parameters: dict[str, Any]) -> Any:  # noqa: ARG001 - they are for display in Prefect
        _run_notebooks(run.workflow, steps)
        if done:
            done()
        show_outcome(run, outcome, settings)
        return _final_state(outcome)

    return notebooks_workflow


def _steps(
    run: WorkflowRun,
    settings: Settings,
    outcome: Outcome,
    stop: StopSignal,
    display: Display,
    fork_server: ForkServer | None,
) -> list[Step]:
    stamp = _stamp(utc_now())
    return [
        Step(
            run=run,
            notebook=notebook,
            stem=_stem(run, notebook, stamp),
            settings=settings,
            outcome=outcome,
            stop=stop,
            on_cell=functools.partial(display.progress, notebook.label) if display.progress else None,
            live=display.live / f"{_name_part(notebook.label)}{SUFFIX}" if display.live else None,
            fork_server=fork_server,
        )
        for notebook in run.workflow.notebooks
    ]


def _run_notebooks(workflow: WorkflowSpec, steps: Iterable[Step]) -> None:
    """Run the notebooks as Prefect tasks, each as soon as those that it needs are done; return when all have ended."""
    futures: dict[str, PrefectFuture[NotebookOutputs]] = {}
    for step in steps:
        label = step.notebook.label
        upstream = {name: futures[name] for name in sorted(workflow.dependencies(step.notebook))}
        task = notebook_task.with_options(name=label, task_run_name=_constant(label))
        # Without the run's tags: Prefect keeps a client forever for each set of tags that a task has.
        with TagsContext(current_tags=set()):
            futures[label] = task.submit(cast("Step", quote(step)), cast("Mapping[str, NotebookOutputs]", upstream))
    wait(list(futures.values()))


def _final_state(outcome: Outcome) -> Any:
    """Return what makes Prefect show the flow as completed or cancelled; raise the error of a failed run."""
    if isinstance(outcome.error, RunStopped):
        return Cancelled(message=str(outcome.error))
    if outcome.error:
        raise outcome.error from None
    return None


@prefect.task(persist_result=False, cache_policy=NO_CACHE, log_prints=False)
def notebook_task(step: Step, upstream: Mapping[str, NotebookOutputs]) -> NotebookOutputs:
    """Run one notebook; `upstream` contains the outputs of the notebooks that it depends on."""
    try:
        with bugs_logged(step.settings.secrets):
            outputs = run_notebook(step, upstream)
    except AutoflowError as error:
        step.outcome.errors[step.notebook.label] = error
        # Without its cause: Prefect stores what it gets, and a notebook's traceback can contain anything.
        raise error from None
    step.outcome.outputs[step.notebook.label] = outputs
    return outputs


def run_notebook(step: Step, upstream: Mapping[str, NotebookOutputs]) -> NotebookOutputs:
    """Run one notebook and make its reports.

    Raises
    ------
    NotebookError, ReportError, RunStopped
        The executed notebook is written anyway, with the cells that have run.

    """
    step.stop.raise_if_set()
    notebook, settings = step.notebook, step.settings
    executed = settings.notebooks_dir / f"{step.stem}.ipynb"
    try:
        # Someone may have removed them. Without their parents, which are missing while a disk is not mounted.
        settings.notebooks_dir.mkdir(exist_ok=True)
        settings.reports_dir.mkdir(exist_ok=True)
        _execute(step, executed, upstream)
        return NotebookOutputs(executed, tuple(_reports(step, executed)))
    except AutoflowError as error:
        step.outcome.outputs[notebook.label] = NotebookOutputs(executed)
        if reason := _reason_for_no_room(error, settings):
            raise NoRoomError(reason, settings.written_folders) from None
        raise
    except OSError as error:
        step.stop.raise_if_set()
        if error.errno in NO_ROOM:
            message = f"notebook '{notebook.label}': could not write {executed}: {error.strerror}"
            raise NoRoomError(message, [settings.notebooks_dir, settings.reports_dir]) from error
        raise ReportError(f"notebook '{notebook.label}': could not write {executed}: {error.strerror}") from error


def _execute(step: Step, executed: Path, upstream: Mapping[str, NotebookOutputs]) -> None:
    notebook, settings = step.notebook, step.settings
    execute(
        notebook.path,
        executed,
        label=notebook.label,
        parameters=parameter_values(step.run, notebook, settings.flowapi_url, upstream),
        environment=settings.kernel_environ,
        secrets=settings.secrets,
        timeout=settings.notebook_timeout if notebook.timeout is None else notebook.timeout,
        stop=step.stop,
        on_cell=step.on_cell,
        fork_server=step.fork_server,
        live=step.live,
    )


def parameter_values(
    run: WorkflowRun, notebook: NotebookSpec, flowapi_url: str, upstream: Mapping[str, NotebookOutputs]
) -> dict[str, Json]:
    """Return the values of the parameters of `notebook`, by their names in the notebook."""
    values: dict[str, Json] = {"missing_dates": [date.isoformat() for date in run.missing_dates]}
    values |= run.parameters
    values |= {label: str(outputs.executed) for label, outputs in upstream.items()}
    values |= {
        "flowapi_url": flowapi_url,
        "reference_date": run.reference_date.isoformat(),
        "date_ranges": [list(interval.as_strings()) for interval in run.date_ranges],
    }
    return {name: values[source] for name, source in notebook.parameters.items()}


def _reason_for_no_room(error: AutoflowError, settings: Settings) -> str | None:
    """Return why `error` does not count as a failure: it says that a disk is full, or came while one was full."""
    if isinstance(error, RunStopped):
        return None
    # What a cell says may be about a disk that is not AutoFlow's.
    is_of_cell = isinstance(error, NotebookError) and error.cell is not None
    if not is_of_cell and says_no_room(str(error)):
        return str(error)
    problem = full_disk(settings.written_folders)
    return f"{error}; {problem}" if problem else None


def _reports(step: Step, executed: Path) -> Iterable[Path]:
    output = step.notebook.output
    for report_format in output.formats if output else ():
        report = step.settings.reports_dir / f"{step.stem}.{report_format}"
        try:
            convert(
                executed,
                report,
                report_format=report_format,
                context=ReportContext(workflow=step.run.title or step.run.workflow.name, dates=step.run.dates_text),
                template=(output.template if output else None) or step.settings.asciidoc_template_path,
                inputs_dir=step.notebook.path.parent,
                timeout=step.settings.report_timeout,
                stop=step.stop,
            )
        except ReportError as error:
            reason = Redaction(step.settings.secrets).of_text(str(error))
            message = f"notebook '{step.notebook.label}': could not make its report: {reason}"
            raise ReportError(message, is_death=error.is_death) from None
        yield report


def _stem(run: WorkflowRun, notebook: NotebookSpec, stamp: str) -> str:
    """Return the stem of a notebook's output files: workflow, label, notebook, date, parameters, and time."""
    workflow = "--".join(_name_part(name) for name in (run.workflow.name, run.label) if name)
    every = () if run.every is Every.DAY else (run.every.value,)
    date = run.reference_date.isoformat()
    return "__".join((workflow, _name_part(notebook.label), date, *every, run.key.parameters_hash[:8], stamp))


def _task_runner(threads: int) -> "prefect.task_runners.TaskRunner[PrefectFuture[Any]]":
    """Return the task runner for the notebooks of a workflow: threads, as they only wait for kernels."""
    return cast("prefect.task_runners.TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=threads))


def _prefect_name(name: str) -> str:
    """Return `name` without the characters that Prefect does not allow in the name of a flow."""
    return re.sub(r"[/%&<>]", "-", name)


def _constant(name: str) -> Callable[[], str]:
    """Return a function that returns `name`, as Prefect would replace braces in a string."""
    return lambda: name


def _stamp(time_utc: datetime.datetime) -> str:
    """Return a time for a filename, to the millisecond."""
    return f"{time_utc:%Y%m%dT%H%M%S}.{time_utc.microsecond // 1000:03d}Z"


def _name_part(name: str) -> str:
    """Return `name` without characters that are unsafe in filenames, still different for different names."""
    clean = re.sub(r"[^\w.-]+", "-", name).strip("-.").encode()[:LONGEST_NAME_PART].decode(errors="ignore")
    if clean == name:
        return name
    return f"{clean}-{hashlib.sha256(name.encode()).hexdigest()[:6]}".lstrip("-")

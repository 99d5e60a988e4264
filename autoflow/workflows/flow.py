"""Workflows as Prefect flows, with a task for each notebook."""

import datetime
import functools
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import prefect
from prefect.cache_policies import NO_CACHE
from prefect.context import TagsContext
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from autoflow.cluster.work import Place, ThisMachine, Work
from autoflow.dates.periods import Every
from autoflow.errors import AutoflowError, RunSkipped, RunStopped
from autoflow.notebooks.execution import CellCallback
from autoflow.notebooks.live_files import live_name
from autoflow.notebooks.sources import source_as_json
from autoflow.orchestration.artifacts import show_outcome
from autoflow.orchestration.flow_runs import result_storage
from autoflow.runs.records import utc_now
from autoflow.runs.run import NotebookOutputs, Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import RUN_DIRS, SHARED_DIRS, Json, NotebookSpec, WorkflowSpec
from autoflow.system.log import bugs_logged, current_log_fields, log_fields
from autoflow.system.stop_signal import StopSignal
from autoflow.utils import name_part

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


def make_notebooks_workflow(
    run: WorkflowRun,
    settings: Settings,
    *,
    outcome: Outcome | None = None,
    stop: StopSignal | None = None,
    display: Display | None = None,
    place: Place | None = None,
    done: Callable[[], None] | None = None,
) -> "prefect.Flow[[str, list[list[str]], dict[str, Any]], Any]":
    """Return a Prefect flow that runs the notebooks of `run.workflow`, each as soon as those that it needs are done.

    The flow takes the reference date, the date ranges and the parameters, for display in Prefect; it fails if a
    notebook fails, and is cancelled if `stop` is set. It writes the results into `outcome`, even if the Prefect API
    fails, and shows the notebooks on `display`. It calls `done` when all notebooks have ended, before Prefect learns of
    it. The notebooks are executed in `place`, by default on this machine.
    """
    outcome = Outcome() if outcome is None else outcome
    steps = _steps(run, settings, outcome, stop or StopSignal(), display or Display(), place or ThisMachine(settings))

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
    place: Place,
) -> list[Step]:
    stamp = _stamp(utc_now())
    stop = StopSignal(stop)  # a notebook that skips the run sets it
    return [
        Step(
            run=run,
            notebook=notebook,
            stem=_stem(run, notebook, stamp),
            settings=settings,
            outcome=outcome,
            stop=stop,
            place=place,
            on_cell=functools.partial(display.progress, notebook.label) if display.progress else None,
            log_fields={**current_log_fields(), "notebook": notebook.label},
            live=live_name(display.live, name_part(notebook.label)) if display.live else None,
            folders=_folders(run, stamp),
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
    """Return what makes Prefect show the flow as completed, skipped or cancelled; raise the error of a failed run."""
    if outcome.skip:
        return Completed(name="Skipped", message=str(outcome.skip))
    if isinstance(outcome.error, RunStopped):
        return Cancelled(message=str(outcome.error))
    if outcome.error:
        raise outcome.error from None
    return None


@prefect.task(persist_result=False, cache_policy=NO_CACHE, log_prints=False)
def notebook_task(step: Step, upstream: Mapping[str, NotebookOutputs]) -> Any:
    """Run one notebook and return its outputs; `upstream` has those of the notebooks that it depends on."""
    started = time.monotonic()
    try:
        with log_fields(**step.log_fields), bugs_logged(step.settings.secrets):
            outputs = run_notebook(step, upstream)
    except AutoflowError as error:
        step.outcome.errors[step.notebook.label] = error
        if isinstance(error, RunSkipped):
            # The notebooks beside it are of no use any more.
            step.stop.set(f"notebook '{step.notebook.label}' has skipped the run")
        if step.outcome.skip and isinstance(error, RunSkipped | RunStopped):
            # Notebooks that need this one do not start after this state.
            return Cancelled(name="Skipped", message=str(error))
        # Without its cause: Prefect stores what it gets, and a notebook's traceback can contain anything.
        raise error from None
    finally:
        step.outcome.seconds[step.notebook.label] = time.monotonic() - started
    step.outcome.outputs[step.notebook.label] = outputs
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

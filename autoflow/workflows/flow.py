"""Workflows as Prefect flows: a task for each notebook, and the record of how a run of them went."""

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

from autoflow.errors import AutoflowError, ReportError, RunStopped
from autoflow.kernels.fork_server import ForkServer
from autoflow.log import bugs_told
from autoflow.notebooks.execution import CellCallback, execute
from autoflow.orchestration.artifacts import show_outcome
from autoflow.orchestration.flow_runs import result_storage
from autoflow.reports import ReportContext, convert
from autoflow.runs.records import utc_now
from autoflow.runs.run import NotebookOutputs, Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import Json, NotebookSpec, WorkflowSpec
from autoflow.stop_signal import StopSignal

LONGEST_NAME_PART = 60
"""Of a workflow's or notebook's name in the name of a file, in bytes; a whole name may have 255."""


Progress = Callable[[str, int, int], None]
"""Called as each cell starts, with the label of its notebook, its number counted from 1, and the number of cells."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """All that the task of one notebook needs. `stem` begins the names of the files that it leaves."""

    run: WorkflowRun
    notebook: NotebookSpec
    stem: str
    settings: Settings
    outcome: Outcome
    stop: StopSignal
    on_cell: CellCallback | None = None
    fork_server: ForkServer | None = None


def make_notebooks_workflow(
    run: WorkflowRun,
    settings: Settings,
    *,
    outcome: Outcome | None = None,
    stop: StopSignal | None = None,
    progress: Progress | None = None,
    fork_server: ForkServer | None = None,
    done: Callable[[], None] | None = None,
) -> "prefect.Flow[[str, list[list[str]], dict[str, Any]], Any]":
    """Return a Prefect flow that runs the notebooks of `run.workflow`, each as soon as those that it needs are done.

    The flow takes the reference date, the date ranges and the parameters, which Prefect shows; it fails if a notebook
    fails, and is cancelled if `stop` is set. `outcome` tells afterwards what became of each notebook, whatever
    becomes of the Prefect API, and `progress` meanwhile how far they are. `done` is called when all have ended, before
    Prefect is told of it. `fork_server` makes kernels start sooner.
    """
    outcome = outcome or Outcome()
    stop = stop or StopSignal()
    stamp = _stamp(utc_now())

    def step_of(notebook: NotebookSpec) -> Step:
        return Step(
            run=run,
            notebook=notebook,
            stem=_stem(run, notebook, stamp),
            settings=settings,
            outcome=outcome,
            stop=stop,
            on_cell=functools.partial(progress, notebook.label) if progress else None,
            fork_server=fork_server,
        )

    @prefect.flow(
        name=_prefect_name(run.workflow.name),
        flow_run_name=_constant(str(run)),
        task_runner=_task_runner(len(run.workflow.notebooks)),
        persist_result=False,
        result_storage=result_storage(settings),
        validate_parameters=False,
    )
    def notebooks_workflow(reference_date: str, date_ranges: list[list[str]], parameters: dict[str, Any]) -> Any:  # noqa: ARG001 - a state of Prefect's, or nothing; the parameters are shown in Prefect
        _run_notebooks(run.workflow, step_of)
        if done:
            done()
        show_outcome(run, outcome, settings)
        if isinstance(outcome.error, RunStopped):
            return Cancelled(message=str(outcome.error))
        if outcome.error:
            raise outcome.error from None
        return None

    return notebooks_workflow


def _run_notebooks(workflow: WorkflowSpec, step_of: Callable[[NotebookSpec], Step]) -> None:
    """Run the notebooks as Prefect tasks, each as soon as those that it needs are done; return when all have ended."""
    futures: dict[str, PrefectFuture[NotebookOutputs]] = {}
    for notebook in workflow.notebooks:
        upstream = {label: futures[label] for label in sorted(workflow.dependencies(notebook))}
        task = notebook_task.with_options(name=notebook.label, task_run_name=_constant(notebook.label))
        # Without the run's tags: for each set of tags that a task has, Prefect keeps a client for ever.
        with TagsContext(current_tags=set()):
            futures[notebook.label] = task.submit(
                cast("Step", quote(step_of(notebook))), cast("Mapping[str, NotebookOutputs]", upstream)
            )
    wait(list(futures.values()))


@prefect.task(persist_result=False, cache_policy=NO_CACHE, log_prints=False)
def notebook_task(step: Step, upstream: Mapping[str, NotebookOutputs]) -> NotebookOutputs:
    """Run one notebook; `upstream` holds what the notebooks left on which it depends."""
    try:
        with bugs_told(step.settings.secrets):
            outputs = run_notebook(step, upstream)
    except AutoflowError as error:
        step.outcome.errors[step.notebook.label] = error
        # Without its cause: Prefect keeps what it is shown, and a notebook's own traceback can hold anything.
        raise error from None
    step.outcome.outputs[step.notebook.label] = outputs
    return outputs


def run_notebook(step: Step, upstream: Mapping[str, NotebookOutputs]) -> NotebookOutputs:
    """Run one notebook and make its reports.

    Raises
    ------
    NotebookError, ReportError, RunStopped
        The executed notebook is there all the same, as far as it came.

    """
    if step.stop.is_set:
        raise RunStopped(step.stop.reason)
    notebook, settings = step.notebook, step.settings
    executed = settings.notebooks_dir / f"{step.stem}.ipynb"
    outputs = NotebookOutputs(executed)
    try:
        # Somebody may have tidied up. Not the parents: of a disk that is not mounted there is nothing to make.
        settings.notebooks_dir.mkdir(exist_ok=True)
        settings.reports_dir.mkdir(exist_ok=True)
        execute(
            notebook.path,
            executed,
            label=notebook.label,
            parameters=parameter_values(step.run, notebook, settings.flowapi_url, upstream),
            environment=settings.kernel_environ,
            secrets=settings.secrets,
            timeout=notebook.timeout,
            stop=step.stop,
            on_cell=step.on_cell,
            fork_server=step.fork_server,
        )
        return NotebookOutputs(executed, tuple(_reports(step, executed)))
    except AutoflowError:
        step.outcome.outputs[notebook.label] = outputs
        raise
    except OSError as error:
        raise ReportError(f"notebook '{notebook.label}': {executed} cannot be written: {error.strerror}") from error


def parameter_values(
    run: WorkflowRun, notebook: NotebookSpec, flowapi_url: str, upstream: Mapping[str, NotebookOutputs]
) -> dict[str, Json]:
    """Return the values of the parameters of `notebook`, by the names that it has for them."""
    values: dict[str, Json] = dict(run.parameters)
    values |= {label: str(outputs.executed) for label, outputs in upstream.items()}
    values |= {
        "flowapi_url": flowapi_url,
        "reference_date": run.reference_date.isoformat(),
        "date_ranges": [list(interval.as_strings()) for interval in run.date_ranges],
    }
    return {name: values[source] for name, source in notebook.parameters.items()}


def _reports(step: Step, executed: Path) -> Iterable[Path]:
    output = step.notebook.output
    for report_format in output.formats if output else ():
        report = step.settings.reports_dir / f"{step.stem}.{report_format}"
        try:
            convert(
                executed,
                report,
                report_format=report_format,
                context=ReportContext(workflow=step.run.workflow.name, reference_date=step.run.reference_date),
                template=(output.template if output else None) or step.settings.asciidoc_template_path,
                inputs_dir=step.notebook.path.parent,
                timeout=step.settings.report_timeout,
                stop=step.stop,
            )
        except ReportError as error:
            raise ReportError(f"notebook '{step.notebook.label}': its report could not be made: {error}") from error
        yield report


def _stem(run: WorkflowRun, notebook: NotebookSpec, stamp: str) -> str:
    """Return how the names of a notebook's outputs begin: who, what, for when, with what, and when."""
    names = (_name_part(run.workflow.name), _name_part(notebook.label))
    return "__".join((*names, run.reference_date.isoformat(), run.key.parameters_hash[:8], stamp))


def _task_runner(threads: int) -> "prefect.task_runners.TaskRunner[PrefectFuture[Any]]":
    """Return what runs the notebooks of a workflow: threads, for all that they do is to wait for their kernels."""
    return cast("prefect.task_runners.TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=threads))


def _prefect_name(name: str) -> str:
    """Return `name` without the characters that Prefect does not allow in the name of a flow."""
    return re.sub(r"[/%&<>]", "-", name)


def _constant(name: str) -> Callable[[], str]:
    """Return a function that returns `name`: Prefect would fill in braces in a text."""
    return lambda: name


def _stamp(time_utc: datetime.datetime) -> str:
    """Return a time for the name of a file, to the millisecond."""
    return f"{time_utc:%Y%m%dT%H%M%S}.{time_utc.microsecond // 1000:03d}Z"


def _name_part(name: str) -> str:
    """Return `name` with nothing in it that a file's name should not have, and different for different names."""
    clean = re.sub(r"[^\w.-]+", "-", name).strip("-.").encode()[:LONGEST_NAME_PART].decode(errors="ignore")
    if clean == name:
        return name
    return f"{clean}-{hashlib.sha256(name.encode()).hexdigest()[:6]}".lstrip("-")

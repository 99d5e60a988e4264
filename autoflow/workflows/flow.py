"""Workflows as Prefect flows, with a task for each notebook."""

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import prefect
from prefect.cache_policies import NO_CACHE
from prefect.context import TagsContext
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from autoflow.cluster.work import Place
from autoflow.errors import AutoflowError, RunSkipped, RunStopped
from autoflow.orchestration.artifacts import show_outcome
from autoflow.orchestration.flow_runs import result_storage
from autoflow.runs.run import NotebookOutputs, Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.system.stop_signal import StopSignal
from autoflow.workflows.execution import Display, Execution


def make_notebooks_workflow(
    run: WorkflowRun,
    settings: Settings,
    *,
    outcome: Outcome | None = None,
    stop: StopSignal | None = None,
    display: Display | None = None,
    place: Place | None = None,
) -> "prefect.Flow[[str, list[list[str]], dict[str, Any]], Any]":
    """Return a Prefect flow that runs the notebooks of `run.workflow`, each as soon as those that it needs are done.

    The flow takes the reference date, the date ranges and the parameters, for display in Prefect; it fails if a
    notebook fails, and is cancelled if `stop` is set. The other arguments are those of `Execution`.
    """
    return flow_of(Execution(run, settings, outcome=outcome, stop=stop, display=display, place=place))


def flow_of(execution: Execution) -> "prefect.Flow[[str, list[list[str]], dict[str, Any]], Any]":
    """Return the Prefect flow of `execution`, which starts it unless it is at work already."""
    run = execution.run

    @prefect.flow(
        name=_prefect_name(run.workflow.name),
        flow_run_name=_constant(str(run)),
        task_runner=_task_runner(len(run.workflow.notebooks)),
        persist_result=False,
        result_storage=result_storage(execution.settings),
        validate_parameters=False,
    )
    def notebooks_workflow(reference_date: str, date_ranges: list[list[str]], parameters: dict[str, Any]) -> Any:  # noqa: ARG001 - they are for display in Prefect
        execution.start()
        _run_tasks(execution)
        show_outcome(run, execution.outcome, execution.settings)
        return _final_state(execution.outcome)

    return notebooks_workflow


def _run_tasks(execution: Execution) -> None:
    """Run a Prefect task for each notebook, with the same dependencies; return when all have ended."""
    futures: dict[str, PrefectFuture[NotebookOutputs]] = {}
    workflow = execution.run.workflow
    for notebook in workflow.notebooks:
        label = notebook.label
        upstream = {name: futures[name] for name in sorted(workflow.dependencies(notebook))}
        task = notebook_task.with_options(name=label, task_run_name=_constant(label))
        # Without the run's tags: Prefect keeps a client forever for each set of tags that a task has.
        with TagsContext(current_tags=set()):
            needed = cast("Mapping[str, NotebookOutputs]", upstream)
            futures[label] = task.submit(cast("Execution", quote(execution)), label, needed)
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
def notebook_task(execution: Execution, label: str, upstream: Mapping[str, NotebookOutputs]) -> Any:  # noqa: ARG001 - Prefect waits for it
    """Wait until a notebook has ended, and return its outputs; `upstream` are those of notebooks that it needs."""
    try:
        return execution.outputs_of(label)
    except AutoflowError as error:
        if execution.outcome.skip and isinstance(error, RunSkipped | RunStopped):
            # Notebooks that need this one do not start after this state.
            return Cancelled(name="Skipped", message=str(error))
        # Without its cause: Prefect stores what it gets, and a notebook's traceback can contain anything.
        raise error from None


def _task_runner(threads: int) -> "prefect.task_runners.TaskRunner[PrefectFuture[Any]]":
    """Return the task runner for the notebooks of a workflow: threads, as they only wait for kernels."""
    return cast("prefect.task_runners.TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=threads))


def _prefect_name(name: str) -> str:
    """Return `name` without the characters that Prefect does not allow in the name of a flow."""
    return re.sub(r"[/%&<>]", "-", name)


def _constant(name: str) -> Callable[[], str]:
    """Return a function that returns `name`, as Prefect would replace braces in a string."""
    return lambda: name

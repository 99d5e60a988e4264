"""Workflows as Prefect flows: a task for each notebook, and the record of how a run of them went."""

import datetime
import functools
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import prefect
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun
from prefect.context import TagsContext
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from autoflow.artifacts import show_outcome
from autoflow.cancellation import Cancellations, Watched
from autoflow.errors import AutoflowError, NotebookError, ReportError, RunStopped, RunStoreError
from autoflow.flow_runs import FlowRuns, result_storage
from autoflow.forked_kernels import ForkServer
from autoflow.heartbeat import Heartbeat
from autoflow.log import bugs_told, logger
from autoflow.model import Claim, RunError, RunState, RunStore, utc_now
from autoflow.notebooks import CellCallback, execute
from autoflow.reports import ReportContext, convert
from autoflow.runs import EndedRun, NotebookOutputs, Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import Json, NotebookSpec, WorkflowSpec
from autoflow.stop_signal import Shutdown, StopSignal
from autoflow.utils import first_line

LONGEST_NAME_PART = 60
"""Of a workflow's or notebook's name in the name of a file, in bytes; a whole name may have 255."""

RECORD_RETRY_SECONDS = 2.0
"""How long to wait before the end of a run is recorded again in a database that is gone."""

SLOT_POLL_SECONDS = 0.5
"""How often a run that waits for room looks whether it is still wanted."""

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


def make_notebooks_workflow(  # noqa: PLR0913 - each is a thing of its own
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
    def notebooks_workflow(reference_date: str, date_ranges: list[list[str]], parameters: dict[str, Any]) -> Any:  # noqa: ANN401, ARG001 - a state of Prefect's, or nothing; the parameters are shown in Prefect
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


@dataclass(frozen=True, kw_only=True)
class WorkflowRunner:
    """Runs workflows, each once: with a claim in the run store, a heartbeat, and a record of the end.

    As many go side by side as there are `slots`, one by default, whoever asks for them; more wait. `cancellations` stop
    a run that somebody cancels in Prefect. Each of `followers` is told of every end, in the
    thread of the run: it has to be quick. Kernels start sooner if there is a `fork_server`.
    """

    settings: Settings
    store: RunStore
    heartbeat: Heartbeat
    cancellations: Cancellations = field(default_factory=Cancellations)
    slots: threading.Semaphore = field(default_factory=threading.Semaphore)
    followers: Sequence[Callable[[EndedRun], None]] = ()
    fork_server: ForkServer | None = None
    flow_runs: FlowRuns = field(default_factory=FlowRuns)

    def run(
        self,
        run: WorkflowRun,
        *,
        shutdown: Shutdown,
        again: bool = False,
        progress: Progress | None = None,
        cancel: StopSignal | None = None,
    ) -> RunState | None:
        """Run `run` unless it is done or running elsewhere; return its state at the end, or None if it was not run.

        With `again`, it is run also if it is done. `progress` is told of each cell. `cancel`, a child of the
        shutdown's signal, is set when somebody cancels what the run is a part of.

        Raises
        ------
        RunStoreError
            If no claim could be made because the run store cannot be reached.

        """
        cancel = cancel or StopSignal(shutdown.stop)
        with self._slot(shutdown, cancel) as is_free:
            if not is_free or (claim := self.store.claim(run.key, again=again)) is None:
                return None
            return self._run(run, claim, shutdown, cancel, progress)

    @contextmanager
    def _slot(self, shutdown: Shutdown, cancel: StopSignal) -> Iterator[bool]:
        """Wait until there is room for one more run, and keep it for the block; yield False if there is to be none."""
        is_free = False
        while not (shutdown.is_closing or cancel.is_set or is_free):
            is_free = self.slots.acquire(timeout=SLOT_POLL_SECONDS)
        try:
            yield is_free and not shutdown.is_closing
        finally:
            if is_free:
                self.slots.release()

    def _run(
        self, run: WorkflowRun, claim: Claim, shutdown: Shutdown, cancel: StopSignal, progress: Progress | None
    ) -> RunState:
        logger.info("started %s%s", run, f" (attempt {claim.attempt})" if claim.attempt > 1 else "")
        started = time.monotonic()
        if self.fork_server:
            self.fork_server.warm_up(self.settings.kernel_environ)
        outcome = Outcome()
        with self.cancellations.of(StopSignal(cancel)) as watched:
            stop = StopSignal(watched.stop)
            ended: list[tuple[RunState, RunError | None]] = []

            def record_unless_stopped() -> None:
                state, error = _judge(run, outcome, None)
                if state is not RunState.INTERRUPTED and self._record(claim, state, outcome, error, shutdown.stop):
                    ended.append((state, error))

            with self.heartbeat.of(claim, stop):
                workflow = make_notebooks_workflow(
                    run,
                    self.settings,
                    outcome=outcome,
                    stop=stop,
                    progress=progress,
                    fork_server=self.fork_server,
                    # Not only at the end of the flow, for which Prefect has to answer.
                    done=record_unless_stopped,
                )
                problem = self._run_flow(workflow, run, claim, watched)
                if not ended:
                    state, error = _judge(run, outcome, problem)
                    # A run that we stop ourselves is shown as cancelled in Prefect, too.
                    stopped_by_us = shutdown.stop.is_set or stop.wait(0)
                    if state is RunState.INTERRUPTED and not stopped_by_us and (cancel.wait(0) or watched.is_cancelled):
                        state, error = RunState.CANCELLED, RunError("Cancelled", watched.stop.reason)
                    if self._record(claim, state, outcome, error, shutdown.stop):
                        ended.append((state, error))
        if not ended:
            logger.error("the end of %s could not be recorded: it will be taken for crashed, and run again", run)
            return RunState.INTERRUPTED
        [(state, error)] = ended
        _log_end(run, state, outcome, error, seconds=time.monotonic() - started)
        self._tell_followers(EndedRun(run=run, state=state, outcome=outcome))
        return state

    def _tell_followers(self, ended: EndedRun) -> None:
        for follower in self.followers:
            follower(ended)

    def _run_flow(
        self,
        workflow: "prefect.Flow[[str, list[list[str]], dict[str, Any]], Any]",
        run: WorkflowRun,
        claim: Claim,
        watched: Watched,
    ) -> Exception | None:
        """Run the flow; return what Prefect raised, if its API was gone for instance."""
        ranges = [list(interval.as_strings()) for interval in run.date_ranges]

        @workflow.on_running
        def remember(flow: object, flow_run: FlowRun, state: object) -> None:  # noqa: ARG001 - Prefect's signature
            watched.is_run_by(flow_run.id)
            # Not in the way of the run, if it cannot be written: it is only for people to find it in Prefect.
            threading.Thread(target=self._name_flow_run, args=(claim, str(flow_run.id)), daemon=True).start()

        parameters = {
            "reference_date": run.reference_date.isoformat(),
            "date_ranges": ranges,
            "parameters": dict(run.parameters),
        }
        tags = (run.workflow.name, run.reference_date.isoformat())
        try:
            self.flow_runs.run(workflow, parameters, name=str(run), tags=tags)
        except Exception as error:  # noqa: BLE001 - whatever Prefect raises, the run has ended and has to be recorded
            return error
        return None

    def _name_flow_run(self, claim: Claim, flow_run_id: str) -> None:
        try:
            self.store.name_flow_run(claim, flow_run_id)
        except RunStoreError as error:
            logger.debug("%s", error)

    def _record(
        self, claim: Claim, state: RunState, outcome: Outcome, error: RunError | None, stop: StopSignal
    ) -> bool:
        """Record the end of a run, as soon as the run store can be reached: its work is not thrown away.

        Return False if `stop` was set before that.
        """
        outputs = _outputs_as_json(outcome)
        while True:
            try:
                if not self.store.finish(claim, state, outputs=outputs, error=error):
                    logger.warning("%s ended as %s after its claim had been given up as crashed", claim.key, state)
            except RunStoreError as problem:
                logger.warning("%s ended as %s, which cannot be recorded yet: %s", claim.key, state, problem)
                if stop.wait(RECORD_RETRY_SECONDS):
                    return False
            else:
                return True


class PrefectGoneError(AutoflowError):
    """Prefect did not let a run go on to its end."""


def _judge(run: WorkflowRun, outcome: Outcome, problem: Exception | None) -> tuple[RunState, RunError | None]:
    """Return how a run ended: as its notebooks say, if they were all run; otherwise it was interrupted."""
    error = outcome.error
    if isinstance(error, RunStopped):
        return RunState.INTERRUPTED, RunError("Interrupted", str(error))
    if isinstance(error, NotebookError):
        return RunState.FAILED, RunError(error.error_class, error.error_message, error.notebook, error.cell)
    if error:
        return RunState.FAILED, RunError(type(error).__name__, str(error))
    if len(outcome.outputs) < len(run.workflow.notebooks):
        problem = problem or PrefectGoneError("it did not run all notebooks")
        return RunState.INTERRUPTED, RunError(type(problem).__name__, f"the Prefect API failed: {first_line(problem)}")
    return RunState.SUCCEEDED, None


def _outputs_as_json(outcome: Outcome) -> dict[str, Json]:
    return {
        label: {"notebook": str(outputs.executed), "reports": [str(path) for path in outputs.reports]}
        for label, outputs in sorted(outcome.outputs.items())
    }


def _log_end(run: WorkflowRun, state: RunState, outcome: Outcome, error: RunError | None, *, seconds: float) -> None:
    """Log one line: what became of the run, and where to look."""
    if state is RunState.SUCCEEDED:
        paths = EndedRun(run=run, state=state, outcome=outcome).paths
        logger.info("finished %s in %.0f s: %s", run, seconds, ", ".join(str(path) for path in paths))
        return
    failure = outcome.error
    reason = str(failure) if failure else (f"{error.error_class}: {error.message}" if error else "")
    executed = outcome.outputs.get(error.notebook or "") if error else None
    where = f" (see {executed.executed})" if executed else ""
    after = f"; {run.retry.after(run.failures + 1)}" if run.retry and state is RunState.FAILED else ""
    logger.error("%s %s after %.0f s: %s%s%s", state, run, seconds, " ".join(reason.split()), where, after)


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

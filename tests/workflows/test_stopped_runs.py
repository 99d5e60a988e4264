"""A run that is stopped is recorded as interrupted or cancelled, wherever the stop finds it, and never as failed."""

import datetime
import os
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from autoflow.errors import RunStopped
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.orchestration.cancellation import Cancellations
from autoflow.parser import read_workflows
from autoflow.runs.records import RunRecord, RunState
from autoflow.runs.run import WorkflowRun
from autoflow.specs import NotebookSpec, WorkflowSpec
from autoflow.system.stop_signal import Shutdown, StopSignal
from autoflow.workflows.active_run import ActiveRun
from autoflow.workflows.resume import Continuation
from autoflow.workflows.runner import WorkflowRunner
from tests.conftest import Deployed, write_notebook
from tests.waiting import wait_for
from tests.workflows.conftest import FORK_SERVER

DATE = datetime.date(2016, 1, 7)
ONE = """
    workflows: [{name: one, notebooks: {n: {filename: n.ipynb, output: {format: pdf}}}}]
    available_dates_sensor: {schedule: null, workflows: [{workflow_name: one}]}
"""
TWO = """
    workflows: [{name: one, notebooks: {fails: {filename: fails.ipynb}, waits: {filename: n.ipynb}}}]
    available_dates_sensor: {schedule: null, workflows: [{workflow_name: one}]}
"""
MARKDOWN = "from IPython.display import Markdown\nMarkdown('text')"
SLEEPS = "import os, time\nopen('{started}', 'w').write(str(os.getpid()))\ntime.sleep(600)"
RECORDS_AND_RUNS = """
    import os, pathlib, sys
    pathlib.Path({started!r}).write_text(str(os.getpid()))
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
"""


class Stopped:
    """A run that is stopped while its notebook or a program for its report is at work."""

    def __init__(self, deployed: Deployed, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.deployed = deployed
        self.started = folder / "started"
        self.shutdown = Shutdown()
        self.cancel = StopSignal(self.shutdown.stop)
        self._monkeypatch = monkeypatch
        self._programs = folder / "programs"

    def program(self, name: str, script: str) -> None:
        """Put a program, written in Python, before all others on PATH."""
        self._programs.mkdir()
        path = self._programs / name
        script = textwrap.dedent(script).format(started=str(self.started), real=shutil.which(name))
        path.write_text(f"#!{sys.executable}\n{script}")
        path.chmod(0o755)
        self._monkeypatch.setenv("PATH", f"{self._programs}:{os.environ['PATH']}")

    def notebook(self, source: str) -> None:
        """Write the notebook of the workflow."""
        write_notebook(self.deployed.inputs / "n.ipynb", source.format(started=self.started))

    def record(self, stop: Callable[["Stopped"], object], workflows: str = ONE) -> RunRecord:
        """Run the workflow, call `stop` once something is at work, and return the record of the run."""
        self.deployed.write_workflows(workflows)
        settings = self.deployed.settings()
        run = WorkflowRun(
            workflow=read_workflows(settings).workflows[0], parameters={}, reference_date=DATE, date_ranges=()
        )

        def stop_when_started() -> None:
            wait_for(lambda: self.started.exists() and self.started.read_text())
            stop(self)

        with closing(RunStore(settings.db_uri)) as store:
            store.migrate()
            stopper = threading.Thread(target=stop_when_started)
            stopper.start()
            with Heartbeat(store) as heartbeat:
                runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat, fork_server=FORK_SERVER)
                runner.run(run, shutdown=self.shutdown, cancel=self.cancel)
            stopper.join()
            (record,) = store.runs()
            (history,) = store.histories().values()
        failures = history.failures.get(DATE)
        assert (failures.count if failures else 0) == (record.state is RunState.FAILED)
        assert bool(failures and failures.cancelled) is (record.state is RunState.CANCELLED)
        return record


@pytest.fixture
def stopped(deployed: Deployed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stopped]:
    """Yield a run to stop; a program that the test has put in the place of a real one ends with the test."""
    run = Stopped(deployed, monkeypatch, tmp_path)
    yield run
    if run.started.exists():
        with suppress(ProcessLookupError):
            os.kill(int(run.started.read_text()), signal.SIGKILL)


def _shut_down(run: Stopped) -> None:
    run.shutdown.close_at_once("AutoFlow was stopped")


def _cancel(run: Stopped) -> None:
    run.cancel.set("it was cancelled in Prefect")


def _cancel_and_shut_down(run: Stopped) -> None:
    _cancel(run)
    _shut_down(run)


def _terminate_all(run: Stopped) -> None:
    """Do what systemd does: send SIGTERM to the daemon and to each of its processes."""
    run.shutdown.close()
    os.kill(int(run.started.read_text()), signal.SIGTERM)


def _lose_outputs_and_shut_down(run: Stopped) -> None:
    shutil.rmtree(run.deployed.outputs / "notebooks")
    _shut_down(run)


STOPS = {
    _shut_down: RunState.INTERRUPTED,
    _cancel: RunState.CANCELLED,
    _cancel_and_shut_down: RunState.CANCELLED,
    _terminate_all: RunState.INTERRUPTED,
}
CASES = [
    (at_work, stop, state)
    for at_work in ("pandoc", "asciidoctor-pdf", "asciidoctor-pdf for real", "notebook")
    for stop, state in STOPS.items()
    # AutoFlow starts asciidoctor-pdf again after SIGTERM, until the grace period is over.
    if (at_work, stop) != ("asciidoctor-pdf", _terminate_all)
]


@pytest.mark.parametrize(("at_work", "stop", "state"), CASES)
def test_a_run_that_is_stopped_has_not_failed(
    at_work: str, stop: Callable[[Stopped], None], state: RunState, stopped: Stopped
) -> None:
    stopped.notebook(SLEEPS if at_work == "notebook" else MARKDOWN)
    if at_work != "notebook":
        name, _, is_real = at_work.partition(" ")
        stopped.program(name, RECORDS_AND_RUNS if is_real else SLEEPS)

    record = stopped.record(stop)

    # A conversion that is killed while it loads may succeed: it is started again.
    assert record.state in ({state, RunState.SUCCEEDED} if "real" in at_work else {state})


def test_the_end_of_a_run_that_autoflow_stops_is_recorded_before_prefect_learns_of_it(deployed: Deployed) -> None:
    shutdown = Shutdown()
    cancel = StopSignal(shutdown.stop)
    workflow = WorkflowSpec(name="one", notebooks=(NotebookSpec(label="n", path=deployed.inputs / "n.ipynb"),))
    run = WorkflowRun(workflow=workflow, parameters={}, reference_date=DATE, date_ranges=())
    with closing(RunStore(deployed.settings().db_uri)) as store, Cancellations().of(StopSignal(cancel)) as watched:
        store.migrate()
        claim = store.claim(run.key)
        assert claim
        active = ActiveRun(
            run=run,
            claim=claim,
            store=store,
            shutdown=shutdown,
            cancel=cancel,
            watched=watched,
            inputs_dir=deployed.inputs,
            continuation=Continuation.of(run, claim, deployed.settings(), store),
        )
        shutdown.close_at_once("AutoFlow was stopped")
        active.outcome.errors["n"] = RunStopped("AutoFlow was stopped")
        # Prefect may not answer for longer than AutoFlow waits.
        active.record_end()
        (record,) = store.runs()
    assert record.state is RunState.INTERRUPTED


def test_a_notebook_that_cannot_be_written_while_the_run_is_stopped_has_not_failed(stopped: Stopped) -> None:
    stopped.notebook(SLEEPS)

    assert stopped.record(_lose_outputs_and_shut_down).state is RunState.INTERRUPTED


def test_a_cancelled_run_is_cancelled_even_if_another_of_its_notebooks_has_failed(stopped: Stopped) -> None:
    write_notebook(stopped.deployed.inputs / "fails.ipynb", "raise ValueError('on its own')")
    stopped.notebook(SLEEPS)

    def cancel_after_failure(run: Stopped) -> None:
        wait_for(lambda: any("on its own" in path.read_text() for path in run.deployed.executed()))
        _cancel(run)

    record = stopped.record(cancel_after_failure, TWO)

    assert record.state is RunState.CANCELLED


def test_a_tool_that_is_killed_while_nobody_stops_autoflow_fails_the_run(stopped: Stopped) -> None:
    stopped.notebook(MARKDOWN)
    stopped.program("pandoc", SLEEPS)

    record = stopped.record(lambda run: os.kill(int(run.started.read_text()), signal.SIGTERM))

    assert record.state is RunState.FAILED

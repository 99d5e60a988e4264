"""Runs that a user starts and waits for; a daemon may be running as well."""

import functools
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from autoflow.app import foreground_runner
from autoflow.cli.progress import Watch, watching
from autoflow.cli.session import Session
from autoflow.cli.show import console
from autoflow.errors import AutoflowError, ExitCode
from autoflow.model.store import RunStore
from autoflow.runs.records import RunKey, RunState
from autoflow.runs.run import WorkflowRun
from autoflow.specs import WorkflowsFile
from autoflow.system.stop_signal import Shutdown, closing_on_signals, join_threads
from autoflow.workflows.runner import WorkflowRunner

T = TypeVar("T")

LEFT_TO_OTHERS = "left to others"
"""Used instead of a state if another process runs the date, or has run it."""


def run_side_by_side(
    wanted: Sequence[T], run: Callable[[T], None], *, limit: int, shutdown: Shutdown, grace: float
) -> None:
    """Call `run` with each of `wanted`, in their order, up to `limit` at a time, until `shutdown` closes.

    Runs in progress may then continue for `grace` seconds, unless they have to stop at once. They are in threads of
    their own: in the main thread, Prefect would take over SIGTERM.
    """
    waiting = iter(wanted)
    lock = threading.Lock()

    def work() -> None:
        while not shutdown.is_closing:
            with lock:
                each = next(waiting, None)
            if each is None:
                return
            run(each)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(limit, len(wanted)))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) and not shutdown.wait_until_closing(0.1):
        pass
    if shutdown.is_closing:
        shutdown.stop_after(grace, functools.partial(join_threads, threads))


class ForegroundRuns:
    """Runs in the foreground; `states` has the state of each that has ended."""

    def __init__(self, session: Session, store: RunStore, *, again: bool) -> None:
        self._session = session
        self._store = store
        self._again = again
        self._has_failures = False
        self.states: dict[RunKey, str] = {}

    def carry_out(self, file: WorkflowsFile, wanted: Sequence[WorkflowRun]) -> ExitCode:
        """Carry out the `wanted` runs of workflows in `file`; return the exit code."""
        shutdown = Shutdown()
        with closing_on_signals(shutdown) as interrupted:
            self._run_all(file, wanted, shutdown)
        if interrupted or shutdown.is_closing:
            return ExitCode.INTERRUPTED
        return ExitCode.FAILURE if self._has_failures else ExitCode.SUCCESS

    def _run_all(self, file: WorkflowsFile, runs: Sequence[WorkflowRun], shutdown: Shutdown) -> None:
        settings = self._session.settings
        if sys.stderr.isatty():
            console(stderr=True).print("preparing…", end="\r")
        with (
            foreground_runner(settings, self._store, sensor=file.sensor) as runner,
            watching(self._session, total=len(runs)) as watch,
        ):
            one = functools.partial(self._run_one, runner=runner, shutdown=shutdown, watch=watch)
            run_side_by_side(runs, one, limit=runner.most_at_once, shutdown=shutdown, grace=settings.shutdown_grace)

    def _run_one(self, run: WorkflowRun, *, runner: WorkflowRunner, shutdown: Shutdown, watch: Watch) -> None:
        try:
            progress = functools.partial(watch.cell, run.key)
            state = runner.run(run, shutdown=shutdown, again=self._again, progress=progress)
            if state is not None or not shutdown.is_closing:
                self.states[run.key] = str(state or LEFT_TO_OTHERS)
                self._has_failures |= state is not None and not state.is_success
        except AutoflowError as error:
            self.states[run.key] = str(RunState.FAILED)
            self._has_failures = True
            console(stderr=True).print(f"could not start {run}: {error}", markup=False)
        watch.ended(run.key)

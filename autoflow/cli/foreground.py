"""Runs that a user starts and waits for; a daemon may be running as well."""

import functools
import sys
import threading
from collections.abc import Callable, Collection, Sequence
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

HELD_POLL_SECONDS = 0.2
"""How often a date that another process runs is checked for a sign of life of that process."""

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
        self._held: Collection[RunKey] = ()
        self.states: dict[RunKey, str] = {}

    def carry_out(
        self, file: WorkflowsFile, wanted: Sequence[WorkflowRun], *, held: Collection[RunKey] = ()
    ) -> ExitCode:
        """Carry out the `wanted` runs of workflows in `file`; return the exit code.

        Those that are `held` by another process are left to it if it shows a sign of life, or finishes them.
        """
        self._held = held
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
        notebooks = sum(len(run.workflow.notebooks) for run in runs)
        with (
            foreground_runner(settings, self._store, sensor=file.sensor, notebooks=notebooks) as runner,
            watching(self._session, total=len(runs)) as watch,
        ):
            one = functools.partial(self._run_one, runner=runner, shutdown=shutdown, watch=watch)
            run_side_by_side(runs, one, limit=runner.most_at_once, shutdown=shutdown, grace=settings.shutdown_grace)

    def _run_one(self, run: WorkflowRun, *, runner: WorkflowRunner, shutdown: Shutdown, watch: Watch) -> None:
        try:
            progress = functools.partial(watch.cell, run.key)
            is_left = run.key in self._held and self._is_left_to_others(run.key, shutdown)
            state = None if is_left else runner.run(run, shutdown=shutdown, again=self._again, progress=progress)
            if state is not None or not shutdown.is_closing:
                self.states[run.key] = str(state or LEFT_TO_OTHERS)
                self._has_failures |= state is not None and not state.is_success
        except AutoflowError as error:
            self.states[run.key] = str(RunState.FAILED)
            self._has_failures = True
            console(stderr=True).print(f"could not start {run}: {error}", markup=False)
        watch.ended(run.key)

    def _is_left_to_others(self, key: RunKey, shutdown: Shutdown) -> bool:
        """Wait until the process that runs a date renews its heartbeat, ends the run or has crashed.

        Return whether the date is left to it.
        """
        last = heartbeat = None
        while not shutdown.is_closing:
            date = key.reference_date
            last = next(iter(self._store.runs(workflow=key.workflow_key, first=date, last=date, limit=1)), None)
            if last is None or not last.state.is_active:
                return last is not None and last.state.is_success
            if last.heartbeat_at != (heartbeat := heartbeat or last.heartbeat_at):
                return True
            self._store.give_up_crashed()
            shutdown.wait_until_closing(HELD_POLL_SECONDS)
        return True

"""Runs that a person has asked for and waits for, beside the daemon if there is one."""

import functools
import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from autoflow.app import make_folders
from autoflow.cli.progress import Watch, watching
from autoflow.cli.session import Session
from autoflow.cli.show import console
from autoflow.errors import AutoflowError, RunStopped
from autoflow.kernels.fork_server import warm_fork_server
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.prefect_api import free_port, prefect_api
from autoflow.orchestration.server_process import is_ready
from autoflow.runs.requests import requested_run
from autoflow.settings import Settings
from autoflow.stop_signal import Shutdown, closing_on_signals, join_threads

if TYPE_CHECKING:
    from autoflow.runs.records import RunKey
    from autoflow.runs.run import WorkflowRun
    from autoflow.specs import TriggerSpec, WorkflowsFile
    from autoflow.workflows.runner import WorkflowRunner

T = TypeVar("T")


@contextmanager
def reachable_prefect(
    settings: Settings,
    environ: MutableMapping[str, str],
    *,
    shutdown: Shutdown,
    meanwhile: Callable[[], object] = lambda: None,
) -> Iterator[str]:
    """Yield the URL of a Prefect API that answers: the one that is set, or the daemon's, or one for the time being.

    `environ` is prepared for it; Prefect can be imported in the block and in `meanwhile`, which is called while a
    server starts.

    Raises
    ------
    RunStopped
        If `shutdown` closed before it answered.

    """
    url = settings.prefect_api_url or DaemonFiles(home=settings.prefect_home).api_url
    if url and (settings.prefect_api_url or is_ready(url)):
        settings = replace(settings, prefect_api_url=url)
    else:
        # Not on the port where a daemon would be looked for, or would want to start.
        settings = replace(settings, prefect_host="127.0.0.1", prefect_port=free_port())
    with prefect_api(settings, environ) as api:
        meanwhile()
        if not api.wait_until_ready(shutdown):
            raise RunStopped("AutoFlow was stopped")
        yield api.url


@contextmanager
def foreground_runner(
    settings: Settings,
    store: RunStore,
    *,
    triggers: Sequence["TriggerSpec"],
    environ: MutableMapping[str, str],
    shutdown: Shutdown,
) -> Iterator["WorkflowRunner"]:
    """Yield a runner of workflows in this process, with a Prefect API; `triggers` are those of workflows.yml."""
    make_folders(settings)
    # Kernels warm up while a Prefect server starts.
    with (
        warm_fork_server(settings) as fork_server,
        reachable_prefect(settings, environ, shutdown=shutdown, meanwhile=_import_what_runs),
    ):
        from autoflow.workflows.assembly import assembled  # noqa: PLC0415 - as below

        with assembled(settings, store, triggers=triggers, fork_server=fork_server) as assembly:
            yield assembly.runner


def _import_what_runs() -> None:
    # Not above, because Prefect reads its settings from the environment as it is imported.
    importlib.import_module("autoflow.workflows.assembly")


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


INTERRUPTED = 130


class ForegroundRuns:
    """Runs in the foreground; `states` tells what has become of each so far."""

    def __init__(self, session: Session, store: "RunStore", *, again: bool) -> None:
        self._session = session
        self._store = store
        self._again = again
        self.states: dict[RunKey, str] = {}

    def carry_out(self, file: "WorkflowsFile", wanted: Sequence[tuple["RunKey", Mapping[str, Any]]]) -> int:
        """Carry out the `wanted` runs of workflows in `file`, with these parameters; return the exit code."""
        settings = self._session.settings
        shutdown = Shutdown()
        with closing_on_signals(shutdown) as interrupted:
            try:
                if sys.stderr.isatty():
                    console(stderr=True).print("preparing…", end="\r")
                with foreground_runner(
                    settings, self._store, triggers=file.sensor.triggers, environ=os.environ, shutdown=shutdown
                ) as runner:
                    runs = [requested_run(file, key.workflow, key.reference_date, given) for key, given in wanted]
                    with watching(self._session, total=len(runs)) as watch:
                        one = functools.partial(self._run_one, runner=runner, shutdown=shutdown, watch=watch)
                        run_side_by_side(
                            runs,
                            one,
                            limit=settings.max_parallel_runs,
                            shutdown=shutdown,
                            grace=settings.shutdown_grace,
                        )
            except RunStopped:
                return INTERRUPTED
        if interrupted or shutdown.is_closing:
            return INTERRUPTED
        return 0 if all(state in {"succeeded", "left to others"} for state in self.states.values()) else 1

    def _run_one(self, run: "WorkflowRun", *, runner: "WorkflowRunner", shutdown: Any, watch: Watch) -> None:
        try:
            progress = functools.partial(watch.cell, run.key)
            state = runner.run(run, shutdown=shutdown, again=self._again, progress=progress)
            if state is not None or not shutdown.is_closing:
                self.states[run.key] = str(state or "left to others")
        except AutoflowError as error:
            self.states[run.key] = "failed"
            console(stderr=True).print(f"{run} could not be started: {error}", markup=False)
        watch.ended(run.key)

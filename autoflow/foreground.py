"""Runs that a person has asked for and waits for, beside the daemon if there is one."""

import importlib
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from autoflow.app import make_folders
from autoflow.daemon_files import DaemonFiles
from autoflow.errors import RunStopped
from autoflow.forked_kernels import warm_fork_server
from autoflow.model import RunStore
from autoflow.prefect_api import free_port, is_ready, prefect_api
from autoflow.settings import Settings
from autoflow.stop_signal import Shutdown

if TYPE_CHECKING:
    from autoflow.workflows import WorkflowRunner

T = TypeVar("T")

LAST_WAIT = 10.0
"""How long runs that have been told to stop may take to do so, in seconds."""


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
    settings: Settings, store: RunStore, *, environ: MutableMapping[str, str], shutdown: Shutdown
) -> Iterator["WorkflowRunner"]:
    """Yield what runs workflows in this process, with a Prefect API for it."""
    make_folders(settings)
    # Kernels warm up while a Prefect server starts.
    with (
        warm_fork_server(settings) as fork_server,
        reachable_prefect(settings, environ, shutdown=shutdown, meanwhile=_import_what_runs),
    ):
        from autoflow.assembly import assembled  # noqa: PLC0415 - as below

        with assembled(settings, store, fork_server=fork_server) as assembly:
            yield assembly.runner


def _import_what_runs() -> None:
    # Not above, because Prefect reads its settings from the environment as it is imported.
    importlib.import_module("autoflow.assembly")


def run_side_by_side(
    wanted: Sequence[T], run: Callable[[T], None], *, limit: int, shutdown: Shutdown, grace: float
) -> None:
    """Call `run` with each of `wanted`, in their order, up to `limit` at a time, until `shutdown` closes.

    What runs then may go on for `grace` seconds, unless it is to stop at once. The runs are in threads of their own:
    in the main thread, Prefect would take over SIGTERM.
    """
    waiting = iter(wanted)
    taking = threading.Lock()

    def work() -> None:
        while not shutdown.is_closing:
            with taking:
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
        _join(threads, 0 if shutdown.stop.is_set else grace)
        shutdown.stop.set("AutoFlow was stopped")
        _join(threads, LAST_WAIT)


def _join(threads: Sequence[threading.Thread], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))

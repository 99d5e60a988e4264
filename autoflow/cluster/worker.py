"""A worker of the cluster: a Dask worker with a desk, which registers again whenever it has lost the scheduler."""

import asyncio
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Self

import distributed
from distributed import Status

from autoflow.cluster.desk import Desk, Line
from autoflow.cluster.fitness import CHECK_SECONDS
from autoflow.cluster.options import log_with_autoflow, set_options
from autoflow.cluster.security import security
from autoflow.cluster.tasks import DESK
from autoflow.errors import AutoflowError
from autoflow.kernels.fork_server import ForkServer
from autoflow.model.claim_ages import ClaimAges
from autoflow.settings import Settings
from autoflow.system.log import Outage, logger
from autoflow.system.stop_signal import LAST_WAIT, PeriodicThread, Shutdown
from autoflow.utils import owned_folder

SPARE_THREADS = 8
"""Threads beyond the slots, so that an order that cannot be taken is refused at once, and does not wait."""

RECONNECT_SECONDS = 1.0
"""The pause before a worker that has lost the scheduler registers again, in seconds."""

REGISTER_SECONDS = 10.0
"""How long a worker tries to register before it says so, in seconds."""

POLL_SECONDS = 0.1
"""How often a worker that ends checks whether it is idle, in seconds."""

DELIVERY_SECONDS = 3.0
"""How long the daemon may take to fetch the last answers, in seconds."""

WARM_SECONDS = 600.0
"""How long preloaded modules are kept without a notebook, in seconds."""

_GIVEN_UP = frozenset({"cancelled", "released", "forgotten", "error"})
"""States of a task that nobody wants any more."""


def run_worker(settings: Settings, shutdown: Shutdown) -> None:
    """Take orders until `shutdown` closes; then finish those in progress within the shutdown grace.

    Raises
    ------
    AutoflowError
        If it cannot start.

    """
    encryption = security(settings)
    _check_port(settings.worker_port)
    set_options(settings.heartbeat_timeout)
    log_with_autoflow()
    with ExitStack() as stack:
        ages = stack.enter_context(closing(ClaimAges(settings.db_uri)))
        fork_server = None
        if settings.forked_kernels:
            fork_server = stack.enter_context(ForkServer(settings.preload, idle_seconds=WARM_SECONDS))
            fork_server.warm_up(settings.kernel_environ)
        desk = Desk(settings, ages, fork_server)
        desk.fitness.check()
        stack.enter_context(PeriodicThread("fitness", desk.fitness.check, CHECK_SECONDS))
        folder = stack.enter_context(owned_folder("autoflow-worker-", Path(tempfile.gettempdir())))
        with _Connection(desk, folder, encryption, shutdown.close):
            shutdown.wait_until_closing()
            _finish(desk, shutdown, settings.shutdown_grace)


def _check_port(port: int | None) -> None:
    """Raise AutoflowError if a worker cannot listen on `port`: Dask would try for ever, and not say why."""
    if port is None:
        return
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError as error:
            raise AutoflowError(f"AUTOFLOW_WORKER_PORT: the worker cannot use port {port}: {error.strerror}") from error


def _finish(desk: Desk, shutdown: Shutdown, grace: float) -> None:
    """Take no more orders, and wait for those in progress; stop them after the grace, for other workers to do."""
    logger.info("stopping: no new orders are taken")
    desk.drain()
    _wait_until(lambda: desk.is_idle or shutdown.stop.is_set, grace)
    desk.move_all("its worker was stopped")
    _wait_until(lambda: desk.is_idle, LAST_WAIT)


def _wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait up to `seconds` until something holds; return whether it does."""
    deadline = time.monotonic() + seconds
    while not (is_held := holds()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return is_held


class _Connection:
    """Keeps a Dask worker registered with the scheduler, in a thread of its own, for the duration of the block.

    `ended` is called when the thread ends, even if it should not.
    """

    def __init__(
        self, desk: Desk, folder: Path, encryption: distributed.Security | None, ended: Callable[[], None]
    ) -> None:
        self._settings = desk.settings
        self._desk = desk
        self._folder = folder
        self._encryption = encryption
        self._ended = ended
        self._outage = Outage()
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="dask-worker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(2 * DELIVERY_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._stay_registered())
        finally:
            self._ended()

    async def _stay_registered(self) -> None:
        ending: asyncio.Task[Any] = asyncio.ensure_future(self._ending.wait())
        while not self._ending.is_set():
            try:
                await self._serve(ending)
            except (OSError, TimeoutError, ValueError, RuntimeError) as error:
                logger.debug("the worker is not registered: %s", error)
            await asyncio.wait([ending], timeout=RECONNECT_SECONDS)

    async def _serve(self, ending: "asyncio.Task[Any]") -> None:
        """Register a Dask worker, and return when it has lost the scheduler, or this worker ends."""
        logger.info("connecting to the scheduler at %s", self._settings.dask_scheduler)
        starting: asyncio.Task[Any] = asyncio.ensure_future(
            _started(dask_worker(self._desk, self._folder, self._encryption))
        )
        while not (starting.done() or ending.done()):
            await asyncio.wait([starting, ending], timeout=REGISTER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                # Dask itself tries again for ever, and does not say why it fails.
                self._outage.begin(
                    "cannot register with the scheduler at %s; trying again. Does it run, can this machine reach it, "
                    "and are their certificates from one CA?",
                    self._settings.dask_scheduler,
                )
        if not starting.done():
            starting.cancel()
            return
        worker = starting.result()
        self._outage.end("registered after all")
        logger.info("registered as %s with the scheduler at %s", worker.address, self._settings.dask_scheduler)
        finished: asyncio.Task[Any] = asyncio.ensure_future(worker.finished())
        await asyncio.wait([finished, ending], return_when=asyncio.FIRST_COMPLETED)
        if not finished.done():
            # Let the daemon fetch the last answers.
            await asyncio.to_thread(_wait_until, lambda: not worker.data, DELIVERY_SECONDS)
            await worker.close(timeout=DELIVERY_SECONDS, executor_wait=False, reason="stopped")
        elif not self._ending.is_set():
            logger.warning("lost the scheduler at %s; registering again", self._settings.dask_scheduler)


def dask_worker(desk: Desk, folder: Path, encryption: distributed.Security | None) -> distributed.Worker:
    """Return a Dask worker with a desk, which registers when it is awaited; Dask's own files go to `folder`."""
    settings = desk.settings
    extensions: dict[str, Any] = {DESK: partial(_DeskOfWorker, desk)}
    return distributed.Worker(
        settings.dask_scheduler,
        security=encryption,
        port=settings.worker_port or 0,
        nthreads=settings.worker_slots + SPARE_THREADS,
        memory_limit=0,
        local_directory=str(folder),
        dashboard_address="127.0.0.1:0",
        dashboard=False,
        extensions=extensions,
        metrics={"autoflow": lambda _: desk.state() | {"name": _name()}},
    )


async def _started(worker: distributed.Worker) -> distributed.Worker:
    await worker
    return worker


class _DeskOfWorker:
    """The desk, as the tasks of one Dask worker find it."""

    def __init__(self, desk: Desk, worker: distributed.Worker) -> None:
        self._desk = desk
        self._worker = worker

    def perform(self, text: str) -> str:
        """Perform the order of the current task."""
        key = self._worker.get_current_task()
        line = Line(is_wanted=partial(self._is_wanted, key), send=self._worker.log_event)
        return self._desk.perform(text, line)

    def stop(self, order_id: str, reason: str) -> None:
        """Stop an order."""
        self._desk.stop(order_id, reason)

    def _is_wanted(self, key: Any) -> bool:
        """Return whether the scheduler still waits for a task of this worker."""
        if self._worker.status not in {Status.running, Status.paused, Status.closing_gracefully}:
            return False
        task = self._worker.state.tasks.get(key)
        return task is not None and task.state not in _GIVEN_UP


def _name() -> str:
    return f"{socket.gethostname()} pid {os.getpid()}"

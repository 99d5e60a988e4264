"""The desk of a worker: it takes orders, carries them out, and answers."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from autoflow.cluster.fitness import Fitness, own_problem
from autoflow.cluster.lease import Lease
from autoflow.cluster.orders import Answer, Order, Verdict, version_of
from autoflow.cluster.versions import code_version
from autoflow.cluster.work import Result, Work, carry_out
from autoflow.errors import AutoflowError, NoRoomError, NotebookError, RunStopped, RunStoreError, UnexpectedError
from autoflow.kernels.fork_server import ForkServer
from autoflow.model.claim_ages import ClaimAges
from autoflow.notebooks.execution import CellCallback, Means
from autoflow.settings import Settings
from autoflow.system.disk import full_disk
from autoflow.system.log import bugs_logged, log_fields, logger
from autoflow.system.stop_signal import StopSignal
from autoflow.utils import file_digest

INPUTS_PATIENCE = 5.0
"""How long a worker waits for files to be what they are for the daemon: a network file system may be late. Seconds."""

INPUTS_POLL_SECONDS = 0.2
"""How often it looks, in seconds."""

LEASE_SHARE = 2 / 3
"""A lease ends when the claim is older than this share of the heartbeat timeout, after which it may be taken."""

MOST_KNOWN = 10_000
"""How many orders a worker remembers, so that it carries out none of them twice."""

OF_MACHINE = frozenset({"KernelStartError", "MissingSecret", "NoSuchKernel"})
"""Classes of errors that say more about the machine than about the notebook."""


class RefusedError(AutoflowError):
    """An order is not carried out.

    `is_own` is whether the reason is this worker's own, and not just that it is busy. `result` is that of an order
    which was carried out, and has failed for such a reason.
    """

    def __init__(self, reason: str, *, is_own: bool = True, result: Result | None = None) -> None:
        super().__init__(reason)
        self.is_own = is_own
        self.result = result or Result()


@dataclass
class _Job:
    """An order in progress. `is_moved` is whether it was stopped so that another worker can carry it out."""

    topic: str
    stop: StopSignal = field(default_factory=StopSignal)
    is_moved: bool = False


@dataclass(frozen=True)
class Line:
    """The connection to the scheduler: whether it still wants the order with an id, and a way to send it events."""

    is_wanted: Callable[[], bool]
    send: Callable[[str, dict[str, Any]], None]


class Desk:
    """Carries out orders on this machine, in the threads that call `perform`.

    It takes up to `settings.worker_slots` orders at a time, and none while it is draining or the machine is not fit.
    Kernels start faster with a `fork_server`. Claims are read from `ages`. `carry_out` does the work of an order.
    """

    def __init__(
        self,
        settings: Settings,
        ages: ClaimAges,
        fork_server: ForkServer | None = None,
        *,
        carry_out: Callable[[Work, Settings, Means], Result] = carry_out,
    ) -> None:
        self.settings = settings
        self._carry_out = carry_out
        self.fitness = Fitness(partial(own_problem, settings, ages))
        self._ages = ages
        self._fork_server = fork_server
        self._lock = threading.Lock()
        self._jobs: dict[str, _Job] = {}
        self._known: deque[str] = deque(maxlen=MOST_KNOWN)
        self._is_draining = False
        # Now, not when files may have been replaced by those of another version.
        code_version()

    @property
    def is_idle(self) -> bool:
        """Whether no order is in progress."""
        with self._lock:
            return not self._jobs

    def state(self) -> dict[str, Any]:
        """Return what the daemons should know: plain values."""
        with self._lock:
            used = Counter(job.topic for job in self._jobs.values())
        return {
            "slots": self.settings.worker_slots,
            "used": dict(used),
            "version": code_version(),
            "problem": self.problem,
            "draining": self._is_draining,
        }

    @property
    def problem(self) -> str | None:
        """Why it takes no orders; None if it does."""
        return "it is being stopped" if self._is_draining else self.fitness.problem

    def drain(self) -> None:
        """Take no more orders."""
        self._is_draining = True

    def move_all(self, reason: str) -> None:
        """Stop all orders, so that other workers can carry them out."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.is_moved = True
            job.stop.set(reason)

    def stop(self, order_id: str, reason: str) -> None:
        """Stop the order with this id, if it is in progress; return at once."""
        with self._lock:
            job = self._jobs.get(order_id)
        if job:
            threading.Thread(target=job.stop.set, args=[reason], name="stop-order", daemon=True).start()

    def perform(self, text: str, line: Line) -> str:
        """Carry out the order in a text; return the answer."""
        try:
            with bugs_logged(self.settings.secrets), self._job(text) as (order, job), log_fields(**order.log_fields):
                answer = self._answer(order, job, line)
        except RefusedError as refusal:
            if refusal.is_own:
                self.fitness.failed(str(refusal))
            logger.warning("refused an order: %s", refusal)
            answer = Answer(verdict=Verdict.REFUSED, reason=str(refusal), result=refusal.result)
        except UnexpectedError as bug:
            self.fitness.failed(str(bug))
            answer = Answer(verdict=Verdict.DONE, result=Result(error=bug))
        return answer.as_text()

    @contextmanager
    def _job(self, text: str) -> Iterator[tuple[Order, _Job]]:
        """Take the order for the duration of the block; raise RefusedError if that cannot be."""
        order_id, version = version_of(text)
        if version != code_version():
            raise RefusedError(
                f"it is of version {code_version()}, and the daemon of version {version}: use one image", is_own=False
            )
        order = Order.of_text(text, self.settings)
        job = _Job(order.topic)
        with self._lock:
            if reason := self.problem:
                raise RefusedError(reason, is_own=False)
            if len(self._jobs) >= self.settings.worker_slots:
                raise RefusedError("all its slots are taken", is_own=False)
            if order_id in self._known:
                raise RefusedError("it has had the order before", is_own=False)
            self._known.append(order_id)
            self._jobs[order_id] = job
        try:
            yield order, job
        finally:
            with self._lock:
                del self._jobs[order_id]

    def _answer(self, order: Order, job: _Job, line: Line) -> Answer:
        try:
            lease = Lease(
                self._ages,
                order.claim_id,
                job.stop,
                seconds=min(order.heartbeat_timeout, self.settings.heartbeat_timeout) * LEASE_SHARE,
                is_wanted=line.is_wanted,
            )
            with lease:
                result = self._result(order, job, line, lease)
        except RunStoreError as error:
            raise RefusedError(str(error)) from error
        except RunStopped as error:
            return Answer(verdict=Verdict.LOST, reason=str(error))
        if lease.reason:
            logger.warning("ended the notebook %s: %s", order.work.stem, lease.reason)
            return Answer(verdict=Verdict.LOST, reason=lease.reason)
        if job.is_moved and isinstance(result.error, RunStopped):
            raise RefusedError(job.stop.reason, is_own=False)
        self._judge(result)
        logger.info("%s %s", "finished" if result.error is None else "failed", order.work.stem)
        return Answer(verdict=Verdict.DONE, result=result)

    def _result(self, order: Order, job: _Job, line: Line, lease: Lease) -> Result:
        self._wait_for_inputs(order, job.stop)
        if self._fork_server:
            self._fork_server.warm_up(self.settings.kernel_environ)

        def confirm() -> None:
            lease.confirm()
            if job.is_moved:
                raise RunStopped(job.stop.reason)

        logger.info("executing %s", order.work.stem)
        on_cell = _progress(order, line)
        means = Means(stop=job.stop, on_cell=on_cell, fork_server=self._fork_server, confirm=confirm)
        try:
            return self._carry_out(order.work, self.settings, means)
        except RunStopped as error:  # before it started
            return Result(error=error)

    def _wait_for_inputs(self, order: Order, stop: StopSignal) -> None:
        """Wait until the files of the order are those of the daemon; raise RefusedError if they stay different."""
        upstream = [self.settings.notebooks_dir / name for name in order.work.needed_files]
        deadline = time.monotonic() + INPUTS_PATIENCE
        while late := next(_late(order, upstream), None):
            if time.monotonic() > deadline:
                raise RefusedError(f"{late}: is the folder the same one as the daemon's?")
            if stop.wait(INPUTS_POLL_SECONDS):
                return

    def _judge(self, result: Result) -> None:
        """Count whether the order failed for a reason of this worker's own; raise RefusedError if it did."""
        error = result.error
        if error is None or isinstance(error, RunStopped):
            self.fitness.succeeded()
            return
        is_of_machine = isinstance(error, NotebookError) and error.error_class in OF_MACHINE
        if isinstance(error, NotebookError) and error.cell is not None and not is_of_machine:
            self.fitness.succeeded()
            return
        self.fitness.check()
        shared = [self.settings.outputs_dir, self.settings.notebooks_dir, self.settings.reports_dir]
        if isinstance(error, NoRoomError) and full_disk(shared):
            return  # for other workers, too
        if problem := self.fitness.problem:
            raise RefusedError(problem, is_own=False, result=result)
        if is_of_machine:
            raise RefusedError(str(error), result=result)


def _late(order: Order, upstream: list[Path]) -> Iterator[str]:
    """Yield what is missing, or different from what the daemon has."""
    for path, digest in order.digests.items():
        found = None
        with suppress(OSError):
            found = file_digest(path)
        if found != digest:
            yield f"{path} {'is missing' if found is None else 'is not the same file as for the daemon'}"
    for path in upstream:
        if not path.exists():
            yield f"{path} is missing"


def _progress(order: Order, line: Line) -> CellCallback | None:
    """Return a function that sends the daemon each cell that starts; None if it does not want that."""
    if not order.wants_progress:
        return None

    def send(cell: int, cells: int) -> None:
        line.send(order.topic, {"order": order.id, "cell": cell, "cells": cells})

    return send

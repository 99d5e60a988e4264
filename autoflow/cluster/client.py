"""The daemon's end of a cluster: it chooses a worker for each notebook, sends the order and waits for the answer."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import distributed

from autoflow.cluster.options import log_with_autoflow, set_options
from autoflow.cluster.orders import Answer, Order, Verdict
from autoflow.cluster.roster import Roster, WorkerInfo, state_of, worker_info
from autoflow.cluster.security import first_expiry, security
from autoflow.cluster.tasks import perform, stop_order
from autoflow.cluster.versions import code_version
from autoflow.cluster.work import Result, Work
from autoflow.errors import ClusterError, NotebookError, WorkerLostError
from autoflow.notebooks.execution import CellCallback
from autoflow.runs.records import Claim, utc_now
from autoflow.runs.workers import ClusterState
from autoflow.settings import Settings
from autoflow.system.log import Outage, logger
from autoflow.system.stop_signal import PeriodicThread, StopSignal
from autoflow.utils import first_line

LOOK_SECONDS = 1.0
"""How often the daemon asks the scheduler for its workers."""

ANSWER_SECONDS = 5.0
"""How long the scheduler may take to answer, in seconds."""

WAIT_SECONDS = 1.0
"""How often an order that waits for a slot or for its answer looks around, in seconds."""

FETCH_SECONDS = 60.0
"""How long an answer may take from its worker to here, in seconds: many can arrive at once, and the claim is kept."""

STOP_PATIENCE = 8.0
"""How long a worker may take to stop an order, in seconds."""

GONE_AFTER = 5.0
"""How long the scheduler may not know the worker of an order before the order is lost, in seconds."""

MOST_TRIES = 3
"""How many workers may fail with a notebook, each for a reason that seems to be its own, before the notebook fails."""

REFUSED_PAUSE = 3.0
"""How long a worker that has refused an order does not get it again, in seconds."""


class Cluster:
    """Has the notebooks of runs executed by the workers of a Dask cluster, for the duration of the `with` block.

    It connects to the scheduler in the background, and again whenever the connection is lost. SettingsError is raised
    if the certificates for it are missing or wrong.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.topic = f"autoflow-{uuid.uuid4().hex}"
        self.roster = Roster()
        self._client: distributed.Client | None = None
        self._progress: dict[str, CellCallback] = {}
        # Not in Dask's event loop, which must not wait.
        self._calling = ThreadPoolExecutor(1, "cluster-progress")
        self._responds = False
        self._outage = Outage()
        self._emptiness = Outage()
        self._looking = PeriodicThread("cluster", self.look, LOOK_SECONDS)
        self._security = security(settings)
        set_options(settings.heartbeat_timeout)
        log_with_autoflow()
        # Now, not when files may have been replaced by those of another version.
        code_version()

    def __enter__(self) -> Self:
        """Connect, if the scheduler responds, and keep looking for workers."""
        self.look()
        self._looking.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect; orders in progress are stopped."""
        self._looking.__exit__()
        self.disconnect()
        self._calling.shutdown(wait=False, cancel_futures=True)

    @property
    def slots(self) -> int:
        """How many notebooks the cluster executes at a time."""
        return self.roster.slots

    def reserve(self) -> "Reservation | None":
        """Reserve a slot for the first notebook of a run that is about to be claimed; None if none is free."""
        address = self.roster.take()
        return Reservation(self, address) if address else None

    @property
    def is_connected(self) -> bool:
        """Whether the scheduler responds."""
        return self._client is not None and self._client.status == "running"

    def workers(self) -> list[WorkerInfo]:
        """Return the workers, also those that get no orders, by name."""
        return self.roster.workers()

    def state(self) -> ClusterState:
        """Return the cluster as this daemon sees it."""
        expiry, is_known = first_expiry(self.settings), self.is_connected and self._responds
        return ClusterState(
            scheduler=str(self.settings.dask_scheduler),
            is_connected=is_known,
            # Without the scheduler, the last that it said about them says nothing any more.
            workers=tuple(map(state_of, self.workers())) if is_known else (),
            expiry=expiry.replace(tzinfo=None) if expiry else None,
        )

    def look(self) -> None:
        """Connect if there is no connection, and ask for the workers."""
        try:
            found = self.ask()
        except ClusterError as error:
            self._responds = False
            self._outage.begin("%s; runs wait for it", error)
            self.roster.suspend()
            return
        self._responds = True
        self._outage.end("connected to the Dask scheduler at %s again", self.settings.dask_scheduler)
        self.roster.update(found)
        if self.slots:
            self._emptiness.end("runs continue")
        else:
            self._emptiness.begin("no worker of the cluster can execute notebooks; runs wait for one")

    def ask(self) -> list[WorkerInfo]:
        """Connect if there is no connection, and return the workers; raise ClusterError if that fails."""
        try:
            client = self._connected()
            scheduler: Any = client.scheduler
            found = client.sync(scheduler.identity, n_workers=-1, callback_timeout=ANSWER_SECONDS)
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            # The connection stays, with the orders in progress: the scheduler may only be slow.
            address = self.settings.dask_scheduler
            raise ClusterError(f"the Dask scheduler at {address} does not respond ({first_line(error)})") from error
        version, now = code_version(), utc_now()
        return [
            worker_info(address, identity, version=version, topic=self.topic, now=now)
            for address, identity in found["workers"].items()
        ]

    def client(self) -> distributed.Client:
        """Return the connection; raise ClusterError if there is none at present."""
        client = self._client
        if client is None or client.status != "running":
            raise ClusterError("there is no connection to the scheduler")
        return client

    @contextmanager
    def progress(self, order: Order, on_cell: CellCallback | None) -> Iterator[None]:
        """Call `on_cell` for each cell of an order that starts, for the duration of the block."""
        if on_cell:
            self._progress[order.id] = on_cell
        try:
            yield
        finally:
            self._progress.pop(order.id, None)

    def _connected(self) -> distributed.Client:
        # A client that reconnects by itself has lost its orders, and forgets its subscriptions.
        if self._client is not None and self._client.status != "running":
            self.disconnect()
        if self._client is None:
            client = distributed.Client(
                self.settings.dask_scheduler,
                security=self._security,
                set_as_default=False,
                direct_to_workers=False,
                name="autoflow",
                timeout=ANSWER_SECONDS,
            )
            client.subscribe_topic(self.topic, self._hear)
            self._client = client
        return self._client

    def disconnect(self) -> None:
        """End the connection, if there is one."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                # Where it could not reconnect, it raises whatever has prevented that, and does not end either.
                client.close(timeout=1.0)
            client.status = "closed"
        self.roster.wake()

    def _hear(self, event: tuple[float, Any]) -> None:
        """Pass on the progress of an order."""
        _, message = event
        if on_cell := self._progress.get(message["order"]):
            with suppress(RuntimeError):  # the daemon ends
                self._calling.submit(on_cell, message["cell"], message["cells"])


def inspected(settings: Settings) -> ClusterState:
    """Return the cluster as a daemon with these settings would see it now.

    Raises
    ------
    ClusterError
        If its scheduler does not respond.
    SettingsError
        If the certificates for it are missing or wrong.

    """
    cluster = Cluster(settings)
    try:
        return replace(cluster.state(), is_connected=True, workers=tuple(map(state_of, cluster.ask())))
    finally:
        cluster.disconnect()


class Reservation:
    """A slot of the worker at `address`, for the first notebook of a run; given back at the end of the `with` block."""

    def __init__(self, cluster: Cluster, address: str) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._address: str | None = address

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the slot back, unless it was taken."""
        if address := self.take():
            self._cluster.roster.give_back(address)

    def place(self, claim: Claim, lost: Callable[[str], None], /) -> "ClaimedPlace":
        """Return where the notebooks of a claimed run are executed; `lost` is called when a worker is lost."""
        return ClaimedPlace(self._cluster, claim, self, lost)

    def take(self) -> str | None:
        """Take the slot, which the caller gives back; return the address of its worker, None if it was taken."""
        with self._lock:
            address, self._address = self._address, None
        return address


@dataclass(frozen=True)
class ClaimedPlace:
    """Where the notebooks of a claimed run are executed.

    The first has its `reservation`, the others get slots of whichever worker has most free ones.
    """

    cluster: Cluster
    claim: Claim
    reservation: Reservation
    lost: Callable[[str], None]

    def carry_out(self, work: Work, *, stop: StopSignal, on_cell: CellCallback | None = None) -> Result:
        """Have a worker execute the notebook and make its reports, see `Place`; wait until one can."""
        refusals, outage, tries = _Refusals(), Outage(), 0
        while True:
            address = self._slot(refusals, stop)
            try:
                answer = self._ask(address, work, stop, on_cell)
            except WorkerLostError as error:
                logger.warning("lost the notebook '%s' of %s: %s", work.label, self.claim.key, error)
                self.lost(str(error))
                raise
            finally:
                self.cluster.roster.give_back(address)
            if isinstance(answer, Result):
                return answer
            if answer.result.error:
                tries += 1
            if tries == MOST_TRIES:
                return answer.result
            refusals.add(address)
            worker = self.cluster.roster.name_of(address)
            reason = f"worker {worker} does not take it: {answer.reason}"
            outage.begin("the notebook '%s' of %s waits: %s", work.label, self.claim.key, reason)

    def _slot(self, refusals: "_Refusals", stop: StopSignal) -> str:
        """Take a slot of a worker, when one is free; raise RunStopped if `stop` is set before."""
        roster = self.cluster.roster
        if address := self.reservation.take():
            if roster.has(address):
                return address
            roster.give_back(address)
        with stop.calling(roster.wake):
            while True:
                stop.raise_if_set()
                if address := roster.take(avoided=refusals.recent()):
                    return address
                roster.wait(WAIT_SECONDS)

    def _ask(self, address: str, work: Work, stop: StopSignal, on_cell: CellCallback | None) -> Result | Answer:
        """Send an order to a worker; return the result, or the answer if it refuses the order."""
        try:
            client = self.cluster.client()
            order = Order.of(
                work,
                self.cluster.settings,
                claim_id=self.claim.id,
                topic=self.cluster.topic,
                wants_progress=on_cell is not None,
            )
        except ClusterError as error:
            return Answer(verdict=Verdict.REFUSED, reason=str(error))
        except OSError as error:
            return Result(error=_unreadable(work, error))
        with self.cluster.progress(order, on_cell):
            answer = _Sent(self.cluster, client, order, address).answer(stop)
        if answer.verdict is Verdict.LOST:
            raise WorkerLostError(f"worker {self.cluster.roster.name_of(address)} ended its kernel: {answer.reason}")
        return answer.result if answer.verdict is Verdict.DONE else answer


def _unreadable(work: Work, error: OSError) -> NotebookError:
    """Return the error of a notebook that the daemon itself cannot read, as without a cluster."""
    return NotebookError(work.label, None, type(error).__name__, f"cannot read {error.filename}: {error.strerror}")


class _Refusals:
    """The workers that have refused an order a short while ago."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, address: str) -> None:
        self._until[address] = time.monotonic() + REFUSED_PAUSE

    def recent(self) -> list[str]:
        now = time.monotonic()
        return [address for address, until in self._until.items() if until > now]


class _Sent:
    """An order that has been sent to a worker; WorkerLostError is raised if it could not be sent."""

    def __init__(self, cluster: Cluster, client: distributed.Client, order: Order, address: str) -> None:
        self._cluster = cluster
        self._client = client
        self._order = order
        self._address = address
        self._name = cluster.roster.name_of(address)
        self._woken = threading.Event()
        try:
            self._future = self._submitted(client)
        except Exception as error:
            # Whatever Dask raises: the connection has just been lost.
            raise WorkerLostError(f"could not send the order ({type(error).__name__})") from error
        self._future.add_done_callback(lambda _: self._woken.set())

    def _submitted(self, client: distributed.Client) -> Any:
        return client.submit(
            perform,
            self._order.as_text(self._cluster.settings),
            key=f"order-{self._order.claim_id}-{self._order.id}",
            workers=[self._address],
            allow_other_workers=False,
            retries=0,
            pure=False,
        )

    def answer(self, stop: StopSignal) -> Answer:
        """Wait for the answer; have the worker stop the order when `stop` is set.

        Raises
        ------
        WorkerLostError
            If there will be none.

        """
        with stop.calling(self._woken.set):
            self._wait(stop)
        try:
            text = self._future.result(timeout=FETCH_SECONDS)
        except Exception as error:
            # Whatever Dask raises: nobody knows what the worker does.
            self._cluster.roster.drop(self._address)
            raise WorkerLostError(f"worker {self._name} is gone ({type(error).__name__})") from error
        finally:
            self._future.release()
        return Answer.of_text(text, self._cluster.settings)

    def _wait(self, stop: StopSignal) -> None:
        seen_at, stopped_at = time.monotonic(), None
        while not self._future.done():
            now = time.monotonic()
            if self._cluster.roster.has(self._address):
                seen_at = now
            if stop.is_set and stopped_at is None:
                stopped_at = now
                threading.Thread(target=self._request_stop, args=[stop.reason], daemon=True).start()
            if now - seen_at > GONE_AFTER or self._client.status == "closed":
                raise self._given_up("is gone")
            if stopped_at is not None and now - stopped_at > STOP_PATIENCE:
                raise self._given_up(f"did not stop within {STOP_PATIENCE:.0f} s")
            self._woken.wait(WAIT_SECONDS)
            self._woken.clear()

    def _given_up(self, reason: str) -> WorkerLostError:
        """Let the scheduler forget the order, so that the lease ends; return the error to raise."""
        with suppress(Exception):
            self._future.cancel()
        return WorkerLostError(f"worker {self._name} {reason}")

    def _request_stop(self, reason: str) -> None:
        # If the worker does not get the request, the order is lost.
        with suppress(Exception):
            self._client.run(stop_order, self._order.id, reason, workers=[self._address], on_error="ignore")

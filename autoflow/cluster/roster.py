"""The workers of a cluster, as a daemon sees them, and which of them gets the next order."""

import datetime
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from autoflow.runs.workers import WorkerState
from autoflow.system.log import logger


@dataclass(frozen=True, kw_only=True)
class WorkerInfo:
    """A worker of the cluster, as it describes itself.

    `used` counts the orders in progress of all daemons. `refused` is why it gets no orders; None if it gets some.
    `since` is when that began, or when the worker was first seen, in UTC.
    """

    name: str
    address: str
    host: str
    slots: int
    used: int
    version: str
    refused: str | None
    since: datetime.datetime
    used_by_others: int = 0

    @property
    def is_usable(self) -> bool:
        """Whether it gets orders."""
        return self.refused is None


def worker_info(
    address: str, identity: Mapping[str, Any], *, version: str, topic: str, now: datetime.datetime
) -> WorkerInfo:
    """Return what the scheduler's `identity` of a worker says; `version` and `topic` are those of this daemon."""
    state = identity.get("metrics", {}).get("autoflow") or {}
    used = state.get("used") or {}
    theirs = str(state.get("version"))
    refused = state.get("problem")
    if not state:
        refused = "it is not a worker of AutoFlow: start workers with 'autoflow worker'"
    elif theirs != version:
        refused = f"it is of version {theirs}, and the daemon of version {version}: use one image for all"
    return WorkerInfo(
        name=str(state.get("name") or identity.get("name")),
        address=address,
        host=str(identity.get("host")),
        slots=int(state.get("slots") or 0),
        used=sum(used.values()),
        used_by_others=sum(count for name, count in used.items() if name != topic),
        version=theirs,
        refused=refused,
        since=now,
    )


def state_of(worker: WorkerInfo) -> WorkerState:
    """Return a worker as people and other processes see it."""
    return WorkerState(
        name=worker.name,
        address=worker.address,
        slots=worker.slots,
        used=worker.used,
        version=worker.version,
        refused=worker.refused,
        since=worker.since,
    )


class Roster:
    """The workers, and how many orders this daemon has with each. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._workers: dict[str, WorkerInfo] = {}
        self._ours: Counter[str] = Counter()
        self._is_suspended = False

    def workers(self) -> list[WorkerInfo]:
        """Return the workers, by name."""
        with self._changed:
            return sorted(self._workers.values(), key=lambda worker: (worker.name, worker.address))

    @property
    def slots(self) -> int:
        """How many orders all usable workers take at a time."""
        return 0 if self._is_suspended else sum(worker.slots for worker in self.workers() if worker.is_usable)

    def has(self, address: str) -> bool:
        """Return whether the scheduler knows a worker with this address, or at least did when it last responded."""
        with self._changed:
            return address in self._workers

    def name_of(self, address: str) -> str:
        """Return the name and the address of a worker, for messages."""
        with self._changed:
            worker = self._workers.get(address)
        return _called(worker) if worker else address

    def drop(self, address: str) -> None:
        """Send no more orders to a worker that is lost, until the next update knows it."""
        with self._changed:
            if worker := self._workers.pop(address, None):
                logger.warning("worker %s has left", _called(worker))

    def suspend(self) -> None:
        """Have no worker take orders until the next update: the scheduler does not respond."""
        with self._changed:
            self._is_suspended = True

    def update(self, found: Iterable[WorkerInfo]) -> None:
        """Replace the workers with those found; log those that have come, gone, or are left out."""
        with self._changed:
            self._is_suspended = False
            before, self._workers = self._workers, {}
            for worker in found:
                known = before.get(worker.address)
                self._workers[worker.address] = _with_since(worker, known)
                _log_change(worker, known)
            for address in before.keys() - self._workers.keys():
                logger.warning("worker %s has left", _called(before[address]))
            self._changed.notify_all()

    def take(self, avoided: Collection[str] = ()) -> str | None:
        """Take a slot of the worker with most free ones, none of those `avoided`; return its address, None if none."""
        with self._changed:
            free = {worker.address: self._free(worker) for worker in self._workers.values()}
            wanted = [address for address, slots in free.items() if slots > 0 and address not in avoided]
            address = max(wanted, key=lambda each: free[each], default=None)
            if address:
                self._ours[address] += 1
            return address

    def give_back(self, address: str) -> None:
        """Give back a slot."""
        with self._changed:
            self._ours[address] -= 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait up to `seconds` for a change."""
        with self._changed:
            self._changed.wait(seconds)

    def wake(self) -> None:
        """Wake all that wait for a change."""
        with self._changed:
            self._changed.notify_all()

    def _free(self, worker: WorkerInfo) -> int:
        if self._is_suspended or not worker.is_usable:
            return 0
        return worker.slots - worker.used_by_others - self._ours[worker.address]


def _with_since(worker: WorkerInfo, known: WorkerInfo | None) -> WorkerInfo:
    is_same = known is not None and (known.refused is None) == (worker.refused is None)
    if known is None or not is_same:
        return worker
    return WorkerInfo(**{**vars(worker), "since": known.since})


def _log_change(worker: WorkerInfo, known: WorkerInfo | None) -> None:
    if known is None and worker.is_usable:
        logger.info("worker %s has joined with %s", _called(worker), _slots(worker.slots))
    elif worker.refused and (known is None or known.refused is None):
        logger.warning("worker %s is left out: %s", _called(worker), worker.refused)
    elif known and known.refused and worker.is_usable:
        logger.info("worker %s gets work again", _called(worker))


def _slots(count: int) -> str:
    return "1 slot" if count == 1 else f"{count} slots"


def _called(worker: WorkerInfo) -> str:
    return f"{worker.name} ({worker.address})"

"""A cluster as a daemon sees it: its scheduler and its workers."""

import datetime
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class WorkerState:
    """A worker of a cluster. `used` of its `slots` execute a notebook.

    `refused` is why it gets no notebooks, None if it gets some; it has been so since `since`, in UTC.
    """

    name: str
    address: str
    slots: int
    used: int
    version: str
    refused: str | None
    since: datetime.datetime

    def __str__(self) -> str:
        """Return its name with its address."""
        return f"{self.name} ({self.address})"


@dataclass(frozen=True, kw_only=True)
class ClusterState:
    """The cluster with this `scheduler`, whose certificates expire at `expiry`, in UTC, if it has any."""

    scheduler: str
    is_connected: bool
    workers: tuple[WorkerState, ...] = ()
    expiry: datetime.datetime | None = None

    @property
    def refused(self) -> tuple[WorkerState, ...]:
        """The workers that get no notebooks."""
        return tuple(worker for worker in self.workers if worker.refused)

    @property
    def usable(self) -> tuple[WorkerState, ...]:
        """The workers that get notebooks."""
        return tuple(worker for worker in self.workers if not worker.refused)

    @property
    def summary(self) -> str:
        """The workers that get notebooks, in one line."""
        slots = sum(worker.slots for worker in self.usable)
        used = sum(worker.used for worker in self.usable)
        each = ", ".join(f"{worker.name}: {worker.slots}" for worker in self.usable)
        versions = " and ".join(Counter(worker.version for worker in self.usable))
        count = f"{len(self.usable)} worker{'' if len(self.usable) == 1 else 's'}"
        workers = (
            f"{count} with {slots} slots ({each}), {used} in use, version {versions}" if self.usable else "no worker"
        )
        until = f"; certificate valid until {self.expiry:%Y-%m-%d}" if self.expiry else ""
        return f"{self.scheduler}: {workers}{until}"

    @property
    def problem(self) -> str | None:
        """Why no notebook can run; None if one can."""
        if not self.is_connected:
            return f"the scheduler of the cluster at {self.scheduler} does not respond"
        return None if self.usable else "no worker of the cluster can execute notebooks"

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each worker that gets no notebooks, with the reason."""
        return tuple(f"worker {worker} gets no notebooks: {worker.refused}" for worker in self.refused)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        workers = [asdict(worker) | {"since": worker.since.isoformat()} for worker in self.workers]
        expiry = self.expiry.isoformat() if self.expiry else None
        return {
            "scheduler": self.scheduler,
            "is_connected": self.is_connected,
            "workers": workers,
            "expiry": expiry,
        }

    @classmethod
    def of_json(cls, content: Any) -> Self | None:
        """Return the cluster in `content`; None if there is none, or if it is that of another version."""
        try:
            workers = tuple(map(_worker_of_json, content["workers"]))
            expiry = datetime.datetime.fromisoformat(content["expiry"]) if content["expiry"] else None
            return cls(
                scheduler=str(content["scheduler"]),
                is_connected=bool(content["is_connected"]),
                workers=workers,
                expiry=expiry,
            )
        except (KeyError, TypeError, ValueError):
            return None


def _worker_of_json(content: Mapping[str, Any]) -> WorkerState:
    return WorkerState(**{**content, "since": datetime.datetime.fromisoformat(content["since"])})

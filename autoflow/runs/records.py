"""The states, keys and records of runs."""

import datetime
import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoflow.specs import Json

CRASHED_AFTER = datetime.timedelta(seconds=60)
"""A run whose heartbeat is older than this has crashed, unless the run store is told otherwise."""


class RunState(enum.StrEnum):
    """What has become of a run."""

    RUNNING = "running"
    """Somebody has claimed it and says so with a heartbeat."""
    SUCCEEDED = "succeeded"
    """All notebooks ran to their end and all reports were made. Final: its date is done."""
    FAILED = "failed"
    """A notebook or a report failed. Tried again until there have been too many such attempts."""
    CRASHED = "crashed"
    """Its heartbeat stopped. Due again."""
    INTERRUPTED = "interrupted"
    """AutoFlow was stopped while it ran. Due again."""
    CANCELLED = "cancelled"
    """Somebody cancelled it. Not tried again by itself."""
    RERUNNING = "rerunning"
    """As `RUNNING`, of a date that is done and stays so, by its older run, until this one has succeeded."""
    SUPERSEDED = "superseded"
    """It succeeded, and so did a newer run, which somebody asked for. Its date is done by that one."""


GOING_ON = (RunState.RUNNING, RunState.RERUNNING)
"""States that need a heartbeat."""


CLAIMED_STATES = (RunState.RUNNING, RunState.SUCCEEDED)
"""States of which there is at most one run for each workflow, parameters and reference date."""


def utc_now() -> datetime.datetime:
    """Return the time, in UTC and, as the database has it, without a time zone."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


@dataclass(frozen=True, order=True)
class RunKey:
    """What identifies a run: of all runs with one key, one succeeds.

    `parameters` is canonical JSON, see `RunKey.of`.
    """

    workflow: str
    parameters: str
    reference_date: datetime.date

    @classmethod
    def of(cls, workflow: str, parameters: Mapping[str, Json], reference_date: datetime.date) -> "RunKey":
        """Return the key of a run with `parameters`, whose order does not matter."""
        text = json.dumps(parameters, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return cls(workflow, text, reference_date)

    @property
    def parameters_hash(self) -> str:
        """SHA-256 of the parameters, as hexadecimal digits."""
        return hashlib.sha256(self.parameters.encode()).hexdigest()

    def __str__(self) -> str:
        """Name the run for people."""
        return f"{self.workflow} {self.reference_date.isoformat()}"


@dataclass(frozen=True)
class Claim:
    """The right to do a run, for as long as its heartbeat goes on. `is_rerun` tells that its date is done already."""

    id: int
    key: RunKey
    attempt: int
    is_rerun: bool = False


@dataclass(frozen=True)
class RunError:
    """Why a run failed: `cell` counts from 1; a report, or AutoFlow itself, has no cell."""

    error_class: str
    message: str
    notebook: str | None = None
    cell: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """All that the run store knows of one run; times are in UTC.

    `outputs` has, by the labels of the notebooks, the paths of the executed notebook and of its reports; it is empty
    once they have been pruned. `holder` names the process that ran it.
    """

    id: int
    key: RunKey
    attempt: int
    state: RunState
    holder: str
    started_at: datetime.datetime
    heartbeat_at: datetime.datetime
    finished_at: datetime.datetime | None
    error: RunError | None
    outputs: Mapping[str, Any]
    flow_run_id: str | None
    forgiven_at: datetime.datetime | None
    pruned_at: datetime.datetime | None


@dataclass(frozen=True)
class Failures:
    """What has gone wrong for a date that is not done.

    `count` is of failures, to which crashes in a row add; `last` is when the newest of them ended, in UTC.
    `cancelled` tells that somebody cancelled the newest run.
    """

    count: int = 0
    last: datetime.datetime | None = None
    cancelled: bool = False


@dataclass(frozen=True)
class History:
    """What the run store says of one workflow with one set of parameters."""

    done: frozenset[datetime.date] = frozenset()
    running: frozenset[datetime.date] = frozenset()
    failures: Mapping[datetime.date, Failures] = field(default_factory=dict)

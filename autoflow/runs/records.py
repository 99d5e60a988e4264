"""The key of a run, its states, and its record in the run store."""

import datetime
import enum
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from autoflow.dates.periods import Every, describe_period
from autoflow.errors import place_of
from autoflow.runs.checks import warnings_of
from autoflow.runs.finished import FinishedNotebook
from autoflow.specs import Json, TriggerSpec

CRASHED_AFTER = datetime.timedelta(seconds=60)
"""A run has crashed if its heartbeat is older than this. A run store can be given another limit."""


def utc_now() -> datetime.datetime:
    """Return the current time in UTC, without a time zone, as the database stores it."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


class RunState(enum.StrEnum):
    """The state of a run."""

    RUNNING = "running"
    """A process has claimed the run and renews its heartbeat."""
    SUCCEEDED = "succeeded"
    """All notebooks were executed and all reports were made. Final: the date is done."""
    FAILED = "failed"
    """A notebook or a report failed. The date is retried until it has no attempts left."""
    CRASHED = "crashed"
    """The heartbeat stopped. The date is due again."""
    INTERRUPTED = "interrupted"
    """AutoFlow was stopped during the run. The date is due again."""
    CANCELLED = "cancelled"
    """A user cancelled the run. The date is not retried automatically."""
    RERUNNING = "rerunning"
    """Like `RUNNING`, for a date that an older run has done. That run counts until this one succeeds."""
    SKIPPED = "skipped"
    """A notebook ended it with `autoflow.skip`, because there was nothing to do. Final: the date is done."""
    SUPERSEDED = "superseded"
    """It succeeded or was skipped, but a newer run that a user requested has succeeded since, and counts instead."""

    @property
    def is_active(self) -> bool:
        """Whether a process works on the run, and has to renew its heartbeat."""
        return self in ACTIVE_STATES

    @property
    def is_success(self) -> bool:
        """Whether the date is done because of this run."""
        return self in DONE_STATES

    @property
    def is_skip(self) -> bool:
        """Whether a notebook has ended the run because there was nothing to do."""
        return self is RunState.SKIPPED

    @property
    def has_succeeded(self) -> bool:
        """Whether the run itself ended well, even if a newer one counts instead."""
        return self in {*DONE_STATES, RunState.SUPERSEDED}

    @property
    def is_failure(self) -> bool:
        """Whether a notebook or a report failed."""
        return self is RunState.FAILED

    @property
    def is_cancelled(self) -> bool:
        """Whether a person has ended the run."""
        return self is RunState.CANCELLED

    @property
    def as_predicate(self) -> str:
        """The end of the run in words that follow "has" or "had"."""
        was_ended = f"been {self}"
        more = {RunState.SUPERSEDED: "succeeded, and a newer run counts instead"}
        return was_ended if self.is_stopped or self.is_skip else more.get(self, str(self))

    @property
    def is_crash(self) -> bool:
        """Whether the process or the machine that executed the run is gone."""
        return self is RunState.CRASHED

    @property
    def is_stopped(self) -> bool:
        """Whether the run was stopped before its end, by AutoFlow or by a person."""
        return self in {RunState.INTERRUPTED, RunState.CANCELLED}


ACTIVE_STATES = (RunState.RUNNING, RunState.RERUNNING)
"""States of runs that a process works on, and whose heartbeat it renews."""

DONE_STATES = (RunState.SUCCEEDED, RunState.SKIPPED)
"""States of runs because of which a date is done."""

CLAIMED_STATES = (RunState.RUNNING, *DONE_STATES)
"""For each workflow, parameters and reference date, at most one run is in one of these states."""


@dataclass(frozen=True, order=True)
class WorkflowKey:
    """Identifies a workflow with its parameters and the kind of its periods.

    `parameters` is canonical JSON, see `WorkflowKey.of`.
    """

    workflow: str
    parameters: str
    every: Every = Every.DAY

    @classmethod
    def of(cls, workflow: str, parameters: Mapping[str, Json], every: Every = Every.DAY) -> "WorkflowKey":
        """Return the key of `workflow` with `parameters`, whose order does not matter."""
        text = json.dumps(parameters, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return cls(workflow, text, every)

    @classmethod
    def of_trigger(cls, trigger: TriggerSpec) -> "WorkflowKey":
        """Return the key of an entry of the sensor."""
        return cls.of(trigger.workflow.name, trigger.parameters, trigger.every)

    @cached_property
    def parameters_hash(self) -> str:
        """SHA-256 of the parameters, as hexadecimal digits."""
        return hashlib.sha256(self.parameters.encode()).hexdigest()

    def on(self, reference_date: datetime.date) -> "RunKey":
        """Return the key of the run for `reference_date`."""
        return RunKey(self, reference_date)


@dataclass(frozen=True, order=True)
class RunKey:
    """Identifies a run: a workflow with its parameters and the kind of its periods, and a reference date.

    At most one run with a key succeeds.
    """

    workflow_key: WorkflowKey
    reference_date: datetime.date

    @classmethod
    def of(
        cls, workflow: str, parameters: Mapping[str, Json], reference_date: datetime.date, every: Every = Every.DAY
    ) -> "RunKey":
        """Return the key of a run of `workflow` with `parameters`, whose order does not matter."""
        return WorkflowKey.of(workflow, parameters, every).on(reference_date)

    @property
    def workflow(self) -> str:
        """Name of the workflow."""
        return self.workflow_key.workflow

    @property
    def parameters(self) -> str:
        """Parameters as canonical JSON."""
        return self.workflow_key.parameters

    @property
    def parameters_hash(self) -> str:
        """SHA-256 of the parameters, as hexadecimal digits."""
        return self.workflow_key.parameters_hash

    @property
    def every(self) -> Every:
        """The kind of its period."""
        return self.workflow_key.every

    def __str__(self) -> str:
        """Return the name of the run in messages."""
        return f"{self.workflow} {describe_period(self.reference_date, self.every)}"


@dataclass(frozen=True)
class Claim:
    """The right to execute a run, valid while its heartbeat is renewed. `is_rerun`: its date is done already."""

    id: int
    key: RunKey
    attempt: int
    is_rerun: bool = False


CANCELLED_FROM_COMMAND_LINE = "it was cancelled with 'autoflow cancel'"
"""The reason in the record of a run that was cancelled from the command line."""


@dataclass(frozen=True)
class RunError:
    """Why a run failed.

    `notebook`, `cell` and `code` are as in `NotebookError`, and None if, for example, a report failed.
    """

    error_class: str
    message: str
    notebook: str | None = None
    cell: int | None = None
    code: str | None = None

    @property
    def place(self) -> str:
        """The notebook and the cell that failed, in words; empty if it was none."""
        return place_of(self.notebook, self.cell, self.code)

    def __str__(self) -> str:
        """Return the error with its place."""
        return f"{self.place}: {self.error_class}: {self.message}".removeprefix(": ")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything that the run store knows about a run; times are in UTC.

    `outputs` maps labels of notebooks to the paths of the executed notebook and its reports; it is empty after these
    were pruned. `holder` names the process that executed the run. `cancel_asked_at` is when someone asked to cancel it.
    `label` is that of its entry when it started. `missing_days` counts the days of its stencil that were missing then;
    None if that is unknown. `is_try_out`: a user started it with parameters that no entry had then.
    `made_from` has the sources of its notebooks by their labels (`notebooks`), the state of the inputs folder in git
    (`git`), the `version` of AutoFlow and that of `python`, and the digest of the list of `packages`; None if that is
    unknown. `checks` are those of its notebooks by their labels, see `Checks.as_json`; None if there were none.
    `error` says why it did not succeed, also why it was skipped. `finished` are the notebooks that were executed to
    their ends, by their labels. `run_dir` is the folder of the run, from the outputs folder on; None if there is none.
    `is_resume_asked`: the next attempt at its date should take them over.
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
    cancel_asked_at: datetime.datetime | None = None
    label: str | None = None
    missing_days: int | None = None
    is_try_out: bool = False
    made_from: Mapping[str, Any] | None = None
    checks: Mapping[str, Any] | None = None
    finished: Mapping[str, FinishedNotebook] = field(default_factory=dict)
    run_dir: str | None = None
    is_resume_asked: bool = False

    @property
    def taken_over(self) -> Mapping[str, int]:
        """The numbers of the runs from which notebooks were taken over, by the labels of the notebooks."""
        return {label: each.taken_from for label, each in self.finished.items() if each.taken_from is not None}

    @property
    def taken_over_text(self) -> str:
        """Which notebooks were taken over, in words; empty if none was."""
        labels = ", ".join(sorted(self.taken_over))
        return f"notebooks taken over from an earlier attempt: {labels}" if labels else ""

    @property
    def skipped(self) -> str:
        """Why it was skipped; empty if it was not."""
        return self.error.message if self.error and self.state.is_skip else ""

    @property
    def failure(self) -> RunError | None:
        """Why it ended otherwise than it should; None if it is in progress, or has ended well."""
        return None if self.state.has_succeeded else self.error

    @property
    def warnings_count(self) -> int:
        """How many checks failed as warnings."""
        return sum(each["warnings"] for each in (self.checks or {}).values())

    @property
    def warnings(self) -> list[str]:
        """The checks that failed as warnings, in a line each."""
        return warnings_of(self.checks)


@dataclass(frozen=True)
class Attempt:
    """A run that has ended without success, or is in progress; times are in UTC."""

    state: RunState
    started: datetime.datetime
    ended: datetime.datetime | None


CRASHES_PER_FAILURE = 3
"""This many crashes in a row count as one failure: a notebook that brings down the machine is not retried forever."""


@dataclass(frozen=True)
class Failures:
    """The failed attempts of a date.

    `count` is the number of failures; several crashes in a row count as one. `last` is when the newest of them ended,
    in UTC. `cancelled`: a user cancelled the newest run.
    """

    count: int = 0
    last: datetime.datetime | None = None
    cancelled: bool = False


def count_failures(attempts: Iterable[Attempt]) -> Failures:
    """Return the failures among `attempts`, oldest first."""
    count = crashes = 0
    last = state = None
    for attempt in attempts:
        state = attempt.state
        crashes = crashes + 1 if state is RunState.CRASHED else 0
        if state is RunState.FAILED or (crashes and crashes % CRASHES_PER_FAILURE == 0):
            count += 1
            last = attempt.ended
    return Failures(count=count, last=last, cancelled=state is RunState.CANCELLED)


@dataclass(frozen=True)
class History:
    """What the run store knows about a workflow with its parameters.

    `skipped` are those in `done` whose run was skipped. `running` includes dates in `done` that are being run again;
    `failures` includes dates that have succeeded since.
    `started` (UTC) is when the runs started that have done their dates, and `attempts` has the other attempts at these
    dates that count, oldest first; both only for the workflows for which they were asked.
    """

    done: frozenset[datetime.date] = frozenset()
    skipped: frozenset[datetime.date] = frozenset()
    running: frozenset[datetime.date] = frozenset()
    failures: Mapping[datetime.date, Failures] = field(default_factory=dict)
    started: Mapping[datetime.date, datetime.datetime] = field(default_factory=dict)
    attempts: Mapping[datetime.date, Sequence[Attempt]] = field(default_factory=dict)

    def failures_since(self, date: datetime.date, time: datetime.datetime) -> Failures:
        """Return the failures among the attempts at `date` that have started since `time` (UTC)."""
        return count_failures(each for each in self.attempts.get(date, ()) if each.started >= time)


Histories: TypeAlias = Mapping[WorkflowKey, History]
"""The histories of all workflows that have been run."""

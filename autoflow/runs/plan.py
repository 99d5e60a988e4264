"""What the sensor would do now: for each date of each trigger, whether it is done, due, or why not."""

import datetime
import enum
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from autoflow.date_stencil import DateInterval, UnresolvableStencilError
from autoflow.errors import AutoflowError
from autoflow.runs.records import Failures, History, RunKey
from autoflow.runs.retries import RetryPolicy, may_try_again
from autoflow.runs.run import WorkflowRun, check_parameters
from autoflow.specs import Json, TriggerSpec, WorkflowsFile


class Standing(enum.StrEnum):
    """How it stands with a date; the text is what people read."""

    DONE = "done"
    """A run of it has succeeded."""
    RUNNING = "running"
    """Somebody runs it."""
    DUE = "due"
    """A tick would run it."""
    WAITING = "waiting for a retry"
    """It failed, and is due when its delay is over."""
    GIVEN_UP = "given up"
    """It failed, and has no attempts left."""
    CANCELLED = "cancelled"
    """Somebody cancelled its last run."""
    TOO_EARLY = "before earliest_date"
    """It is left out because of the trigger's `earliest_date`."""
    INCOMPLETE = "dates missing"
    """Dates of its stencil are not available, or the stencil makes no sense for it."""


UNDONE = (Standing.DUE, Standing.WAITING, Standing.GIVEN_UP, Standing.CANCELLED)
"""Standings of dates that could be run if somebody wanted to."""


@dataclass(frozen=True, kw_only=True)
class PlannedDate:
    """A date and how it stands with it.

    `next_attempt` (UTC) is for `WAITING`; `missing` has the dates that keep it `INCOMPLETE`, sorted.
    """

    date: datetime.date
    standing: Standing
    failures: int = 0
    next_attempt: datetime.datetime | None = None
    missing: tuple[datetime.date, ...] = ()

    @property
    def has_failed(self) -> bool:
        """Whether a run of it failed or was cancelled, and none has succeeded since."""
        return self.standing in UNDONE and (self.failures > 0 or self.standing is Standing.CANCELLED)

    @property
    def why(self) -> str:
        """The reason, in a few words, where the standing alone does not say all."""
        if self.standing is Standing.INCOMPLETE:
            return f"missing {in_ranges(self.missing)}" if self.missing else "the stencil is backwards for this date"
        times = f"failed {self.failures} time{'' if self.failures == 1 else 's'}" if self.failures else ""
        if self.next_attempt:
            return f"{times}, next attempt at {self.next_attempt:%Y-%m-%d %H:%M:%S} UTC"
        return times


@dataclass(frozen=True, kw_only=True)
class TriggerPlan:
    """All dates that matter to a trigger, oldest first: those available, and those that have been run."""

    trigger: TriggerSpec
    dates: tuple[PlannedDate, ...]

    @property
    def counts(self) -> Mapping[Standing, int]:
        """How many dates there are of each standing."""
        found = Counter(each.standing for each in self.dates)
        return {standing: found[standing] for standing in Standing}

    def key(self, date: datetime.date) -> RunKey:
        """Return what identifies the run for `date`."""
        return RunKey.of(self.trigger.workflow.name, self.trigger.parameters, date)


def make_plan(
    triggers: Iterable[TriggerSpec],
    available_dates: frozenset[datetime.date],
    histories: Mapping[tuple[str, str], History],
    now: datetime.datetime,
) -> list[TriggerPlan]:
    """Return how it stands with each date of each trigger at `now` (UTC); those due are what `due_runs` returns."""
    return [_trigger_plan(trigger, available_dates, histories, now) for trigger in triggers]


def _trigger_plan(
    trigger: TriggerSpec,
    available_dates: frozenset[datetime.date],
    histories: Mapping[tuple[str, str], History],
    now: datetime.datetime,
) -> TriggerPlan:
    key = RunKey.of(trigger.workflow.name, trigger.parameters, datetime.date.min)
    history = histories.get((key.workflow, key.parameters_hash), History())
    dates = sorted(available_dates | history.done | history.running)
    return TriggerPlan(
        trigger=trigger, dates=tuple(_planned(trigger, date, available_dates, history, now) for date in dates)
    )


def _planned(
    trigger: TriggerSpec,
    date: datetime.date,
    available_dates: frozenset[datetime.date],
    history: History,
    now: datetime.datetime,
) -> PlannedDate:
    if date in history.running:
        return PlannedDate(date=date, standing=Standing.RUNNING)
    if date in history.done:
        return PlannedDate(date=date, standing=Standing.DONE)
    if trigger.earliest_date and date < trigger.earliest_date:
        return PlannedDate(date=date, standing=Standing.TOO_EARLY)
    if not trigger.date_stencil.is_available(date, available_dates):
        return _incomplete(trigger, date, available_dates)
    return _undone(trigger, date, history.failures.get(date, Failures()), now)


def _incomplete(trigger: TriggerSpec, date: datetime.date, available_dates: frozenset[datetime.date]) -> PlannedDate:
    try:
        missing = trigger.date_stencil.missing_dates(date, available_dates)
    except UnresolvableStencilError:
        missing = ()
    return PlannedDate(date=date, standing=Standing.INCOMPLETE, missing=missing)


def _undone(trigger: TriggerSpec, date: datetime.date, failures: Failures, now: datetime.datetime) -> PlannedDate:
    policy = RetryPolicy(trigger.retry_delay, trigger.max_attempts)
    if failures.cancelled:
        return PlannedDate(date=date, standing=Standing.CANCELLED, failures=failures.count)
    if may_try_again(failures, policy, now):
        return PlannedDate(date=date, standing=Standing.DUE, failures=failures.count)
    delay = policy.delay(failures.count)
    if failures.last is None or delay is None:
        return PlannedDate(date=date, standing=Standing.GIVEN_UP, failures=failures.count)
    return PlannedDate(
        date=date, standing=Standing.WAITING, failures=failures.count, next_attempt=failures.last + delay
    )


def requested_trigger(file: WorkflowsFile, workflow: str, parameters: Mapping[str, Json] | None) -> TriggerSpec:
    """Return how `workflow` runs if somebody asks for it: as the sensor's entry with these `parameters` says.

    Where there is no such entry, or without `parameters`, it is as the first entry of the workflow says, if any.

    Raises
    ------
    AutoflowError
        If there is no such workflow.

    """
    known = {spec.name: spec for spec in file.workflows}
    if workflow not in known:
        raise AutoflowError(f"there is no workflow '{workflow}' in workflows.yml; there are {', '.join(sorted(known))}")
    triggers = [trigger for trigger in file.sensor.triggers if trigger.workflow.name == workflow]
    if parameters is not None:
        triggers.sort(key=lambda trigger: trigger.parameters != parameters)
    trigger = triggers[0] if triggers else TriggerSpec(workflow=known[workflow])
    return trigger if parameters is None else replace(trigger, parameters=parameters)


def date_ranges(trigger: TriggerSpec, reference_date: datetime.date) -> tuple[DateInterval, ...]:
    """Return what the stencil stands for; raise AutoflowError where that makes no sense for `reference_date`."""
    try:
        return trigger.date_stencil.resolve(reference_date)
    except UnresolvableStencilError as error:
        raise AutoflowError(f"workflow '{trigger.workflow.name}' cannot run for {reference_date}: {error}") from error


def check_available(
    trigger: TriggerSpec, reference_date: datetime.date, available_dates: frozenset[datetime.date]
) -> None:
    """Raise AutoflowError if the sensor would not run `reference_date` because of dates that are not available."""
    ranges = date_ranges(trigger, reference_date)
    needed = {reference_date, *(day for interval in ranges for day in interval.dates())}
    if missing := sorted(needed - available_dates):
        are, them = ("is", "it") if len(missing) == 1 else ("are", "them")
        raise AutoflowError(
            f"{trigger.workflow.name} {reference_date} cannot run: FlowAPI has no data of {in_ranges(missing)}, which "
            f"{are} needed; wait for {them}, or use 'autoflow run --force'"
        )


def why_never_due(trigger: TriggerSpec | None, date: datetime.date) -> str | None:
    """Return why no tick will run `date`, whatever FlowAPI has; None where one may.

    `trigger` is the sensor's entry with the workflow and the parameters, None if there is none.
    """
    if trigger is None:
        return "the sensor in workflows.yml has no entry with its workflow and parameters"
    if trigger.earliest_date and date < trigger.earliest_date:
        return f"it is before its earliest_date in workflows.yml, {trigger.earliest_date}"
    try:
        trigger.date_stencil.resolve(date)
    except UnresolvableStencilError as error:
        return str(error)
    return None


def in_ranges(dates: Iterable[datetime.date]) -> str:
    """Write sorted dates in short: days in a row as ``FIRST to LAST``."""
    rows: list[list[datetime.date]] = []
    for date in dates:
        if rows and date - rows[-1][-1] == datetime.timedelta(days=1):
            rows[-1] = [rows[-1][0], date]
        else:
            rows.append([date])
    return ", ".join(" to ".join(str(date) for date in row) for row in rows)


def due_runs(
    triggers: Iterable[TriggerSpec],
    available_dates: frozenset[datetime.date],
    histories: Mapping[tuple[str, str], History],
    now: datetime.datetime,
) -> list[WorkflowRun]:
    """Return all runs that are due at `now` (UTC), oldest date first, then in the order of `triggers`.

    A date is due if it is neither done nor running, not before the trigger's earliest date, all dates of its stencil
    are available, and, where it has failed, its delay is over and there are attempts left.
    """
    runs = [run for trigger in triggers for run in _due_for(trigger, available_dates, histories, now)]
    return sorted(runs, key=lambda run: run.reference_date)


def _due_for(
    trigger: TriggerSpec,
    available_dates: frozenset[datetime.date],
    histories: Mapping[tuple[str, str], History],
    now: datetime.datetime,
) -> Iterator[WorkflowRun]:
    key = RunKey.of(trigger.workflow.name, trigger.parameters, datetime.date.min)
    history = histories.get((key.workflow, key.parameters_hash), History())
    policy = RetryPolicy(trigger.retry_delay, trigger.max_attempts)
    for date in sorted(available_dates - history.done - history.running):
        if trigger.earliest_date and date < trigger.earliest_date:
            continue
        failures = history.failures.get(date, Failures())
        if not may_try_again(failures, policy, now):
            continue
        if trigger.date_stencil.is_available(date, available_dates):
            yield WorkflowRun(
                workflow=trigger.workflow,
                parameters=trigger.parameters,
                reference_date=date,
                date_ranges=trigger.date_stencil.resolve(date),
                failures=failures.count,
                retry=policy,
            )


def given_up(triggers: Iterable[TriggerSpec], histories: Mapping[tuple[str, str], History]) -> list[RunKey]:
    """Return the dates that have no attempts left, oldest first for each of `triggers`."""
    keys = []
    for trigger in triggers:
        key = RunKey.of(trigger.workflow.name, trigger.parameters, datetime.date.min)
        history = histories.get((key.workflow, key.parameters_hash), History())
        undone = history.failures.keys() - history.done - history.running
        dates = (date for date in sorted(undone) if history.failures[date].count >= trigger.max_attempts)
        keys += [replace(key, reference_date=date) for date in dates]
    return keys


def requested_run(
    file: WorkflowsFile, workflow: str, reference_date: datetime.date, parameters: Mapping[str, Any] | None
) -> WorkflowRun:
    """Return the run of `workflow` for `reference_date` that somebody asks for.

    Without `parameters`, they and the stencil are those of the sensor's entry for the workflow; with them, the
    stencil is that of the entry with these parameters, or else of the first one.

    Raises
    ------
    AutoflowError
        If there is no such workflow, or the parameters are not those that it takes.

    """
    trigger = requested_trigger(file, workflow, parameters)
    check_parameters(trigger.workflow, trigger.parameters)
    return WorkflowRun(
        workflow=trigger.workflow,
        parameters=trigger.parameters,
        reference_date=reference_date,
        date_ranges=date_ranges(trigger, reference_date),
    )

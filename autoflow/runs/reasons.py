"""Says in a paragraph why a date has its status, and which command would change that."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from autoflow.dates.periods import describe_period
from autoflow.runs.plan import why_never_due
from autoflow.runs.records import RunRecord, RunState
from autoflow.runs.statuses import DateStatus, PlannedDate, in_ranges
from autoflow.specs import TriggerSpec


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known of a date: its plan, and its runs, newest first.

    `name` is that of its entry on the command line. `before` are the planned dates before it, oldest first. `progress`
    is how far its run in progress is, empty if that is unknown.
    """

    name: str
    trigger: TriggerSpec
    planned: PlannedDate
    runs: Sequence[RunRecord] = ()
    before: Sequence[PlannedDate] = ()
    progress: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Why a date has its status, and a command that would change it, with what it does."""

    text: str
    what_it_does: str
    command: str


def answer(situation: Situation) -> Answer:
    """Return why the date has its status, and what would change it."""
    status, date = situation.planned.status, situation.planned.date
    run = f"autoflow run {situation.name} --date {date}"
    number = next((each.id for each in situation.runs), None)
    text = f"{situation.name} {describe_period(date, situation.trigger.every)} {_reason(situation)}."
    if status is DateStatus.RUNNING and number:
        return Answer(text=text, what_it_does="watch it", command=f"autoflow runs show {number} --follow")
    if situation.planned.has_failed and number:
        return Answer(text=text, what_it_does="make it due now", command=f"autoflow retry {number}")
    if status.is_done or status is DateStatus.RUNNING:
        return Answer(text=text, what_it_does="run it again", command=f"{run} --force")
    if status in {DateStatus.INCOMPLETE, DateStatus.NOT_OVER}:
        return Answer(text=text, what_it_does="run it anyway, without the missing dates", command=f"{run} --force")
    return Answer(text=text, what_it_does="run it now", command=run)


def _reason(situation: Situation) -> str:
    return _REASONS.get(situation.planned.status, _due)(situation)


def _done(situation: Situation) -> str:
    return f"is done{_by(situation)}{_after(situation.planned.why)}"


def _skipped(situation: Situation) -> str:
    run = next((each for each in situation.runs if each.state.is_skip), None)
    which = f": run {run.id} ended at {_minute(run.finished_at)}" if run and run.finished_at else ""
    why = f", because its notebook said: {run.skipped.rstrip('.')}" if run and run.skipped else ""
    return f"is done, without a report, as it was skipped{which}{why}{_after(situation.planned.why)}"


def _running(situation: Situation) -> str:
    run = next(iter(situation.runs), None)
    started = f": run {run.id} started at {_minute(run.started_at)}" if run else ""
    return f"is running{started}{_after(situation.progress)}"


def _stopped(situation: Situation) -> str:
    planned = situation.planned
    times = f"failed {planned.failures} time{'' if planned.failures == 1 else 's'}"
    text = f"has {times}"
    if planned.status is DateStatus.CANCELLED:
        text = "was cancelled, and is not retried by itself"
    elif planned.status is DateStatus.GIVEN_UP:
        text = f"was given up: it has {times}, and has no attempts left"
    elif planned.next_attempt:
        text = f"has {times}, and is tried again at {_minute(planned.next_attempt)}"
    return f"{text}{_failure(situation.runs)}"


def _out_of_bounds(situation: Situation) -> str:
    return f"is not run by itself: {why_never_due(situation.trigger, situation.planned.date)}"


def _incomplete(situation: Situation) -> str:
    missing = in_ranges(situation.planned.missing)
    return f"cannot run yet: {f'FlowAPI has no data for {missing}' if missing else situation.planned.why}"


def _not_over(_: Situation) -> str:
    return "cannot run yet: its period is not over, as FlowAPI has no date on or after its last day"


def _waiting_for_data(situation: Situation) -> str:
    return f"has enough days, and waits for the others: {situation.planned.why}"


def _blocked(situation: Situation) -> str:
    blocks = (DateStatus.RUNNING, DateStatus.DUE, DateStatus.WAITING, DateStatus.WAITING_FOR_DATA)
    first = next((each for each in situation.before if each.status in blocks), None)
    which = f": {first.date} is {first.status}" if first else ""
    return f"waits for an earlier date, as 'after_previous: true' asks{which}"


def _due(situation: Situation) -> str:
    again = _after(situation.planned.why)
    return f"is due{again}: it starts with the next free slot of the daemon{_failure(situation.runs)}"


_REASONS: Mapping[DateStatus, Callable[[Situation], str]] = {
    DateStatus.DONE: _done,
    DateStatus.SKIPPED: _skipped,
    DateStatus.RUNNING: _running,
    DateStatus.WAITING: _stopped,
    DateStatus.GIVEN_UP: _stopped,
    DateStatus.CANCELLED: _stopped,
    DateStatus.TOO_EARLY: _out_of_bounds,
    DateStatus.TOO_LATE: _out_of_bounds,
    DateStatus.INCOMPLETE: _incomplete,
    DateStatus.NOT_OVER: _not_over,
    DateStatus.WAITING_FOR_DATA: _waiting_for_data,
    DateStatus.BLOCKED: _blocked,
}
"""What to say of each status; of the others, that the date is due."""


def _by(situation: Situation) -> str:
    """Return which run has done the date; empty if that is unknown."""
    found = next((each for each in situation.runs if each.state.is_success), None)
    if found is None or found.finished_at is None:
        return ""
    missing = f", with {found.missing_days} of its days missing" if found.missing_days else ""
    pruned = "; its outputs have been deleted because of their age" if found.pruned_at and not found.outputs else ""
    warnings = f"; checks warned of: {'; '.join(found.warnings)}" if found.warnings else ""
    return f": run {found.id} succeeded at {_minute(found.finished_at)}{missing}{pruned}{warnings}"


def _failure(runs: Sequence[RunRecord]) -> str:
    """Return which run failed last, and why; empty if none has, or one has succeeded since."""
    last = next((each for each in runs if each.failure or each.state is RunState.CRASHED), None)
    if last is None or any(each.state.is_success for each in runs):
        return ""
    error = f": {' '.join(str(last.error).split()).rstrip('.')}" if last.error else ""
    return f". The last attempt, run {last.id}, has {last.state.as_predicate}{error}"


def _after(text: str) -> str:
    return f", {text}" if text else ""


def _minute(time: datetime.datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"

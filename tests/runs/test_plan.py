import datetime
from dataclasses import replace
from pathlib import Path

import pytest

from autoflow.dates.availability import LONG_AGO, Arrival, Availability
from autoflow.dates.intervals import IntervalEnds
from autoflow.dates.stencil import DateStencil
from autoflow.runs.backfill import Reprocess, wanted_dates
from autoflow.runs.plan import due_work, failed_keys, given_up_keys, make_plan, past_status, planners, recorded_status
from autoflow.runs.records import Failures, Histories, History, WorkflowKey
from autoflow.runs.statuses import DateStatus, PlannedDate, in_ranges
from autoflow.specs import NotebookSpec, OnChange, TriggerSpec, WorkflowSpec

NOW = datetime.datetime(2026, 1, 1, 12)
HOUR = datetime.timedelta(hours=1)
WORKFLOW = WorkflowSpec(name="w", notebooks=(NotebookSpec(label="n", path=Path("/n.ipynb")),))


def day(number: int) -> datetime.date:
    return datetime.date(2016, 1, number)


TRIGGER = TriggerSpec(
    workflow=WORKFLOW, earliest_date=day(3), date_stencil=DateStencil([[-1, 0]]), retry_delay=7200, max_attempts=2
)
AVAILABLE = Availability.of(day(number) for number in (1, 2, 3, 4, 5, 6, 7, 8, 11, 12))
HISTORY = History(
    done=frozenset({day(4), day(30)}),
    running=frozenset({day(5)}),
    failures={
        day(6): Failures(1, NOW - HOUR),
        day(7): Failures(2, NOW - HOUR),
        day(8): Failures(0, None, cancelled=True),
        day(12): Failures(1, NOW - 3 * HOUR),
    },
)
KEY = WorkflowKey.of("w", {})
HISTORIES: Histories = {KEY: HISTORY}


def planned() -> dict[int, PlannedDate]:
    (plan,) = make_plan([TRIGGER], AVAILABLE, HISTORIES, NOW)
    return {each.date.day: each for each in plan.dates}


def test_each_date_that_is_available_or_was_run_has_a_status() -> None:
    assert {number: each.status for number, each in planned().items()} == {
        1: DateStatus.TOO_EARLY,
        2: DateStatus.TOO_EARLY,
        3: DateStatus.DUE,
        4: DateStatus.DONE,
        5: DateStatus.RUNNING,
        6: DateStatus.WAITING,
        7: DateStatus.GIVEN_UP,
        8: DateStatus.CANCELLED,
        11: DateStatus.INCOMPLETE,
        12: DateStatus.DUE,
        30: DateStatus.DONE,
    }


def test_sensor_runs_exactly_the_dates_that_are_due() -> None:
    (due,) = due_work([TRIGGER], AVAILABLE, HISTORIES, NOW).runs.values()
    assert [run.reference_date for run in due] == [
        each.date for each in planned().values() if each.status is DateStatus.DUE
    ]


def test_counts_name_every_status_of_a_plan() -> None:
    (plan,) = make_plan([TRIGGER], AVAILABLE, HISTORIES, NOW)
    assert plan.counts == {
        DateStatus.DONE: 2,
        DateStatus.RUNNING: 1,
        DateStatus.DUE: 2,
        DateStatus.WAITING: 1,
        DateStatus.GIVEN_UP: 1,
        DateStatus.CANCELLED: 1,
        DateStatus.TOO_EARLY: 2,
        DateStatus.TOO_LATE: 0,
        DateStatus.INCOMPLETE: 1,
        DateStatus.NOT_OVER: 0,
        DateStatus.WAITING_FOR_DATA: 0,
        DateStatus.BLOCKED: 0,
        DateStatus.SKIPPED: 0,
    }


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (3, ""),
        (6, "failed 1 time, next attempt at 2026-01-01 13:00:00 UTC"),
        (7, "failed 2 times"),
        (11, "missing 2016-01-10"),
    ],
)
def test_reason_explains_the_status(number: int, why: str) -> None:
    assert planned()[number].why == why


def test_a_date_whose_stencil_is_backwards_has_a_reason() -> None:
    trigger = TriggerSpec(workflow=WORKFLOW, date_stencil=DateStencil([["2016-01-02", 0]]))
    (plan,) = make_plan([trigger], Availability.of({day(1)}), {}, NOW)
    assert [(each.status, each.why) for each in plan.dates] == [
        (DateStatus.INCOMPLETE, "an interval of the stencil is empty for this date")
    ]


def test_a_new_run_that_was_given_up_is_not_announced_again() -> None:
    again = PlannedDate(date=day(1), status=DateStatus.DUE, failures=1, is_rerun=True)
    assert again.why == "again, because days have changed since it ran, failed 1 time"
    given_up = replace(again, status=DateStatus.DONE, failures=2)
    assert given_up.why == "days have changed since it ran, a new run was given up after it failed 2 times"


def test_day_that_an_excluded_end_names_is_not_waited_for() -> None:
    available = Availability.of({day(1), day(2), day(4)})
    trigger = TriggerSpec(workflow=WORKFLOW, date_stencil=DateStencil([[-1, 1]], IntervalEnds.EXCLUDED))
    (plan,) = make_plan([trigger], available, {}, NOW)
    assert [(each.date.day, each.status, each.why) for each in plan.dates] == [
        (1, DateStatus.INCOMPLETE, "missing 2015-12-31"),
        (2, DateStatus.DUE, ""),
        (4, DateStatus.INCOMPLETE, "missing 2016-01-03"),
    ]
    work = due_work([trigger], available, {}, NOW)
    (run,) = work.runs[WorkflowKey.of_trigger(trigger)]
    assert [interval.as_strings() for interval in run.date_ranges] == [["2016-01-01", "2016-01-03"]]


def test_switching_interval_ends_makes_no_date_due_again() -> None:
    histories = {WorkflowKey.of_trigger(TRIGGER): History(done=frozenset({day(1), day(2)}))}
    for ends in IntervalEnds:
        trigger = replace(TRIGGER, date_stencil=DateStencil([0], ends))
        assert due_work([trigger], Availability.of({day(1), day(2)}), histories, NOW).total == 0


def test_date_that_failed_or_was_cancelled_has_failed_until_it_is_done() -> None:
    assert [number for number, each in planned().items() if each.has_failed] == [6, 7, 8, 12]


def test_consecutive_days_are_written_as_a_range() -> None:
    assert in_ranges([day(1), day(2), day(3), day(5), day(8), day(9)]) == (
        "2016-01-01 to 2016-01-03, 2016-01-05, 2016-01-08 to 2016-01-09"
    )


def test_recorded_status_is_what_the_run_store_alone_decides() -> None:
    histories: Histories = {KEY: replace(HISTORY, done=frozenset({day(4), day(5)}))}
    found = {number: recorded_status(histories, KEY.on(day(number))) for number in (3, 4, 5, 6, 7, 8)}
    assert {number: status for number, status in found.items() if status} == {
        4: DateStatus.DONE,
        5: DateStatus.RUNNING,  # again
        8: DateStatus.CANCELLED,
    }
    assert recorded_status({}, KEY.on(day(4))) is None


def test_past_status_needs_no_available_dates() -> None:
    assert {number: past_status(HISTORIES, KEY.on(day(number)), TRIGGER) for number in (1, 4, 5, 6, 7, 8, 12)} == {
        1: DateStatus.FAILED,  # before earliest_date
        4: DateStatus.DONE,
        5: DateStatus.RUNNING,
        6: DateStatus.WAITING,
        7: DateStatus.GIVEN_UP,
        8: DateStatus.CANCELLED,
        12: DateStatus.WAITING,
    }


def test_past_status_is_failed_if_workflows_yml_no_longer_asks_for_the_date() -> None:
    found = [past_status(HISTORIES, KEY.on(day(number)), None) for number in (4, 5, 6, 7, 8)]
    failed = DateStatus.FAILED
    assert found == [DateStatus.DONE, DateStatus.RUNNING, failed, failed, DateStatus.CANCELLED]
    backwards = TriggerSpec(workflow=WORKFLOW, date_stencil=DateStencil([["2016-01-07", 0]]))
    assert past_status(HISTORIES, KEY.on(day(6)), backwards) is DateStatus.FAILED


def test_dates_are_given_up_whether_or_not_they_are_still_available() -> None:
    assert given_up_keys([TRIGGER], HISTORIES) == [KEY.on(day(7))]
    assert given_up_keys([TRIGGER], {}) == []


def test_dates_that_are_done_running_or_cancelled_have_not_failed() -> None:
    failures = dict.fromkeys(map(day, range(1, 9)), Failures(2, NOW)) | {
        day(3): Failures(2, NOW, cancelled=True),
        day(4): Failures(),
    }
    histories = {KEY: History(done=frozenset({day(1)}), running=frozenset({day(2)}), failures=failures)}
    assert failed_keys([TRIGGER], histories) == [KEY.on(day(number)) for number in (5, 6, 7, 8)]
    assert given_up_keys([TRIGGER], histories) == [KEY.on(day(number)) for number in (5, 6, 7, 8)]


def test_skipped_dates_are_done_and_have_a_status_of_their_own() -> None:
    started = NOW - 2 * HOUR
    history = replace(HISTORY, skipped=frozenset({day(4)}), started=dict.fromkeys([day(4), day(30)], started))
    (plan,) = make_plan([TRIGGER], AVAILABLE, {KEY: history}, NOW)
    assert {each.date.day: each.status for each in plan.dates if each.status.is_done} == {
        4: DateStatus.SKIPPED,
        30: DateStatus.DONE,
    }
    assert recorded_status({KEY: history}, KEY.on(day(4))) is DateStatus.SKIPPED
    assert past_status({KEY: history}, KEY.on(day(4)), TRIGGER) is DateStatus.SKIPPED
    (planner,) = planners([TRIGGER], AVAILABLE, {KEY: history}, NOW)
    assert planner.counts()[DateStatus.SKIPPED] == planner.counts()[DateStatus.DONE] == 1
    assert day(4) not in planner.due_dates().dates
    # It blocks no later date, and runs again if its days change.
    ordered = replace(TRIGGER, after_previous=True, earliest_date=day(4))
    skipped_alone = History(done=frozenset({day(4)}), skipped=frozenset({day(4)}))
    (planner,) = planners([ordered], AVAILABLE, {KEY: skipped_alone}, NOW)
    assert planner.due_dates().dates == [day(5)]
    arrivals = {date: Arrival(NOW - HOUR if date == day(3) else LONG_AGO) for date in AVAILABLE.to().dates}
    changed = Availability.of_arrivals({"calls": arrivals})
    (planner,) = planners([replace(TRIGGER, on_change=OnChange.RERUN)], changed, {KEY: history}, NOW)
    assert planner.due_dates().dates[0] == day(3)
    assert day(4) in planner.due_dates().dates
    assert planner.counts()[DateStatus.SKIPPED] == 0


def test_skipped_dates_are_reprocessed_like_others_that_are_done() -> None:
    history = replace(HISTORY, skipped=frozenset({day(4)}))
    plans = make_plan([TRIGGER], AVAILABLE, {KEY: history}, NOW)

    def wanted(reprocess: Reprocess) -> bool:
        dates = wanted_dates(plans, day(4), day(4), reprocess=reprocess, outdated=[KEY.on(day(4))])
        return [each.date for each in dates] == [day(4)]

    assert {each: wanted(each) for each in Reprocess} == {
        Reprocess.NONE: False,
        Reprocess.FAILED: False,
        Reprocess.OUTDATED: True,
        Reprocess.ALL: True,
    }

"""What holds for the due dates of any entry, whichever dates FlowAPI has."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st

from autoflow.dates.availability import Arrival, Availability
from autoflow.dates.completeness import Completeness, Enough
from autoflow.dates.intervals import IntervalEnds
from autoflow.dates.periods import Every, period_of
from autoflow.dates.stencil import DateStencil, PeriodOffset
from autoflow.runs.plan import due_work, planners
from autoflow.runs.records import Failures, History, WorkflowKey
from autoflow.specs import NotebookSpec, OnChange, TriggerSpec, WorkflowSpec

WORKFLOW = WorkflowSpec(name="w", notebooks=(NotebookSpec(label="n", path=Path("/n.ipynb")),))
START, NOW = dt.date(2016, 1, 20), dt.datetime(2016, 5, 1)
DAY = dt.timedelta(days=1)

numbers = st.integers(0, 70)
dates = st.sets(numbers.map(lambda number: START + number * DAY), max_size=70)
offsets = st.integers(-9, 3)
periods = st.integers(-2, 1).map(PeriodOffset)
pairs = st.tuples(offsets, offsets) | st.tuples(periods, periods)
elements = st.lists(offsets | periods | pairs.map(lambda pair: tuple(sorted(pair))), min_size=1, max_size=3)
needs = st.builds(
    Completeness,
    enough=st.integers(1, 8).map(lambda days: Enough(days=days)) | st.just(Enough.of("60%")),
    wait=st.integers(0, 4),
    longest_gap=st.none() | st.integers(0, 4),
) | st.just(Completeness())
times = st.integers(0, 60).map(lambda number: NOW - number * 12 * dt.timedelta(hours=1))
failed_dates = st.dictionaries(numbers, st.builds(Failures, st.integers(1, 3), times), max_size=10)


def due(trigger: TriggerSpec, available: Availability, history: History, now: dt.datetime = NOW) -> list[dt.date]:
    key = WorkflowKey.of_trigger(trigger)
    return [run.reference_date for run in due_work([trigger], available, {key: history}, now, most=1000).runs[key]]


@given(st.sampled_from(Every), elements, dates, needs)
def test_due_dates_are_the_same_if_the_stencil_lists_the_days_of_its_periods(
    every: Every, stencil: list[object], available: set[dt.date], needed: Completeness
) -> None:
    by_period = TriggerSpec(
        workflow=WORKFLOW, every=every, date_stencil=DateStencil(stencil, every=every), needs=needed
    )
    ends = {period_of(date, every).end for date in available}
    found = due(by_period, Availability.of(available), History())
    for end in ends:
        by_days = replace(
            by_period, date_stencil=DateStencil([in_days(each, end, every) for each in stencil], every=every)
        )
        assert (end in due(by_days, Availability.of(available), History())) is (end in found)


def in_days(element: object, end: dt.date, every: Every) -> tuple[dt.date, dt.date]:
    """Return the first and the last day of an element for the period that ends on `end`."""
    first, last = element if isinstance(element, tuple) else (element, element)
    if isinstance(first, PeriodOffset) and isinstance(last, PeriodOffset):
        return period_of(end, every, shift=first.periods).start, period_of(end, every, shift=last.periods).end
    return end + first * DAY, end + last * DAY


def entry(every: Every, stencil: list[object], needed: Completeness, *, after_previous: bool) -> TriggerSpec:
    return TriggerSpec(
        workflow=WORKFLOW,
        every=every,
        date_stencil=DateStencil(stencil, every=every),
        needs=needed,
        after_previous=after_previous,
        on_change=OnChange.RERUN,
        max_attempts=3,
    )


@given(
    trigger=st.builds(entry, st.sampled_from(Every), elements, needs, after_previous=st.booleans()),
    arrived=st.dictionaries(numbers, times, max_size=70),
    ran=st.dictionaries(numbers, times, max_size=10),
    failed=failed_dates,
    later=st.integers(0, 400).map(lambda hours: NOW + hours * dt.timedelta(hours=1)),
)
def test_what_is_due_now_is_due_later_unless_it_has_run(
    trigger: TriggerSpec,
    arrived: dict[int, dt.datetime],
    ran: dict[int, dt.datetime],
    failed: dict[int, Failures],
    later: dt.datetime,
) -> None:
    arrivals = {START + number * DAY: Arrival(time) for number, time in arrived.items()}
    available = Availability.of(arrivals).with_arrivals({"calls": arrivals})
    started = {trigger.period(START + number * DAY).end: time for number, time in ran.items()}
    failures = {trigger.period(START + number * DAY).end: each for number, each in failed.items()}
    history = History(done=frozenset(started), started=started, failures=failures)
    assert set(due(trigger, available, history)) <= set(due(trigger, available, history, later))


@given(
    stencil=st.lists(offsets | st.tuples(offsets, offsets).map(sorted), min_size=1, max_size=3),
    available=dates,
    done=dates,
    running=dates,
    failed=failed_dates,
    earliest=st.none() | numbers.map(lambda number: START + number * DAY),
    ends=st.sampled_from(IntervalEnds),
)
def test_due_dates_without_new_keys_are_those_of_the_old_rule(
    *,
    stencil: list[int | list[int]],
    available: set[dt.date],
    done: set[dt.date],
    running: set[dt.date],
    failed: dict[int, Failures],
    earliest: dt.date | None,
    ends: IntervalEnds,
) -> None:
    is_excluded = ends is IntervalEnds.EXCLUDED
    assume(not (is_excluded and any(isinstance(each, list) and each[0] == each[1] for each in stencil)))
    trigger = TriggerSpec(
        workflow=WORKFLOW,
        earliest_date=earliest,
        date_stencil=DateStencil(stencil, ends),
        max_attempts=3,
        retry_delay=24 * 3600,
    )
    failures = {START + number * DAY: each for number, each in failed.items()}
    history = History(done=frozenset(done), running=frozenset(running), failures=failures)
    assert due(trigger, Availability.of(available), history) == [
        date
        for date in sorted(available - done - running)
        if (earliest is None or date >= earliest)
        and needed_days(stencil, date, is_excluded=is_excluded) <= available
        and may_be_tried(failures.get(date))
    ]


def needed_days(stencil: Sequence[int | list[int]], date: dt.date, *, is_excluded: bool) -> set[dt.date]:
    found = {date + each * DAY for each in stencil if isinstance(each, int)}
    for first, last in (each for each in stencil if isinstance(each, list)):
        found |= {date + number * DAY for number in range(first, last if is_excluded else last + 1)}
    return found


def may_be_tried(failures: Failures | None) -> bool:
    """Return whether a date with these failures may run, with three attempts and at least a day between two of them."""
    if failures is None:
        return True
    assert failures.last
    return failures.count < 3 and failures.last + failures.count * DAY <= NOW


@given(
    trigger=st.builds(entry, st.sampled_from(Every), elements, needs, after_previous=st.booleans()),
    on_change=st.sampled_from(OnChange),
    available=dates,
    failed=failed_dates,
    done=dates,
    running=st.sets(numbers.map(lambda number: START + number * DAY), max_size=3),
)
def test_counts_of_a_planner_are_those_of_its_plan(
    trigger: TriggerSpec,
    on_change: OnChange,
    available: set[dt.date],
    failed: dict[int, Failures],
    done: set[dt.date],
    running: set[dt.date],
) -> None:
    trigger = replace(trigger, on_change=on_change, earliest_date=START + 5 * DAY)
    arrivals = {"calls": {date: Arrival(NOW - DAY) for date in sorted(available)[::3]}}
    history = History(
        done=frozenset(done),
        running=frozenset(running),
        failures={START + number * DAY: each for number, each in failed.items()},
        started=dict.fromkeys(done, NOW - 2 * DAY),
    )
    found = Availability.of(available).with_arrivals(arrivals)
    (planner,) = planners([trigger], found, {WorkflowKey.of_trigger(trigger): history}, NOW)
    assert +planner.counts() == Counter(each.status for each in planner.plan())

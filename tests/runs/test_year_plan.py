"""The dates of a year that are not done, each with the reason."""

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoflow.dates.availability import Arrival, Availability
from autoflow.dates.completeness import Completeness, Enough
from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil, PeriodOffset
from autoflow.runs.records import Failures, Histories, History, WorkflowKey
from autoflow.runs.year_plan import basis_of_plan, plan_year, years_with_data
from autoflow.specs import NotebookSpec, TriggerSpec, WorkflowSpec

NOW = datetime.datetime(2016, 1, 20, 12)
WORKFLOW = WorkflowSpec(name="w", notebooks=(NotebookSpec(label="n", path=Path("/n.ipynb")),))
KEY = WorkflowKey.of("w", {})


def day(number: int) -> datetime.date:
    return datetime.date(2016, 1, number)


def days(*numbers: int) -> Availability:
    return Availability.of(map(day, numbers))


def entry(**more: Any) -> TriggerSpec:
    return TriggerSpec(workflow=WORKFLOW, **more)


def reasons(
    trigger: TriggerSpec, available: Availability, history: History | None = None, **more: Any
) -> dict[int, str]:
    """Return the status of each date of 2016, and the reason for it."""
    history = history or History()
    histories: Histories = {KEY if trigger.every is Every.DAY else replace(KEY, every=trigger.every): history}
    plan = plan_year(trigger, available, histories, NOW, year=2016, **more)
    return {each.date.day: f"{each.status}: {each.why}".removesuffix(": ") for each in plan.dates}


def test_every_day_up_to_the_newest_has_a_reason_unless_it_is_done() -> None:
    trigger = entry(earliest_date=day(3), latest_date=day(8), date_stencil=DateStencil([[-1, 0]]))
    history = History(
        done=frozenset({day(4)}),
        running=frozenset({day(5)}),
        failures={day(6): Failures(1, NOW), day(7): Failures(5, NOW), day(8): Failures(cancelled=True)},
    )
    assert reasons(trigger, days(2, 3, 4, 5, 6, 7, 8, 11), history) == {
        2: "before earliest_date",
        3: "due",
        5: "running",
        6: "waiting for a retry: failed 1 time, next attempt at 2016-01-20 12:01:00 UTC",
        7: "given up: failed 5 times",
        8: "cancelled",
        9: "after latest_date",
        10: "after latest_date",
        11: "after latest_date",
    }
    assert reasons(entry(date_stencil=DateStencil([[-1, 0]])), days(4, 5, 8)) == {
        4: "dates missing: missing 2016-01-03",
        5: "due",
        6: "dates missing: missing 2016-01-06",
        7: "dates missing: missing 2016-01-06 to 2016-01-07",
        8: "dates missing: missing 2016-01-07",
    }


def test_a_wait_has_its_end_and_the_plan_changes_then() -> None:
    trigger = entry(date_stencil=DateStencil([[-3, 0]]), needs=Completeness(enough=Enough.of("50%"), wait=3))
    available = days(14, 16, 17, 19)
    assert reasons(trigger, available)[19] == (
        "waiting for data: missing 2016-01-18; starts at 2016-01-22 00:00:00 UTC without more"
    )
    plan = plan_year(trigger, available, {}, NOW, year=2016)
    assert plan.changes_at == datetime.datetime(2016, 1, 22)
    later = plan_year(trigger, available, {}, plan.changes_at, year=2016)
    assert (str(later.dates[-1].status), later.changes_at) == ("due", None)


def test_dates_wait_for_an_earlier_one_also_from_one_year_to_the_next() -> None:
    trigger = entry(after_previous=True)
    running = {KEY: History(running=frozenset({day(2)}))}
    plan = plan_year(trigger, days(1, 2, 3), running, NOW, year=2016)
    assert plan.blocked_by == day(1)
    assert reasons(trigger, days(1, 2, 3), running[KEY]) == {
        1: "due",
        2: "running",
        3: "waiting for an earlier date: starts after 2016-01-01",
    }
    assert reasons(trigger, days(1), blocked_by=datetime.date(2015, 12, 31)) == {
        1: "waiting for an earlier date: starts after 2015-12-31"
    }


def test_a_period_that_is_not_over_says_so() -> None:
    stencil = DateStencil([PeriodOffset(0)], every=Every.WEEK)
    trigger = entry(every=Every.WEEK, date_stencil=stencil)
    found = reasons(trigger, days(*range(4, 16)))
    assert found == {10: "due", 17: "period not over: missing 2016-01-16 to 2016-01-17"}
    waiting = replace(trigger, needs=Completeness(enough=Enough.of(7), wait=1))
    plan = plan_year(waiting, days(*range(4, 21)), {}, NOW, year=2016)
    assert plan.changes_at == datetime.datetime(2016, 1, 25)


def test_years_without_data_or_outside_the_bounds_have_no_plan() -> None:
    available = Availability.of(datetime.date(year, 12, 31) for year in (2010, 2014, 2016))
    assert years_with_data(entry(), available) == {2010, 2014, 2016}
    assert years_with_data(entry(earliest_date=datetime.date(2012, 5, 1)), available) == {2014, 2016}
    assert years_with_data(entry(latest_date=datetime.date(2014, 5, 1)), available) == {2010, 2014}
    week = entry(every=Every.WEEK, date_stencil=DateStencil([PeriodOffset(0)], every=Every.WEEK))
    assert years_with_data(week, available) == {2010, 2014, 2016, 2017}
    assert years_with_data(entry(), Availability(types={})) == frozenset()
    outside = plan_year(entry(earliest_date=datetime.date(2014, 12, 31)), available, {}, NOW, year=2010)
    assert not outside.dates


@pytest.mark.parametrize(
    ("stencil", "changed", "years"),
    [
        ([0], datetime.date(2015, 6, 1), {2015}),
        ([[-7, 0]], datetime.date(2015, 12, 30), {2015, 2016}),
        ([[-400, 0]], datetime.date(2014, 12, 30), {2014, 2015, 2016}),
        ([["2014-02-01", 0]], datetime.date(2014, 2, 1), {2014, 2015, 2016}),
        ([["2014-02-01", "2014-02-03"]], datetime.date(2015, 5, 5), {2015, 2016}),
    ],
)
def test_a_date_that_arrives_changes_the_basis_of_the_years_that_it_matters_to(
    stencil: Any, changed: datetime.date, years: set[int]
) -> None:
    trigger = entry(date_stencil=DateStencil(stencil))
    first = datetime.date(2014, 1, 1)
    every = frozenset(first + datetime.timedelta(days=number) for number in range(3 * 365)) - {changed}
    arrivals = {"calls": {changed: Arrival(first_seen=NOW)}}
    before = Availability(types={"calls": every}, arrivals=arrivals)
    after = Availability(types={"calls": every | {changed}}, arrivals=arrivals)
    again = Availability(types={"calls": every | {changed}}, arrivals={"calls": {changed: Arrival(first_seen=NOW)}})

    def basis(availability: Availability) -> dict[int, str]:
        return {year: basis_of_plan(trigger, availability, year) for year in (2014, 2015, 2016)}

    assert {year for year in basis(before) if basis(before)[year] != basis(after)[year]} == years
    assert basis(after) == basis(again)
    assert basis_of_plan(replace(trigger, max_attempts=1), after, 2014) != basis(after)[2014]
    assert basis_of_plan(replace(trigger, title="T", label="l"), after, 2014) == basis(after)[2014]

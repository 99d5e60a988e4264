import datetime
from pathlib import Path

import pytest

from autoflow.dates.availability import Availability
from autoflow.dates.stencil import DateStencil
from autoflow.runs.plan import due_work, make_plan
from autoflow.runs.records import Failures, Histories, History, WorkflowKey
from autoflow.runs.statuses import DateStatus
from autoflow.specs import Json, NotebookSpec, TriggerSpec, WorkflowSpec

NOW = datetime.datetime(2016, 2, 1, 12)


def day(number: int) -> datetime.date:
    return datetime.date(2016, 1, number)


def trigger(name: str = "a", parameters: dict[str, Json] | None = None, **options: object) -> TriggerSpec:
    workflow = WorkflowSpec(name=name, notebooks=(NotebookSpec(label="n", path=Path("/inputs/n.ipynb")),))
    return TriggerSpec(workflow=workflow, parameters=parameters or {}, **options)  # type: ignore[arg-type]


def due(triggers: list[TriggerSpec], available: set[int], histories: Histories | None = None) -> list[tuple[str, int]]:
    dates = frozenset(day(number) for number in available)
    work = due_work(triggers, Availability.of(dates), histories or {}, NOW)
    runs = [run for runs in work.runs.values() for run in runs]
    assert work.total == len(runs)
    return [(run.workflow.name, run.reference_date.day) for run in runs]


def history_of(each: TriggerSpec, history: History) -> Histories:
    return {WorkflowKey.of_trigger(each): history}


class TestDueRuns:
    def test_every_available_date_is_due_oldest_first_for_each_workflow(self) -> None:
        assert due([trigger("b"), trigger("a")], {2, 1}) == [("b", 1), ("b", 2), ("a", 1), ("a", 2)]

    def test_only_the_oldest_dates_of_a_long_backlog_are_kept(self) -> None:
        long, short = trigger("long"), trigger("short", earliest_date=day(4))
        work = due_work([long, short], Availability.of(map(day, range(1, 6))), {}, NOW, most=2)
        kept = {key.workflow: [run.reference_date.day for run in runs] for key, runs in work.runs.items()}
        assert kept == {"long": [1, 2], "short": [4, 5]}
        assert (work.cut, work.total) == (frozenset({WorkflowKey.of_trigger(long)}), 7)

    def test_it_says_when_the_next_retry_delay_ends(self) -> None:
        one = trigger(retry_delay=3600)
        failed = {day(number): Failures(1, NOW - datetime.timedelta(minutes=number)) for number in (1, 2)}
        work = due_work([one], Availability.of(failed), history_of(one, History(failures=failed)), NOW)
        assert (work.total, work.next_retry) == (0, NOW + datetime.timedelta(minutes=58))

    def test_nothing_is_due_without_dates(self) -> None:
        assert due([trigger()], set()) == []

    def test_dates_that_are_done_or_running_are_not_due(self) -> None:
        one = trigger()
        history = History(done=frozenset({day(1)}), running=frozenset({day(2)}))
        assert due([one], {1, 2, 3}, history_of(one, history)) == [("a", 3)]

    def test_a_date_is_done_for_its_parameters_only(self) -> None:
        one, other = trigger(parameters={"x": 1}), trigger(parameters={"x": 2})
        assert due([one, other], {1}, history_of(one, History(done=frozenset({day(1)})))) == [("a", 1)]

    def test_the_order_of_parameters_does_not_matter(self) -> None:
        one, same = trigger(parameters={"x": 1, "y": 2}), trigger(parameters={"y": 2, "x": 1})
        assert due([same], {1}, history_of(one, History(done=frozenset({day(1)})))) == []

    def test_dates_before_the_earliest_are_left_out_and_the_earliest_is_not(self) -> None:
        assert due([trigger(earliest_date=day(2))], {1, 2, 3}) == [("a", 2), ("a", 3)]

    def test_a_date_is_due_once_its_whole_stencil_is_available(self) -> None:
        stencil = DateStencil([[-2, 0]])
        assert due([trigger(date_stencil=stencil)], {1, 2, 4, 5, 6}) == [("a", 6)]

    def test_a_stencil_that_is_backwards_for_a_date_makes_it_not_due(self) -> None:
        stencil = DateStencil([[day(3), -1]])
        assert due([trigger(date_stencil=stencil)], {1, 2, 3, 4, 5}) == [("a", 4), ("a", 5)]

    def test_a_run_has_the_date_ranges_of_its_stencil(self) -> None:
        stencil = DateStencil([[-1, 0], day(1)])
        work = due_work([trigger(date_stencil=stencil)], Availability.of({day(1), day(2)}), {}, NOW)
        ((run,),) = work.runs.values()
        assert [each.as_strings() for each in run.date_ranges] == [
            ["2016-01-01", "2016-01-02"],
            ["2016-01-01", "2016-01-01"],
        ]


class TestFailures:
    @pytest.mark.parametrize(("seconds_ago", "is_due"), [(59, False), (60, True)])
    def test_a_failed_date_is_due_again_after_its_delay(self, seconds_ago: int, is_due: bool) -> None:
        one = trigger(retry_delay=60.0)
        failures = Failures(count=1, last=NOW - datetime.timedelta(seconds=seconds_ago))
        assert bool(due([one], {1}, history_of(one, History(failures={day(1): failures})))) is is_due

    def test_a_date_is_given_up_after_its_last_attempt(self) -> None:
        one = trigger(max_attempts=2, retry_delay=0.0)
        for count, expected in ((1, [("a", 1)]), (2, [])):
            failures = Failures(count=count, last=NOW)
            assert due([one], {1}, history_of(one, History(failures={day(1): failures}))) == expected

    def test_a_cancelled_date_is_not_retried(self) -> None:
        one = trigger()
        assert due([one], {1}, history_of(one, History(failures={day(1): Failures(cancelled=True)}))) == []

    def test_a_date_that_was_only_interrupted_is_due_at_once(self) -> None:
        one = trigger()
        assert due([one], {1}, history_of(one, History(failures={day(1): Failures()}))) == [("a", 1)]

    @pytest.mark.parametrize("ahead", [datetime.timedelta(seconds=1), datetime.timedelta(days=365)])
    def test_a_failure_from_the_future_delays_the_retry_from_now_on_at_most(self, ahead: datetime.timedelta) -> None:
        one = trigger(retry_delay=60, max_attempts=5)
        history = history_of(one, History(failures={day(1): Failures(count=1, last=NOW + ahead)}))
        (plan,) = make_plan([one], Availability.of({day(1)}), history, NOW)
        (date,) = plan.dates
        assert (date.status, date.next_attempt) == (DateStatus.WAITING, NOW + datetime.timedelta(seconds=60))

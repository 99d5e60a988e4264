import datetime
from pathlib import Path

import pytest

from autoflow.date_stencil import DateStencil
from autoflow.errors import AutoflowError
from autoflow.runs.plan import due_runs, requested_run
from autoflow.runs.records import Failures, History, RunKey
from autoflow.runs.retries import RetryPolicy
from autoflow.sensor import TokenWatch
from autoflow.specs import Json, NotebookSpec, SensorSpec, TriggerSpec, WorkflowsFile, WorkflowSpec

NOW = datetime.datetime(2016, 2, 1, 12)


def day(number: int) -> datetime.date:
    return datetime.date(2016, 1, number)


def workflow(name: str, parameters: dict[str, str] | None = None) -> WorkflowSpec:
    notebook = NotebookSpec(label="n", path=Path("/inputs/n.ipynb"), parameters=parameters or {})
    return WorkflowSpec(name=name, notebooks=(notebook,))


def trigger(name: str = "a", parameters: dict[str, Json] | None = None, **options: object) -> TriggerSpec:
    return TriggerSpec(workflow=workflow(name), parameters=parameters or {}, **options)  # type: ignore[arg-type]


def due(
    triggers: list[TriggerSpec], available: set[int], histories: dict[tuple[str, str], History] | None = None
) -> list[tuple[str, int]]:
    dates = frozenset(day(number) for number in available)
    runs = due_runs(triggers, dates, histories or {}, NOW)
    return [(run.workflow.name, run.reference_date.day) for run in runs]


def history_of(each: TriggerSpec, history: History) -> dict[tuple[str, str], History]:
    key = RunKey.of(each.workflow.name, each.parameters, day(1))
    return {(key.workflow, key.parameters_hash): history}


class TestDueRuns:
    def test_every_available_date_is_due_oldest_first_for_each_workflow(self) -> None:
        assert due([trigger("b"), trigger("a")], {2, 1}) == [("b", 1), ("a", 1), ("b", 2), ("a", 2)]

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

    def test_a_run_knows_its_date_ranges(self) -> None:
        stencil = DateStencil([[-1, 0], day(1)])
        (run,) = due_runs([trigger(date_stencil=stencil)], frozenset({day(1), day(2)}), {}, NOW)
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

    def test_the_delay_doubles_with_each_failure_up_to_a_day(self) -> None:
        policy = RetryPolicy(retry_delay=60.0, max_attempts=5000)
        assert [policy.delay(failures) for failures in (1, 2, 3, 2000)] == [
            datetime.timedelta(seconds=seconds) for seconds in (60, 120, 240, 86400)
        ]

    def test_what_comes_next_is_told_in_words(self) -> None:
        policy = RetryPolicy(retry_delay=60.0, max_attempts=3)
        assert policy.after(2) == "attempt 3 of 3 in 120 s"
        assert policy.after(3) == "given up after 3 failed attempts"

    def test_a_date_is_given_up_after_its_last_attempt(self) -> None:
        one = trigger(max_attempts=2, retry_delay=0.0)
        for count, expected in ((1, [("a", 1)]), (2, [])):
            failures = Failures(count=count, last=NOW)
            assert due([one], {1}, history_of(one, History(failures={day(1): failures}))) == expected

    def test_a_cancelled_date_is_not_tried_again_by_itself(self) -> None:
        one = trigger()
        assert due([one], {1}, history_of(one, History(failures={day(1): Failures(cancelled=True)}))) == []

    def test_a_date_that_was_only_interrupted_is_due_at_once(self) -> None:
        one = trigger()
        assert due([one], {1}, history_of(one, History(failures={day(1): Failures()}))) == [("a", 1)]


class TestTokenWatch:
    @pytest.mark.parametrize(
        ("left", "words"),
        [
            (datetime.timedelta(days=30), []),
            (datetime.timedelta(days=3, hours=1), ["FLOWAPI_TOKEN expires in 3 days (2016-02-04 13:00 UTC)"]),
            (datetime.timedelta(hours=5), ["FLOWAPI_TOKEN expires in 5 hours (2016-02-01 17:00 UTC)"]),
            (datetime.timedelta(hours=-1), ["FLOWAPI_TOKEN has expired (2016-02-01 11:00 UTC)"]),
        ],
    )
    def test_a_token_that_expires_soon_is_told_of_once_a_day(
        self, left: datetime.timedelta, words: list[str], logged: list[str]
    ) -> None:
        watch, expiry = TokenWatch(), NOW.replace(tzinfo=datetime.UTC) + left
        for hours in (0, 1, 23):
            watch.look(expiry, NOW + datetime.timedelta(hours=hours))
        assert [line.split(": ")[0] for line in logged] == words
        watch.look(expiry, NOW + datetime.timedelta(hours=24))
        assert len(logged) == 2 * len(words)

    def test_a_token_that_never_expires_is_not_told_of(self, logged: list[str]) -> None:
        TokenWatch().look(None, NOW)
        assert logged == []


class TestRequestedRun:
    TAKES_X = workflow("takes_x", {"value": "x"})
    FILE = WorkflowsFile(
        workflows=(workflow("a"), TAKES_X),
        sensor=SensorSpec(
            schedule=None,
            cdr_types=None,
            triggers=(TriggerSpec(workflow=TAKES_X, parameters={"x": 1}, date_stencil=DateStencil([-1])),),
        ),
    )

    def test_without_parameters_it_has_those_of_the_sensors_entry(self) -> None:
        run = requested_run(self.FILE, "takes_x", day(2), None)
        assert run.parameters == {"x": 1}
        assert [each.as_strings() for each in run.date_ranges] == [["2016-01-01", "2016-01-01"]]

    def test_other_parameters_can_be_given(self) -> None:
        assert requested_run(self.FILE, "takes_x", day(2), {"x": 5}).parameters == {"x": 5}

    def test_a_workflow_that_the_sensor_does_not_run_can_be_run_for_a_date(self) -> None:
        run = requested_run(self.FILE, "a", day(2), None)
        assert [each.as_strings() for each in run.date_ranges] == [["2016-01-02", "2016-01-02"]]

    @pytest.mark.parametrize(
        ("name", "parameters", "message"),
        [
            ("b", None, "there is no workflow 'b' in workflows.yml; there are a, takes_x"),
            ("takes_x", {}, "missing or too many: x"),
            ("takes_x", {"x": 1, "y": 2}, "missing or too many: y"),
        ],
    )
    def test_what_cannot_be_run_is_refused(self, name: str, parameters: dict[str, Json] | None, message: str) -> None:
        with pytest.raises(AutoflowError, match=message):
            requested_run(self.FILE, name, day(2), parameters)

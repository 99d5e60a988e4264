import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflow.runs.records import RunKey, RunRecord, RunState
from autoflow.runs.stuck import StuckRun, in_words, stuck_runs

NOW = datetime.datetime(2016, 2, 1, 12)
KEY = RunKey.of("a", {}, datetime.date(2016, 1, 1))
MINUTE = datetime.timedelta(minutes=1)


def run(minutes: float, key: RunKey = KEY) -> RunRecord:
    """Return a run that has been running for so long."""
    return RunRecord(
        id=17,
        key=key,
        attempt=1,
        state=RunState.RUNNING,
        holder="me",
        started_at=NOW - minutes * MINUTE,
        heartbeat_at=NOW,
        finished_at=None,
        error=None,
        outputs={},
        flow_run_id=None,
        forgiven_at=None,
        pruned_at=None,
    )


def stuck(minutes: float, *successes: float) -> list[StuckRun]:
    return stuck_runs([run(minutes)], {KEY.workflow_key: [each * MINUTE for each in successes]}, NOW)


@pytest.mark.parametrize(
    ("successes", "limit"),
    [
        ((), 60),
        ((1, 1), 60),
        ((1, 1, 1), 10),
        ((2, 2, 2), 10),
        ((2.1, 2.1, 2.1), 10.5),
        ((1, 30, 100), 150),
        ((100, 1, 30, 4), 85),
    ],
)
def test_run_is_stuck_only_after_its_limit(successes: tuple[float, ...], limit: float) -> None:
    assert not stuck(limit, *successes)
    assert stuck(limit + 0.01, *successes)


def test_only_successes_of_the_same_workflow_with_the_same_parameters_count() -> None:
    other = RunKey.of("a", {"x": 1}, KEY.reference_date)
    durations = {KEY.workflow_key: [MINUTE] * 3}
    assert [each.record.key for each in stuck_runs([run(11), run(11, other)], durations, NOW)] == [KEY]


def test_reason_says_how_long_it_has_taken_how_long_others_take_and_what_to_do() -> None:
    (known,), (unknown,) = stuck(90, 1, 1, 1), stuck(90)
    assert known.why == "running for 1 h 30 min; the last successes took 1 min 0 s (median)"
    assert unknown.why == "running for 1 h 30 min; too few runs have succeeded to know how long one takes"
    assert known.what_to_do == "'autoflow cancel 17' ends it"


@given(
    st.floats(0, 10_000),
    st.lists(st.floats(0, 1000), max_size=12),
    st.floats(0, 1000),
)
def test_run_that_is_stuck_stays_stuck_and_none_is_within_ten_minutes(
    minutes: float, successes: list[float], more: float
) -> None:
    if stuck(minutes, *successes):
        assert minutes > 10
        assert stuck(minutes + more, *successes)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3660, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_duration_is_written_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert in_words(datetime.timedelta(seconds=seconds)) == words

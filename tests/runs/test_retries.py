import datetime

from autoflow.runs.records import Failures
from autoflow.runs.retries import RetryPolicy


def test_the_delay_doubles_with_each_failure_up_to_a_day() -> None:
    policy = RetryPolicy(retry_delay=60.0, max_attempts=5000)
    assert [policy.delay(failures) for failures in (1, 2, 3, 2000)] == [
        datetime.timedelta(seconds=seconds) for seconds in (60, 120, 240, 86400)
    ]


def test_policy_describes_what_comes_next() -> None:
    policy = RetryPolicy(retry_delay=60.0, max_attempts=3)
    assert policy.after(2) == "attempt 3 of 3 in 120 s"
    assert policy.after(3) == "given up after 3 failed attempts"


def test_next_attempt_is_due_a_delay_after_the_last_failure() -> None:
    policy, failed_at = RetryPolicy(retry_delay=60.0, max_attempts=3), datetime.datetime(2026, 1, 1)
    assert policy.next_attempt(Failures(2, failed_at)) == failed_at + datetime.timedelta(seconds=120)
    assert policy.next_attempt(Failures(3, failed_at)) is None
    assert policy.next_attempt(Failures()) is None

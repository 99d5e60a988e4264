"""When a date that has failed is tried again."""

import datetime
from dataclasses import dataclass

from autoflow.runs.records import Failures

LONGEST_RETRY_DELAY = datetime.timedelta(days=1)
"""However often a run has failed, and doubled its delay, it is tried again after a day."""


@dataclass(frozen=True)
class RetryPolicy:
    """When a run that failed is tried again: after a delay that doubles with each failure, `max_attempts` times in all.

    `retry_delay` is what is waited after the first failure, in seconds.
    """

    retry_delay: float
    max_attempts: int

    def delay(self, failures: int) -> datetime.timedelta | None:
        """Return how long to wait after so many failures, a day at most; None if there is no further attempt."""
        if failures >= self.max_attempts:
            return None
        seconds = self.retry_delay * 2.0 ** min(failures - 1, 60)
        return datetime.timedelta(seconds=min(seconds, LONGEST_RETRY_DELAY.total_seconds()))

    def after(self, failures: int) -> str:
        """Say what happens after so many failures."""
        delay = self.delay(failures)
        if delay is None:
            return f"given up after {failures} failed attempt{'' if failures == 1 else 's'}"
        return f"attempt {failures + 1} of {self.max_attempts} in {delay.total_seconds():.0f} s"


def may_try_again(failures: Failures, policy: RetryPolicy, now: datetime.datetime) -> bool:
    """Tell whether a date that has failed is due again: not if it was cancelled, or has no attempts left."""
    if failures.last is None:
        return not failures.cancelled
    delay = policy.delay(failures.count)
    return not failures.cancelled and delay is not None and now >= failures.last + delay

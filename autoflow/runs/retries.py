"""When a date that failed is retried."""

import datetime
from dataclasses import dataclass

from autoflow.runs.records import Failures
from autoflow.specs import TriggerSpec

LONGEST_RETRY_DELAY = datetime.timedelta(days=1)
"""The delay doubles with each failure, up to this."""


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed date is retried: after a delay that doubles with each failure, for `max_attempts` runs in total.

    `retry_delay` is the delay after the first failure, in seconds.
    """

    retry_delay: float
    max_attempts: int

    @classmethod
    def of(cls, trigger: TriggerSpec) -> "RetryPolicy":
        """Return the policy of an entry of the sensor."""
        return cls(trigger.retry_delay, trigger.max_attempts)

    def has_attempts_left(self, failures: int) -> bool:
        """Return whether a date is retried after this many failures."""
        return failures < self.max_attempts

    def delay(self, failures: int) -> datetime.timedelta | None:
        """Return the delay after this many failures, one day at most; None if there are no attempts left."""
        if not self.has_attempts_left(failures):
            return None
        seconds = self.retry_delay * 2.0 ** min(failures - 1, 60)
        return datetime.timedelta(seconds=min(seconds, LONGEST_RETRY_DELAY.total_seconds()))

    def next_attempt(self, failures: Failures) -> datetime.datetime | None:
        """Return when the next attempt is due, in UTC; None if it need not wait, or there are no attempts left."""
        if failures.last is None:
            return None
        delay = self.delay(failures.count)
        return None if delay is None else failures.last + delay

    def after(self, failures: int) -> str:
        """Describe what happens after this many failures."""
        delay = self.delay(failures)
        if delay is None:
            return f"given up after {failures} failed attempt{'' if failures == 1 else 's'}"
        return f"attempt {failures + 1} of {self.max_attempts} in {delay.total_seconds():.0f} s"

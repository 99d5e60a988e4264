"""The errors that a failing Prefect API raises."""

import httpx
from prefect.exceptions import PrefectException

PREFECT_FAILURES = (httpx.HTTPError, PrefectException, OSError, RuntimeError, ValueError)
"""What Prefect's client raises when the API is gone, refuses, or answers what Prefect would not."""

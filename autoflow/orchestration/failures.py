"""The exceptions that a failing Prefect API causes."""

import httpx
from prefect.exceptions import PrefectException

PREFECT_FAILURES = (httpx.HTTPError, PrefectException, OSError, RuntimeError, ValueError)
"""Exceptions of Prefect's client if the API is gone, refuses a request, or its response makes no sense."""

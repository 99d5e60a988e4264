"""What a single value of the file may be.

Each function returns what a plain value means, or raises ValueError with the reason why it means nothing.
"""

import datetime as dt
import math

from autoflow.parser.cron import cron_problem
from autoflow.parser.wording import show
from autoflow.specs import CDR_TYPES, Json, ReportFormat

MAX_SECONDS = 366 * 24 * 3600
"""The longest timeout or delay: a year."""


def any_value(value: object) -> object:
    """Take whatever it is."""
    return value


def text(value: object) -> str:
    """Take text that can be seen, on one line."""
    if not isinstance(value, str):
        raise ValueError(f"text is expected, not {show(value)}")  # noqa: TRY004 - the reader takes ValueError
    if not value.strip() or not value.isprintable():
        raise ValueError(f"{show(value)} is not a name: visible characters on one line are expected")
    return value


def mapping(value: object) -> dict[str, object]:
    """Take a mapping."""
    if not isinstance(value, dict):
        raise ValueError(f"a mapping (key: value) is expected, not {show(value)}")  # noqa: TRY004 - the same
    return value


def any_list(value: object) -> list[object]:
    """Take a list."""
    if not isinstance(value, list):
        raise ValueError(f"a list is expected, not {show(value)}")  # noqa: TRY004 - the same
    return value


def nonempty_list(value: object) -> list[object]:
    """Take a list of one item or more."""
    if not any_list(value):
        raise ValueError("the list is empty; leave the key out if it is not needed")
    return any_list(value)


def seconds(value: object) -> float:
    """Take a number of seconds from 0 to `MAX_SECONDS`, both included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise ValueError(f"a number of seconds from 0 to {MAX_SECONDS} is expected, not {show(value)}")
    return float(value)


def positive_seconds(value: object) -> float:
    """Take a number of seconds above 0 and up to `MAX_SECONDS`."""
    if seconds(value) == 0:
        raise ValueError("more than 0 seconds are expected")
    return seconds(value)


def attempts(value: object) -> int:
    """Take a whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"a whole number from 1 is expected, not {show(value)}")
    return value


def schedule(value: object) -> str:
    """Take a cron string."""
    if not isinstance(value, str):
        raise ValueError(f"a cron string such as '0 6 * * *' or null is expected, not {show(value)}")  # noqa: TRY004 - the same
    if problem := cron_problem(value):
        raise ValueError(f"{show(value)} is not a cron string: {problem}")
    return value


def source(value: object) -> str:
    """Take the name of what fills a notebook's parameter."""
    if not isinstance(value, str):
        expected = "the name of a workflow parameter, the label of a notebook or an automatic parameter"
        raise ValueError(f"{expected} is expected, not {show(value)}")  # noqa: TRY004 - the same
    return text(value)


def report_format(value: object) -> ReportFormat:
    """Take the name of a format that reports can have."""
    if not isinstance(value, str) or value not in set(ReportFormat):
        raise ValueError(f"{show(value)} is not an output format; expected are {', '.join(ReportFormat)}")
    return ReportFormat(value)


def cdr_type(value: object) -> str:
    """Take the name of a type of CDR data."""
    if not isinstance(value, str) or value not in CDR_TYPES:
        raise ValueError(f"{show(value)} is not a type of CDR data; expected are {', '.join(CDR_TYPES)}")
    return value


def json_scalar(value: object) -> Json:
    """Take what strict JSON has a single value for; dates become ISO strings."""
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a parameter cannot be infinite or not a number (NaN): JSON has no such values")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError("a parameter is text, a number, a date, true, false, null, or a list or mapping of these")

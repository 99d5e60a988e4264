"""Single values of the file.

Each function returns the meaning of a plain value, or raises ValueError with the reason why it is not valid.
"""

import datetime as dt
import enum
import math
import re
from typing import TypeVar
from zoneinfo import available_timezones

from autoflow.dates.intervals import IntervalEnds
from autoflow.dates.periods import Every
from autoflow.parser.cron import cron_problem
from autoflow.parser.wording import alternatives, did_you_mean, show
from autoflow.settings import HIDDEN_FROM_KERNELS
from autoflow.settings.checks import MAX_SECONDS, MOST_DAYS_KEPT
from autoflow.specs import CDR_TYPES, RESERVED_NAMES, Json, OnChange, Order, ReportFormat
from autoflow.utils import as_yaml

MOST_DAYS = 3_650
"""How many days an entry can wait for data, at most."""

LEAST_MEMORY = 100 * 1024 * 1024
"""The lowest limit for the memory of a notebook, in bytes."""

MEMORY_PATTERN = r"(\d{1,6}(?:\.\d{1,3})?)([KMGT])"
"""An amount of memory, as a regular expression."""

_SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,200}")
_LABEL = re.compile(r"[\w.-]{1,60}")
_TIME_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):[0-5][0-9]", re.ASCII)
_NOT_IN_LABEL = re.compile(r"[^\w.-]+")


class UnexpectedValueError(ValueError):
    """The value is not of the kind that is expected."""

    def __init__(self, expected: str, value: object) -> None:
        super().__init__(f"expected {expected}, not {show(value)}")


def any_value(value: object) -> object:
    """Accept any value."""
    return value


def text(value: object) -> str:
    """Accept visible text on one line."""
    if not isinstance(value, str):
        raise UnexpectedValueError("text", value)
    if not value.strip() or not value.isprintable():
        raise UnexpectedValueError("visible characters on one line", value)
    return value


def mapping(value: object) -> dict[str, object]:
    """Accept a mapping."""
    if not isinstance(value, dict):
        raise UnexpectedValueError("a mapping (key: value)", value)
    return value


def nonempty_mapping(value: object) -> dict[str, object]:
    """Accept a mapping with at least one key."""
    if not mapping(value):
        raise ValueError("the mapping is empty; add a key or remove it")
    return mapping(value)


def any_list(value: object) -> list[object]:
    """Accept a list."""
    if not isinstance(value, list):
        raise UnexpectedValueError("a list", value)
    return value


def nonempty_list(value: object) -> list[object]:
    """Accept a list with at least one item."""
    if not any_list(value):
        raise ValueError("the list is empty; add an item or remove the key")
    return any_list(value)


def seconds(value: object) -> float:
    """Accept a number of seconds from 0 to `MAX_SECONDS`, both included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise UnexpectedValueError(f"a number of seconds from 0 to {MAX_SECONDS}", value)
    return float(value)


def positive_seconds(value: object) -> float:
    """Accept a number of seconds above 0 and up to `MAX_SECONDS`."""
    if seconds(value) == 0:
        raise UnexpectedValueError("more than 0 seconds", value)
    return seconds(value)


def memory(value: object) -> int:
    """Accept an amount of memory; return it in bytes."""
    match = re.fullmatch(MEMORY_PATTERN, value) if isinstance(value, str) else None
    if match is None:
        raise UnexpectedValueError("an amount of memory such as 500M or 4G", value)
    size = int(float(match[1]) * 1024 ** ("KMGT".index(match[2]) + 1))
    if size < LEAST_MEMORY:
        raise ValueError(f"{value} is too little: a notebook that does nothing uses about 100M")
    return size


def secret_name(value: object) -> str:
    """Accept the name of a secret that some notebooks get and others do not."""
    if not isinstance(value, str) or not _SECRET_NAME.fullmatch(value):
        raise UnexpectedValueError("the name of a docker secret or an environment variable", value)
    if value == "FLOWAPI_TOKEN":
        raise ValueError("FLOWAPI_TOKEN cannot be listed: every notebook gets it")
    if value in HIDDEN_FROM_KERNELS:
        raise ValueError(f"{value} cannot be listed: only AutoFlow itself may have it")
    return value


def at_least_one(value: object) -> int:
    """Accept a whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UnexpectedValueError("a whole number of at least 1", value)
    return value


def kept_days(value: object) -> int:
    """Accept a number of days from 1 to `MOST_DAYS_KEPT`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_DAYS_KEPT:
        raise UnexpectedValueError(f"a whole number of days from 1 to {MOST_DAYS_KEPT}, or null", value)
    return value


def schedule(value: object) -> str:
    """Accept a cron string."""
    if not isinstance(value, str):
        raise UnexpectedValueError("a cron string ('0 6 * * *') or null", value)
    if problem := cron_problem(value):
        raise ValueError(f"{show(value)} is not a valid cron string: {problem}")
    return value


def source(value: object) -> str:
    """Accept the name of the source of a notebook's parameter."""
    if not isinstance(value, str):
        names = alternatives(["a workflow parameter", "a notebook's label", *sorted(RESERVED_NAMES)])
        raise UnexpectedValueError(names, value)
    return text(value)


def report_format(value: object) -> ReportFormat:
    """Accept the name of a report format."""
    if not isinstance(value, str) or value not in set(ReportFormat):
        raise ValueError(f"unknown format {show(value)}; expected {alternatives(list(ReportFormat))}")
    return ReportFormat(value)


def cdr_type(value: object) -> str:
    """Accept the name of a CDR type."""
    if not isinstance(value, str) or value not in CDR_TYPES:
        raise ValueError(f"unknown CDR type {show(value)}; expected {alternatives(CDR_TYPES)}")
    return value


def interval_ends(value: object) -> IntervalEnds:
    """Accept whether ends of intervals are part of them."""
    return _member(IntervalEnds, value)


def order(value: object) -> Order:
    """Accept the order in which due dates run."""
    return _member(Order, value)


def on_change(value: object) -> OnChange:
    """Accept what happens when days change after a run."""
    return _member(OnChange, value)


def every(value: object) -> Every:
    """Accept a kind of period."""
    names = [*map(str, Every), "sunday"]
    if not isinstance(value, str) or value not in names:
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        known = "day, week, month, quarter, year or a weekday, the last day of the week"
        raise ValueError(f"unknown period {show(value)}; expected {known}{hint}")
    return Every.named(value)


def boolean(value: object) -> bool:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise UnexpectedValueError("true or false", value)
    return value


def days(value: object) -> int:
    """Accept a whole number of days from 0 to `MOST_DAYS`, both included."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_DAYS:
        raise UnexpectedValueError(f"a whole number of days from 0 to {MOST_DAYS}", value)
    return value


def time_of_day(value: object) -> dt.time:
    """Accept a time of day in hours and minutes, such as ``09:00``."""
    if not isinstance(value, str) or not _TIME_OF_DAY.fullmatch(value):
        raise UnexpectedValueError("a time of day such as '09:00', from '00:00' to '23:59'", value)
    return dt.time.fromisoformat(value.zfill(5))


def timezone(value: object) -> str:
    """Accept the IANA name of a time zone."""
    names = available_timezones()
    if not isinstance(value, str) or value not in names:
        hint = did_you_mean(value, names) if isinstance(value, str) else ""
        raise ValueError(f"unknown time zone {show(value)}; expected a name such as Africa/Accra or UTC{hint}")
    return value


def label(value: object) -> str:
    """Accept the label of an entry."""
    if not isinstance(value, str) or not _LABEL.fullmatch(value):
        raise UnexpectedValueError("a short name with letters, digits, '.', '_' and '-'", value)
    return value


def label_value(value: object) -> Json:
    """Accept a scalar from which `as_label` can make a label."""
    if value is None or isinstance(value, list | dict) or not as_label(written(json_scalar(value))):
        raise UnexpectedValueError("text, a number, a date, true or false", value)
    return json_scalar(value)


def written(value: Json) -> str:
    """Return a scalar as people write it."""
    return value if isinstance(value, str) else as_yaml(value)


def as_label(text: str) -> str:
    """Return `text` with characters that a label cannot have as hyphens."""
    return _NOT_IN_LABEL.sub("-", text)


_AnyEnum = TypeVar("_AnyEnum", bound=enum.StrEnum)


def _member(kind: type[_AnyEnum], value: object) -> _AnyEnum:
    if not isinstance(value, str) or value not in set(kind):
        raise UnexpectedValueError(alternatives(list(kind)), value)
    return kind(value)


def json_scalar(value: object) -> Json:
    """Accept a scalar of strict JSON; dates become ISO strings."""
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a parameter cannot be infinite or NaN, because JSON has no such values")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError("a parameter must be text, a number, a date, true, false, null, or a list or mapping of these")

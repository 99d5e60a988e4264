"""Check cron strings.

Prefect reads them with croniter, but importing Prefect takes a second. So cronsim reads them here, after
croniter's own notations are translated. A test checks that Prefect accepts each string that passes, and finds times
for it.
"""

import datetime as dt
import re

from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field

_ALIASES = {"@midnight", "@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually"}
_DAY, _WEEKDAY = "day of the month", "day of the week"
# As cronsim calls each field, and its first and last value.
_FIELDS = {
    "minute": (Field.MINUTE, 0, 59),
    "hour": (Field.HOUR, 0, 23),
    _DAY: (Field.DAY, 1, 31),
    "month": (Field.MONTH, 1, 12),
    _WEEKDAY: (Field.DOW, 0, 6),
    "second": (Field.SECOND, 0, 59),
}
_SHORTEST_MONTH = 28


def cron_problem(cron: str) -> str | None:
    """Return what is wrong with `cron`, or None if Prefect accepts it and finds times for it.

    As in Prefect, a field for seconds may follow the usual five. One for years, which Prefect accepts, is refused.
    """
    if cron.lower() in _ALIASES:
        return None
    texts = dict(zip((*_FIELDS, "year"), cron.lower().split(), strict=False))
    if _WEEKDAY not in texts or len(cron.split()) > len(texts):
        return "expected five fields: minute, hour, day of the month, month, day of the week"
    if "year" in texts:
        return "a field for years is not supported"
    try:
        fields = {name: _translated(name, text) for name, text in texts.items()}
    except ValueError as error:
        return str(error)
    return _problem_of_weekdays(texts) or _problem_of_days(fields[_DAY], fields["month"])


def _translated(name: str, text: str) -> str:
    """Return the field called `name` as cronsim writes it; raise ValueError if it is not valid."""
    if text == "?" and name in {_DAY, _WEEKDAY}:
        return "*"
    items = []
    for item in text.split(","):
        try:
            items.append(_translated_item(name, item))
            _FIELDS[name][0].parse(items[-1].upper())
        except CronSimError:
            raise ValueError(f"{item!r} is not a valid {name}") from None
    return ",".join(items)


def _translated_item(name: str, item: str) -> str:
    field, first, last = _FIELDS[name]
    values, slash, step = item.partition("/")
    start, dash, end = values.partition("-")
    if not item.isascii():
        raise CronSimError
    if "l" in item and name in {_DAY, _WEEKDAY}:
        # The last day of the month is `l` and its last Friday `l5`, for cronsim `L` and `5L`.
        return f"{item[1:]}l" if re.fullmatch("l[0-7]?", item) else "invalid"
    if start == "*" or not (dash or slash):
        return item
    low, high = field.int(start.upper()), field.int(end.upper()) if dash else last
    if name == _WEEKDAY:
        low %= 7
    if low == high:
        raise ValueError(f"{item!r} starts where it ends, which Prefect reads as every {name}; write {start}")
    if low < high:
        return f"{low}-{high}{slash}{step}"
    if slash:
        raise ValueError(f"{item!r} must not have a step, because the range ends before it starts")
    return f"{low}-{last},{first}-{high}"


def _problem_of_weekdays(texts: dict[str, str]) -> str | None:
    weekdays = texts[_WEEKDAY]
    is_nth = {"#" in item or "l" in item for item in weekdays.split(",")}
    if len(is_nth) > 1:
        return "days of the week such as 'fri' and 'fri#2' cannot be mixed"
    if True in is_nth and texts[_DAY] not in {"*", "?"}:
        return f"a day of the week such as {weekdays!r} cannot be combined with a {_DAY}"
    if "second" in texts and "7" in re.sub("/[0-9]+", "", weekdays):
        return "Sunday is 0, not 7, where there is a field for seconds"
    return None


def _problem_of_days(days: str, months: str) -> str | None:
    try:
        schedule = CronSim(f"0 0 {days} {months} *", dt.datetime.now(dt.UTC))
    except CronSimError:
        return "such a day of the month never comes"
    if CronSim.LAST in schedule.days and max(schedule.days) > _SHORTEST_MONTH:
        return f"'l' cannot be combined with days after the {_SHORTEST_MONTH}th"
    return None

"""Cron strings: what is wrong with one, field by field.

The grammar is written down here because the libraries at hand do not serve: Prefect's own check comes with an import of
all of Prefect (a second, and settings read from the environment) and does not say which field is wrong; CronSim reads
fields for seconds, and `l`, otherwise than Prefect. A test holds that Prefect takes whatever is let through here.
"""

import calendar
import datetime as dt
import re
from collections.abc import Collection, Iterable

_LONGEST = 200
_PLAIN_FIELDS = 5
_ALIASES = {"@midnight", "@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually"}
_DAY_NAME = "sun|mon|tue|wed|thu|fri|sat"
_MONTH_NAME = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"


def _items(value: str, *, end: str | None = None) -> str:
    """Return the pattern of what commas separate: ``*`` or a value or a range up to `end`, perhaps with a step."""
    return rf"(\*|({value})(-({end or value}))?)(/0*[1-9][0-9]*)?"


_DAY = "0*[1-9]|0*[12][0-9]|0*3[01]"
_FIELDS = {
    "minute": _items("0*[0-5]?[0-9]"),
    "hour": _items("0*1?[0-9]|0*2[0-3]"),
    # `l` is the last day of the month.
    "day of the month": f"l|{_items(_DAY, end=f'{_DAY}|l')}",
    "month": _items(f"0*[1-9]|0*1[0-2]|{_MONTH_NAME}"),
    # `fri#2` is the second Friday of the month, `l5` the last.
    "day of the week": f"l[0-7]|([0-7]|({_DAY_NAME})(-({_DAY_NAME}))?)#[1-5]|{_items(f'0*[0-7]|{_DAY_NAME}')}",
    "second": _items("0*[0-5]?[0-9]"),
    "year": _items("19[7-9][0-9]|20[0-9][0-9]"),
}
_BOUNDS = {
    "minute": (0, 59),
    "hour": (0, 23),
    "day of the month": (1, 31),
    "month": (1, 12),
    "day of the week": (0, 6),
    "second": (0, 59),
    "year": (1970, 2099),
}
_NUMBERS = {
    "l": 31,
    **{name: number for number, name in enumerate(_DAY_NAME.split("|"))},
    **{name: number for number, name in enumerate(_MONTH_NAME.split("|"), 1)},
}
_YEARS_WITH_A_LEAP_YEAR = 9


def cron_problem(cron: str, today: dt.date | None = None) -> str | None:
    """Tell what is wrong with `cron`; None if Prefect takes it. `today`, left out, is the day in UTC.

    As with croniter, which Prefect uses, there can be fields for seconds and for years after the usual five. Refused
    beyond what croniter refuses are days that never come, or come no more, ranges that start where they end, which
    croniter takes for everything, and random values (`r`), which Prefect does not support.
    """
    if cron.lower() in _ALIASES:
        return None
    texts = cron.lower().split()
    if len(cron) > _LONGEST or not _PLAIN_FIELDS <= len(texts) <= len(_FIELDS):
        return "five fields are expected: minute, hour, day of the month, month, day of the week"
    for (name, pattern), text in zip(_FIELDS.items(), texts, strict=False):
        if text == "?" and name.startswith("day"):
            continue
        for item in text.split(","):
            if not re.fullmatch(pattern, item):
                return f"{item!r} is not a valid {name}"
            if problem := _problem_of_range(name, item):
                return problem
    year = (today or dt.datetime.now(dt.UTC).date()).year
    return _problem_of_weekdays(texts) or _problem_of_dates(texts, year)


def _problem_of_range(name: str, item: str) -> str | None:
    start, end, step = _parts(item)
    if start == "*" or not (end or step):
        return None
    low, high = _number(start), _number(end) if end else _BOUNDS[name][1]
    # Sunday is 0 where a range starts with 7.
    if high not in {low, low % 7 if name == "day of the week" else low}:
        return None
    alone = start + item[item.index("#") :] if "#" in item else start
    return f"{item!r} starts where it ends, which Prefect takes for every {name}; write {alone}"


def _problem_of_weekdays(texts: list[str]) -> str | None:
    weekdays = texts[4]
    if len({bool(re.search("[#l]", item)) for item in weekdays.split(",")}) > 1:
        return "days of the week such as 'fri' and 'fri#2' cannot be mixed"
    if "7" in weekdays and len(texts) > _PLAIN_FIELDS:
        return "Sunday is 0, not 7, where there are fields for seconds or years"
    return None


def _problem_of_dates(texts: list[str], this_year: int) -> str | None:
    years: Collection[int] = range(this_year, this_year + _YEARS_WITH_A_LEAP_YEAR)
    if len(texts) == len(_FIELDS):
        years = [year for year in _numbers("year", texts[-1].split(",")) if year >= this_year]
        if not years:
            return "all its years are in the past"
    # Beside other days, croniter does not look for the last one; alone, it comes in each month.
    days = _numbers("day of the month", [item for item in texts[2].split(",") if item != "l"]) or {1}
    months = _numbers("month", texts[3].split(","))
    # Days of the week do not help: where no such day of the month comes, croniter gives up.
    if any(min(days) <= calendar.monthrange(year, month)[1] for year in years for month in months):
        return None
    return "such a day of the month never comes"


def _numbers(name: str, items: Iterable[str]) -> set[int]:
    """Return what `items` of the field called `name` stand for."""
    return {number for item in items for number in _numbers_of_item(item, *_BOUNDS[name])}


def _numbers_of_item(item: str, first: int, last: int) -> Iterable[int]:
    start, end, step = _parts(item)
    if start in {"*", "?"}:
        return range(first, last + 1, int(step or 1))
    low = _number(start)
    high = _number(end or start) if end or not step else last
    each = int(step or 1)
    if low <= high:
        return range(low, high + 1, each)
    to_end = range(low, last + 1, each)
    left = last - to_end[-1]
    # One more than the step would skip: it is how croniter goes on.
    skipped = each - left if each > left + 1 else 0
    return (*to_end, *range(first + skipped, high + 1, each))


def _parts(item: str) -> tuple[str, str, str]:
    """Return the start, the end and the step of an item; the last two are empty where it has none."""
    values, _, step = item.partition("#")[0].partition("/")
    start, _, end = values.partition("-")
    return start, end, step


def _number(text: str) -> int:
    return _NUMBERS[text] if text in _NUMBERS else int(text)

"""Cron strings: what is wrong with one, field by field.

The grammar is written down here because the libraries at hand do not serve: Prefect's own check comes with an import of
all of Prefect (a second, and settings read from the environment) and does not say which field is wrong; CronSim reads
fields for seconds, and `l`, otherwise than Prefect. A test holds that Prefect takes whatever is let through here.
"""

import re

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
_NEVER = re.compile(
    r"(0*3[01],?)+ (0*2|feb)(,(0*2|feb))* [*?]|(0*31,?)+ ((0*(2|4|6|9|11)|feb|apr|jun|sep|nov),?)+ [*?]"
)
"""Days, months and days of the week of which no calendar has one, such as ``31 4,jun *``."""


def cron_problem(cron: str) -> str | None:
    """Tell what is wrong with `cron`; None if Prefect takes it.

    As with croniter, which Prefect uses, there can be fields for seconds and for years after the usual five. Refused
    beyond what croniter refuses are days that never come, and random values (`r`), which Prefect does not support.
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
    return _problem_of_days(texts)


def _problem_of_days(texts: list[str]) -> str | None:
    weekdays = texts[4]
    if len({bool(re.search("[#l]", item)) for item in weekdays.split(",")}) > 1:
        return "days of the week such as 'fri' and 'fri#2' cannot be mixed"
    if "7" in weekdays and len(texts) > _PLAIN_FIELDS:
        return "Sunday is 0, not 7, where there are fields for seconds or years"
    if _NEVER.fullmatch(" ".join(texts[2:5])):
        return "such a day never comes"
    return None

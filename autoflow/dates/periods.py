"""Periods: days, weeks, months, quarters and years. A period is named by its last day.

Weeks are those of ISO 8601, Monday to Sunday; a weekday stands for the weeks that end on it.
"""

import calendar
import datetime as dt
import enum
from collections.abc import Iterator

from autoflow.dates.intervals import DateInterval

MOST_PERIODS_AWAY = 36_525
"""How far away a period can be, in periods: a hundred years of days. More is probably a typing mistake."""


class Every(enum.StrEnum):
    """How long the periods are that an entry runs for."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"
    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"

    @classmethod
    def named(cls, name: str) -> "Every":
        """Return the kind of period called `name`; ``sunday`` is the same as ``week``. ValueError if there is none."""
        return cls.WEEK if name == "sunday" else cls(name)

    @property
    def noun(self) -> str:
        """The word for one period in a sentence: a week that ends on a Thursday is a week, too."""
        return str(Every.WEEK if self in _LAST_WEEKDAYS else self)

    @property
    def months(self) -> int:
        """How many months a period has; 0 for days and weeks."""
        return _MONTHS.get(self, 0)


_MONTHS = {Every.MONTH: 1, Every.QUARTER: 3, Every.YEAR: 12}
_LAST_WEEKDAYS = {
    Every.MONDAY: calendar.MONDAY,
    Every.TUESDAY: calendar.TUESDAY,
    Every.WEDNESDAY: calendar.WEDNESDAY,
    Every.THURSDAY: calendar.THURSDAY,
    Every.FRIDAY: calendar.FRIDAY,
    Every.SATURDAY: calendar.SATURDAY,
    Every.WEEK: calendar.SUNDAY,
}


def period_of(day: dt.date, every: Every, *, shift: int = 0) -> DateInterval:
    """Return the period in which `day` lies, or the one that is `shift` periods later (earlier if it is negative).

    Raises
    ------
    ValueError
        If the period is not wholly within the years 1 to 9999.

    """
    try:
        if months := every.months:
            return _months(day, months, shift)
        length = 1 if every is Every.DAY else 7
        until_last = 0 if every is Every.DAY else (_LAST_WEEKDAYS[every] - day.weekday()) % 7
        last = day.toordinal() + until_last + shift * length
        return DateInterval(dt.date.fromordinal(last - length + 1), dt.date.fromordinal(last))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"the {every.noun} of {day}{_shift_text(shift)} is beyond the calendar") from error


def _months(day: dt.date, months: int, shift: int) -> DateInterval:
    index = (day.year * 12 + day.month - 1) // months + shift
    first_year, first_month = divmod(index * months, 12)
    last_year, last_month = divmod(index * months + months - 1, 12)
    last_day = calendar.monthrange(last_year, last_month + 1)[1]
    return DateInterval(dt.date(first_year, first_month + 1, 1), dt.date(last_year, last_month + 1, last_day))


def _shift_text(shift: int) -> str:
    return f" {'plus' if shift > 0 else 'minus'} {abs(shift)}" if shift else ""


def is_last_day(day: dt.date, every: Every) -> bool:
    """Return whether `day` is the last one of a period within the calendar, so that it can be a reference date."""
    try:
        return every is Every.DAY or period_of(day, every).end == day
    except ValueError:
        return False


def nearest_last_days(day: dt.date, every: Every) -> tuple[dt.date, dt.date]:
    """Return the last day of the period before the one of `day`, and of its own; ValueError beyond the calendar."""
    return period_of(day, every, shift=-1).end, period_of(day, every).end


def describe_period(last_day: dt.date, every: Every) -> str:
    """Return the period that ends on `last_day` for people, such as ``week 2016-01-04 to 2016-01-10``.

    A day stands alone, and so does a date on which no period ends.
    """
    if every is Every.DAY or not is_last_day(last_day, every):
        return last_day.isoformat()
    return f"{every.noun} {period_of(last_day, every).start} to {last_day}"


def last_days(first: dt.date, last: dt.date, every: Every) -> Iterator[dt.date]:
    """Yield the last day of each period from that of `first` to that of `last`, in order.

    A period that does not lie wholly within the calendar is left out.
    """
    day = first
    while day <= last:
        try:
            end = period_of(day, every).end
        except ValueError:
            end = day
        else:
            yield end
        if end == dt.date.max:
            return
        day = end + dt.timedelta(days=1)

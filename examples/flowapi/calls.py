"""Synthetic subscribers of Velmara, their whereabouts on each day, and their calls."""

import datetime
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from examples.flowapi.country import Country

Integers: TypeAlias = NDArray[np.int64]

CDR_TYPES: Final = ("calls", "mds", "sms", "topups")
"""The types of CDR data, in FlowAPI's order."""

EVENTS_PER_DAY: Final = {"calls": 3.0, "mds": 4.0, "sms": 2.0, "topups": 0.3}
"""Events of each type per subscriber on an average day."""

CYCLONE: Final = datetime.date(2016, 1, 8)
"""The day of the cyclone; from the next day on, people leave the districts it hit."""

_DAYS_OF_LEAVING: Final = 4
_SHARE_THAT_LEAVES: Final = 0.6
_TOWN_SIZES: Final = (4.0, 6.0, 3.0, 2.0, 2.0, 1.0, 1.0)  # the port first
_WORKING_HOURS: Final = (8, 18)
_REACH_OF_CYCLONE: Final = 0.55  # degrees, about 60 km
_SATURDAY: Final = 5
_BUSY_HOURS: Final = (1, 1, 1, 1, 1, 2, 5, 8, 9, 9, 9, 9, 10, 9, 8, 8, 9, 11, 13, 14, 13, 9, 5, 2)


@dataclass(frozen=True)
class Events:
    """Events of one day, an array item for each, in no particular order.

    `second` counts from midnight. `ward` is the index of the subscriber's region, of the finest unit.
    """

    subscriber: Integers
    second: NDArray[np.float64]
    ward: Integers


@dataclass(frozen=True)
class Subscribers:
    """The constant properties of subscribers, an array item for each.

    Places are wards. `leaves` is the day, as an ordinal, on which a subscriber flees to `refuge`; it is far in the
    future for those who stay.
    """

    home: Integers
    work: Integers
    family: Integers
    refuge: Integers
    leaves: Integers
    activity: NDArray[np.float64]


class CallRecords:
    """The events of any date and type, generated at first use; the same seed gives the same events."""

    def __init__(self, country: Country, *, subscribers: int, seed: int) -> None:
        self.subscribers = _make_subscribers(country, subscribers, np.random.default_rng([seed, 0]))
        self._seed = seed
        self.events = cache(self._events)

    def _events(self, date: datetime.date, cdr_type: str) -> Events:
        """Return all events of a type on a date."""
        by_day, by_night = self._whereabouts(date)
        rng = np.random.default_rng([self._seed, date.toordinal(), 1 + CDR_TYPES.index(cdr_type)])
        counts = rng.poisson(self.subscribers.activity * EVENTS_PER_DAY[cdr_type])
        subscriber = rng.permutation(np.repeat(np.arange(len(counts)), counts))
        weights = np.array(_BUSY_HOURS) / sum(_BUSY_HOURS)
        hour = rng.choice(24, size=len(subscriber), p=weights)
        at_work = (hour >= _WORKING_HOURS[0]) & (hour < _WORKING_HOURS[1])
        ward = np.where(at_work, by_day[subscriber], by_night[subscriber])
        return Events(subscriber, (hour + rng.random(len(subscriber))) * 3600, ward)

    def _whereabouts(self, date: datetime.date) -> tuple[Integers, Integers]:
        """Return the ward of each subscriber during the working hours of a date, and during the rest of it."""
        people = self.subscribers
        rng = np.random.default_rng([self._seed, date.toordinal(), 0])
        fled = people.leaves <= date.toordinal()
        home = np.where(fled, people.refuge, people.home)
        weekend = date.weekday() >= _SATURDAY
        visits = rng.random(len(home)) < (0.28 if weekend else 0.1)
        by_night = np.where(visits & ~fled, people.family, home)
        works = rng.random(len(home)) < (0.15 if weekend else 0.8)
        return np.where(works & ~fled & ~visits, people.work, by_night), by_night


def _make_subscribers(country: Country, count: int, rng: np.random.Generator) -> Subscribers:
    """Draw homes near towns, work near homes, family anywhere, and who flees from the cyclone, when and where."""
    distances = np.linalg.norm(country.centres[:, None] - country.centres[None], axis=2)
    port = np.argsort(country.centres[:, 0])[-4]  # on the mainland's eastern shore, where the cyclone comes from
    towns = [port, *rng.choice(country.wards, size=len(_TOWN_SIZES) - 1, replace=False)]
    pull = (np.array(_TOWN_SIZES)[:, None] * np.exp(-distances[towns] / 0.22)).sum(axis=0) + 0.25
    home = _pick(rng, pull[None], np.zeros(count, dtype=np.int64))
    hit = distances[port] < _REACH_OF_CYCLONE
    districts = country.ward_regions["admin2"]
    safe = ~np.isin(districts, districts[hit])
    flees = hit[home] & (rng.random(count) < _SHARE_THAT_LEAVES)
    first_day = CYCLONE.toordinal() + 1 + rng.integers(0, _DAYS_OF_LEAVING, count)
    return Subscribers(
        home=home,
        work=_pick(rng, pull * np.exp(-distances / 0.15), home),
        family=_pick(rng, pull * np.exp(-distances / 0.4), home),
        refuge=_pick(rng, pull**2 * np.exp(-distances / 0.8) * safe, home),
        leaves=np.where(flees, first_day, datetime.date.max.toordinal()),
        activity=rng.gamma(4, 0.25, count),
    )


def _pick(rng: np.random.Generator, weights: NDArray[np.float64], rows: Integers) -> Integers:
    """Draw a column for each of `rows`, with the chances given by `weights` in that row."""
    chances = np.cumsum(weights, axis=1)
    chances /= chances[:, -1:]
    columns: Integers = (chances[rows] < rng.random((len(rows), 1))).sum(axis=1)
    return columns

"""A year of ticks with a real run store: every date runs as often as a second, plain implementation says."""

import datetime as dt
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from autoflow.dates.availability import Availability
from autoflow.dates.completeness import ALL_DAYS, Completeness, Enough
from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil, PeriodOffset
from autoflow.model.store import RunStore
from autoflow.runs.plan import due_work, keys_with_reruns
from autoflow.runs.records import RunState, WorkflowKey
from autoflow.specs import NotebookSpec, OnChange, Order, TriggerSpec, WorkflowSpec
from tests.model.conftest import Clock
from tests.runs.plain_rules import ONE_DAY, Entry, Span, days_of, span_away

if TYPE_CHECKING:
    from tests.postgres import Postgres

TYPES = ("calls", "sms", "mds")
FIRST_DATE, FIRST_TICK = dt.date(2015, 11, 9), dt.datetime(2016, 1, 15, 6)
STOPS = {"calls": dt.date(2016, 12, 8), "sms": dt.date(2016, 10, 2), "mds": dt.date(2016, 12, 8)}
"""The last date of each type."""

FAULTS = {dt.date(2016, 5, 10): ("sms",), dt.date(2016, 8, 2): ("calls", "sms", "mds"), dt.date(2016, 8, 3): ("calls",)}
"""The types that are missing from FlowAPI's answer on some days."""

THIS, PREVIOUS = PeriodOffset(0), PeriodOffset(-1)


@dataclass(frozen=True)
class Stay:
    """The time in which FlowAPI has a date of a type."""

    cdr_type: str
    date: dt.date
    since: dt.datetime
    until: dt.datetime = dt.datetime.max


def stays(seed: int) -> list[Stay]:
    """Return when FlowAPI has which dates: some arrive late or never, some are withdrawn, and most of these return."""
    chance = random.Random(seed)
    found = []
    for name in TYPES:
        for date in days_of(FIRST_DATE, STOPS[name]):
            if chance.random() < (0.5 if name == "mds" else 0.04):
                continue
            delay = chance.randint(2, 20) if chance.random() < 0.08 else 1
            since = dt.datetime.combine(date + delay * ONE_DAY, dt.time(chance.randint(0, 23), 30))
            if chance.random() > 0.03:
                found.append(Stay(name, date, since))
                continue
            gone = since + chance.randint(2, 40) * ONE_DAY
            found.append(Stay(name, date, since, gone))
            if chance.random() < 0.8:
                found.append(Stay(name, date, gone + chance.randint(1, 12) * ONE_DAY))
    return found


def trigger(name: str, every: str = "day", stencil: Sequence[object] = (0,), **options: object) -> TriggerSpec:
    workflow = WorkflowSpec(name=name, notebooks=(NotebookSpec(label="n", path=Path("/n.ipynb")),))
    elements = DateStencil(stencil, every=Every(every))
    return TriggerSpec(
        workflow=workflow,
        every=Every(every),
        date_stencil=elements,
        retry_delay=3600,
        max_attempts=3,
        **options,  # type: ignore[arg-type]
    )


def enough(value: object, wait: int, longest_gap: int | None = None, zone: str = "UTC") -> Completeness:
    return Completeness(enough=Enough.of(value), wait=wait, longest_gap=longest_gap, zone=ZoneInfo(zone))


def of_offsets(*offsets: tuple[int, int]) -> Callable[[dt.date], Sequence[Span]]:
    return lambda date: [(date + first * ONE_DAY, date + last * ONE_DAY) for first, last in offsets]


def of_periods(every: str, *numbers: int) -> Callable[[dt.date], Sequence[Span]]:
    return lambda date: [span_away(date, every, number) for number in numbers]


def entries() -> list[tuple[TriggerSpec, Entry]]:
    """Return entries of the sensor, each for both implementations."""
    rerun, both = OnChange.RERUN, ("calls", "sms")
    latest = dt.date(2016, 11, 20)
    pairs = [
        (trigger("day"), {"stencil": of_offsets((0, 0)), "types": TYPES}),
        (
            trigger("days", stencil=[[-6, 0]], needs=enough("70%", 2), on_change=rerun, requires_all_of=("calls",)),
            {"stencil": of_offsets((-6, 0)), "types": ("calls",), "share": 0.7, "wait": 2, "reruns": True},
        ),
        (
            trigger(
                "ordered",
                stencil=[[-1, 0]],
                requires_all_of=both,
                after_previous=True,
                on_change=rerun,
                latest_date=latest,
                needs=enough(1, 1),
            ),
            {
                "stencil": of_offsets((-1, 0)),
                "types": both,
                "needs_all": True,
                "after_previous": True,
                "reruns": True,
                "latest": latest,
                "share": 0.5,
                "wait": 1,
            },
        ),
        (
            trigger("week", "week", [THIS], needs=enough("60%", 3, 2, "Europe/Berlin"), on_change=rerun),
            {"share": 0.6, "longest_gap": 2, "wait": 3, "zone": "Europe/Berlin", "reruns": True, "types": TYPES},
        ),
        (
            trigger("newest", "week", [THIS], order=Order.NEWEST_FIRST, requires_all_of=("calls",)),
            {"newest_first": True, "types": ("calls",)},
        ),
        (
            trigger("before", "thursday", [PREVIOUS], needs=enough(6, 2), after_previous=True, requires_all_of=both),
            {
                "stencil": of_periods("thursday", -1),
                "types": both,
                "needs_all": True,
                "share": 6 / 7,
                "wait": 2,
                "after_previous": True,
            },
        ),
        (
            trigger(
                "month", "month", [PREVIOUS, THIS], needs=enough("80%", 5), on_change=rerun, requires_all_of=("calls",)
            ),
            {
                "stencil": of_periods("month", -1, 0),
                "types": ("calls",),
                "share": 0.8,
                "wait": 5,
                "reruns": True,
            },
        ),
        (
            trigger("cut", "month", [THIS], earliest_date=dt.date(2016, 1, 2), needs=ALL_DAYS),
            {"earliest": dt.date(2016, 1, 2), "types": TYPES},
        ),
        (
            trigger(
                "quarter", "quarter", [THIS], needs=enough("50%", 30), after_previous=True, on_change=OnChange.NOTIFY
            ),
            {"share": 0.5, "wait": 30, "after_previous": True, "types": TYPES},
        ),
    ]
    return [(each, plain_entry(each.every.value, keys)) for each, keys in pairs]


def plain_entry(every: str, keys: Mapping[str, object]) -> Entry:
    stencil = of_periods(every, 0)
    return Entry(every=every, max_attempts=3, **{"stencil": stencil, **keys})  # type: ignore[arg-type]


def succeeds(name: str, date: dt.date, attempts: int) -> bool:
    """Return whether a run ends well after this many attempts: some dates fail once, some always, some only later."""
    number = (date.toordinal() + len(name)) % 31
    return not (number == 3 or (number == 7 and attempts == 0) or (number == 11 and attempts >= 1))


class Simulation:
    """Both implementations at the same time: `ran` is what each of them ran, in order, by the name of the entry."""

    def __init__(self, uri: str, seed: int) -> None:
        self.clock = Clock()
        self.store = RunStore(uri, clock=self.clock)
        self.store.migrate()
        self.entries = entries()
        self.stays = stays(seed)
        self.present: dict[str, frozenset[dt.date]] = {}
        self.ran: dict[str, list[tuple[dt.datetime, dt.date, tuple[dt.date, ...]]]] = defaultdict(list)
        self.expected: dict[str, list[tuple[dt.datetime, dt.date, tuple[dt.date, ...]]]] = defaultdict(list)

    def tick(self, now: dt.datetime) -> None:
        self.clock.now = now
        has = {
            name: frozenset(
                each.date for each in self.stays if each.cdr_type == name and each.since <= now < each.until
            )
            for name in TYPES
        }
        faulty = FAULTS.get(now.date(), ())
        answer = {name: dates for name, dates in has.items() if name not in faulty}
        self.present |= answer
        for _, plain in self.entries:
            plain.look(answer, self.present, now)
        available = Availability(types=answer).with_arrivals(self.store.note_dates(answer))
        while self._run_due(available) | self._run_plain():
            self.clock.now += dt.timedelta(minutes=1)

    def _run_due(self, available: Availability) -> int:
        triggers = [each for each, _ in self.entries]
        work = due_work(
            triggers, available, self.store.histories(keys_with_reruns(triggers)), self.clock.now, most=1000
        )
        for run in (run for runs in work.runs.values() for run in runs):
            claim = self.store.claim(run.key, again=run.is_rerun)
            assert claim
            name = run.workflow.name
            is_success = succeeds(name, run.reference_date, claim.attempt - 1)
            self.store.finish(claim, RunState.SUCCEEDED if is_success else RunState.FAILED)
            self.ran[name].append((self.clock.now, run.reference_date, tuple(run.missing_dates)))
        return work.total

    def _run_plain(self) -> int:
        count = 0
        for each, plain in self.entries:
            name = each.workflow.name
            for date in plain.due(self.clock.now):
                attempts = sum(ran == date for _, ran, _ in self.expected[name])
                self.expected[name].append((self.clock.now, date, tuple(plain.missing(date))))
                plain.record(date, self.clock.now, is_success=succeeds(name, date, attempts))
                count += 1
        return count

    def check(self) -> None:
        for each, _ in self.entries:
            name = each.workflow.name
            assert self.ran[name] == self.expected[name], name
        rows = Counter((run.key.workflow_key, run.key.reference_date) for run in self.store.runs())
        assert rows == Counter(
            (WorkflowKey.of_trigger(each), date)
            for each, _ in self.entries
            for _, date, _ in self.expected[each.workflow.name]
        )


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: thousands of transactions wait for a disk otherwise."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


def test_every_date_of_a_year_runs_as_often_as_the_plain_rules_say(memory_folder: Path) -> None:
    simulation = Simulation(f"sqlite:///{memory_folder}/runs.db", seed=15)
    with closing(simulation.store):
        for number in range(366):
            simulation.tick(FIRST_TICK + number * ONE_DAY)
        simulation.check()


def test_weeks_on_postgresql_run_as_the_plain_rules_say(postgres: "Postgres") -> None:
    simulation = Simulation(postgres.uri(), seed=16)
    with closing(simulation.store):
        for number in range(40):
            simulation.tick(FIRST_TICK + number * ONE_DAY)
        simulation.check()

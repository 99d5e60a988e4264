"""Watches the entries of the sensor: their deadlines, and their successes."""

import datetime
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from autoflow.dates.availability import Availability
from autoflow.errors import RunStoreError
from autoflow.messages.deadlines import Deadlines
from autoflow.messages.failures import Failures
from autoflow.messages.notifier import Notifier
from autoflow.messages.successes import Successes
from autoflow.model.messages import KnownEntry, MessageRecord, MessageStore, entry_id
from autoflow.model.store import RunStore
from autoflow.runs.records import WorkflowKey, utc_now
from autoflow.runs.run import EndedRun
from autoflow.settings import Settings
from autoflow.specs import SensorSpec, TriggerSpec
from autoflow.system.log import Outage
from autoflow.system.stop_signal import PeriodicThread

LOOK_SECONDS = 5.0
"""How often the clock is compared with the next deadline, which is quick."""

HELD_SECONDS = 60.0
"""How often a success is looked at again that is held back because a newer date is due or running."""

LOOK_SHARE = 20
"""The shortest time between two looks at successes, as a multiple of the time that a look takes."""

FIRST_TICK_PATIENCE = 60.0
"""How long the first look at deadlines waits for the first tick, so that it knows which dates are there; in seconds."""


class EntryWatch:
    """Has people notified of deadlines that pass, and of successes, while it is `running`.

    It asks the run store alone, so that deadlines do not depend on ticks. Runs that a user asks for are no successes.
    """

    def __init__(
        self,
        settings: Settings,
        store: RunStore,
        notifier: Notifier,
        *,
        clock: Callable[[], datetime.datetime] = utc_now,
    ) -> None:
        self._store = store
        self._clock = clock
        self._notifier = notifier
        self._messages = MessageStore(store)
        self._failures = Failures(settings, store, notifier.postbox)
        self._deadlines = Deadlines(self._messages, notifier.postbox, self._failures)
        self._successes = Successes(settings, store, notifier.postbox)
        self._lock = threading.Lock()
        self._sensor: SensorSpec | None = None
        self._registered: SensorSpec | None = None
        self._pending: set[WorkflowKey] = set()
        self._held: set[WorkflowKey] = set()
        self._held_until = 0.0
        self._looks_at_all = True
        self._not_before = 0.0
        self._deadlines_from = 0.0
        self._outage = Outage()
        self._thread = PeriodicThread("entries", self.look, LOOK_SECONDS)

    @contextmanager
    def running(self, sensor: SensorSpec) -> Iterator[None]:
        """Watch the entries of `sensor` for the duration of the block."""
        self.follow(sensor)
        self._deadlines_from = time.monotonic() + FIRST_TICK_PATIENCE
        self._safely(self._register)
        with self._thread:
            yield
        self.finish()

    def follow(self, sensor: SensorSpec) -> None:
        """Watch the entries of `sensor` from now on."""
        self._sensor = sensor
        self._thread.wake()

    def run_ended(self, ended: EndedRun) -> None:
        """Look soon whether the entry of this run has a success that people are to be notified of."""
        with self._lock:
            self._pending.add(ended.run.key.workflow_key)
        self._thread.wake()

    def tick_ended(self) -> None:
        """Look soon at everything: the run store knows which dates there are."""
        self._deadlines_from, self._held_until, self._looks_at_all = -math.inf, -math.inf, True
        self._thread.wake()

    def look(self) -> None:
        """Post messages about deadlines that have passed, and about successes."""
        self._safely(self._watch)

    def finish(self) -> None:
        """Post the messages that need no more time: those that are held back only by what is due or running wait."""
        self._deadlines_from = self._held_until = self._not_before = -math.inf
        self._looks_at_all = True
        self.look()

    def _safely(self, call: Callable[[], None]) -> None:
        try:
            call()
        except RunStoreError as error:
            self._outage.begin("could not look for deadlines and successes: %s", error)
        else:
            self._outage.end("deadlines and successes can be looked for again")

    def _watch(self) -> None:
        if self._sensor is not self._registered:
            self._register()
        now = self._clock()
        may_look = time.monotonic() >= self._deadlines_from and self._deadlines.is_due(now)
        if may_look and self._deadlines.look(now, self._availability()):
            self._notifier.wake()
        self._look_at_successes(now)

    def _register(self) -> None:
        """Record which entries there are since when."""
        sensor, before = self._sensor, self._registered
        if sensor is None:
            return
        keys = {WorkflowKey.of_trigger(trigger) for trigger in sensor.triggers}
        removed = {WorkflowKey.of_trigger(trigger) for trigger in before.triggers} - keys if before else set()
        with self._messages.writing() as record:
            _register(record, sensor.triggers, removed)
        self._deadlines.follow(sensor.triggers)
        self._failures.triggers = sensor.triggers
        self._registered, self._looks_at_all = sensor, True

    def _look_at_successes(self, now: datetime.datetime) -> None:
        started = time.monotonic()
        if started < self._not_before or self._registered is None:
            return
        triggers = self._registered.triggers
        self._look_at_all(triggers)
        with self._lock:
            if started >= self._held_until:
                self._pending |= self._held
                self._held, self._held_until = set(), started + HELD_SECONDS
            pending, self._pending = self._pending, set()
        wanted = [each for each in triggers if each.notify.success and WorkflowKey.of_trigger(each) in pending]
        if not wanted:
            return
        try:
            availability = self._availability()
            for trigger in wanted:
                if self._successes.look(trigger, triggers, availability, now):
                    self._held.add(WorkflowKey.of_trigger(trigger))
        except RunStoreError:
            with self._lock:
                self._pending |= pending
            raise
        finally:
            self._not_before = time.monotonic() + LOOK_SHARE * (time.monotonic() - started)
        self._notifier.wake()

    def _look_at_all(self, triggers: Iterable[TriggerSpec]) -> None:
        """Find out which entries have successes, whichever daemon has run them."""
        if not self._looks_at_all:
            return
        with self._messages.reading() as record:
            ids = record.with_successes()
        with self._lock:
            self._pending |= {key for key in map(WorkflowKey.of_trigger, triggers) if entry_id(key) in ids}
        self._looks_at_all = False

    def _availability(self) -> Availability:
        """Return the dates that FlowAPI had when a tick last asked it."""
        arrivals = self._store.preview_arrivals({})
        types = {
            name: frozenset(date for date, arrival in dates.items() if not arrival.is_gone)
            for name, dates in arrivals.items()
        }
        cdr_types = self._registered.cdr_types if self._registered else None
        return Availability(types=types, arrivals=arrivals).only(cdr_types)


def _register(record: MessageRecord, triggers: Iterable[TriggerSpec], removed: Iterable[WorkflowKey]) -> None:
    known = record.entries()
    for key in removed:
        record.change_entry(key, removed_at=record.now)
    for trigger in triggers:
        key = WorkflowKey.of_trigger(trigger)
        entry = known.get(entry_id(key))
        if entry is None or entry.removed_at is not None:
            record.add_entry(key)
            entry = KnownEntry(first_seen=record.now)
        if trigger.notify.success and entry.reports_since is None:
            record.change_entry(key, reports_since=record.now)
        elif not trigger.notify.success and entry.reports_since is not None:
            record.change_entry(key, reports_since=None, reported_date=None)

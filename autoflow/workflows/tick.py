"""A tick of the sensor: looks for what is due, and hands it to the dispatcher."""

import datetime
import math
import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from autoflow.dates.availability import Availability
from autoflow.errors import AutoflowError, WorkflowsFileError
from autoflow.flowapi import FlowApi
from autoflow.model.clocks import settle_times
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.parser import read_workflows
from autoflow.runs.changes import Change, DueAnew, changes, due_anew
from autoflow.runs.plan import DueWork, given_up_keys, keys_with_reruns
from autoflow.runs.records import RunKey, utc_now
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile
from autoflow.system.log import Outage, bugs_logged, logger
from autoflow.workflows.dispatcher import Dispatcher, Targets, give_up_crashed

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 60.0, 900.0
"""How long after a tick that failed the next one follows, unless the schedule has one before; it doubles each time."""

TOKEN_WARNING_DAYS = 7
"""How many days before its expiry the token is the subject of a daily warning."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """The result of one run of the sensor.

    `file` is the present workflows.yml. `given_up` are the runs that have been given up, and `changes` those for which
    people are to be notified of days that have changed. `dates` and `due` count the available dates and the runs that
    are due; `availability` has the former.
    """

    file: WorkflowsFile
    given_up: tuple[RunKey, ...] = ()
    changes: tuple[Change, ...] = ()
    dates: int = 0
    due: int = 0
    availability: Availability | None = None


class TokenWatch:
    """Warns once a day that the token is about to expire."""

    def __init__(self) -> None:
        self._warned_at: datetime.datetime | None = None

    def look(self, expiry: datetime.datetime | None, now: datetime.datetime) -> None:
        """Warn if the token expires soon, at most once a day; `expiry` and `now` are in UTC, None means never."""
        if expiry is None:
            return
        # A time in the future is from before the clock was set back.
        if self._warned_at and datetime.timedelta() <= now - self._warned_at < datetime.timedelta(days=1):
            return
        left = expiry.replace(tzinfo=None) - now
        if left > datetime.timedelta(days=TOKEN_WARNING_DAYS):
            return
        self._warned_at = now
        when = f"in {left.days} days" if left.days > 1 else f"in {max(0, left.total_seconds()) / 3600:.0f} hours"
        text = f"expires {when}" if left > datetime.timedelta() else "has expired"
        logger.warning("FLOWAPI_TOKEN %s (%s UTC): get a new one from FlowAuth", text, f"{expiry:%Y-%m-%d %H:%M}")


class EditWatch:
    """Warns once of each edit of workflows.yml that makes many dates due."""

    def __init__(self) -> None:
        self._last = DueAnew()

    def look(self, found: DueAnew) -> None:
        """Warn of the dates `found` if they are many, and of other entries than before."""
        if found.is_large and found.counts.keys() - self._last.counts.keys():
            logger.warning("workflows.yml: %s", found)
        self._last = found


class TypesWatch:
    """Warns once that FlowAPI has no dates of a type that it had before, and logs when it has some again."""

    def __init__(self) -> None:
        self._outages: dict[str, Outage] = {}

    def look(self, known: Iterable[str], found: Mapping[str, AbstractSet[datetime.date]]) -> None:
        """Compare the dates that were `found`, by type, with the types that are `known` to have had dates."""
        for name in sorted(known):
            outage = self._outages.setdefault(name, Outage())
            if found.get(name):
                outage.end("FlowAPI has dates of type %s again", name)
            else:
                outage.begin(
                    "FlowAPI has no dates of type %s, but had some before; a fault in FlowAPI: "
                    "look at FlowMachine's log",
                    name,
                )


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """Looks for what is due, and hands it to the dispatcher.

    `wait` waits for a number of seconds, and returns True if AutoFlow is shutting down.
    """

    settings: Settings
    store: RunStore
    dispatcher: Dispatcher
    wait: Callable[[float], object]
    clock: Callable[[], datetime.datetime] = utc_now
    token_watch: TokenWatch = field(default_factory=TokenWatch)
    edit_watch: EditWatch = field(default_factory=EditWatch)
    types_watch: TypesWatch = field(default_factory=TypesWatch)

    def tick(self) -> Tick:
        """Read workflows.yml, the token and the available dates; hand over what is due, without waiting for it.

        If this fails, the dispatcher starts nothing more until the next tick.

        Raises
        ------
        WorkflowsFileError, FlowApiError, RunStoreError
            If one of them cannot be read.

        """
        try:
            return self._look()
        except AutoflowError:
            self.dispatcher.hold("the tick failed")
            raise

    def _look(self) -> Tick:
        file = read_workflows(self.settings)
        triggers = file.sensor.triggers
        flowapi = FlowApi.of(self.settings)
        self.token_watch.look(flowapi.token_expiry(), self.clock())
        found = flowapi.available_dates()
        settle_times(self.store, self.wait)
        give_up_crashed(self.store)
        availability = self._noted(found).only(file.sensor.cdr_types)
        histories = self.store.histories(keys_with_reruns(triggers))
        now = self.clock()
        self.edit_watch.look(due_anew(triggers, availability, histories, now))
        work = self.dispatcher.hand_over(Targets(triggers=triggers, availability=availability), histories)
        dates = len(availability.to().dates)
        logger.info("tick: %s available, %s", count(dates, "date"), _due_text(work))
        given_up = tuple(given_up_keys(triggers, histories))
        changed = tuple(changes(triggers, availability, histories, now))
        return Tick(
            file=file, given_up=given_up, changes=changed, dates=dates, due=work.total, availability=availability
        )

    def _noted(self, found: Availability) -> Availability:
        """Record the dates that FlowAPI has; return them with the times at which they arrived."""
        arrivals = self.store.note_dates(found.types)
        self.types_watch.look(arrivals, found.types)
        return found.with_arrivals(arrivals)


def recorded_tick(sensor: Sensor, done: Callable[[Tick | AutoflowError], None], *, api_url: str | None = None) -> Tick:
    """Run a tick, record it in the files of the daemon, and pass its result or its error to `done`."""
    files = DaemonFiles(home=sensor.settings.prefect_home)
    with files.ticking(api_url), bugs_logged(sensor.settings.secrets):
        try:
            tick = sensor.tick()
        except AutoflowError as error:
            done(error)
            raise
        done(tick)
    return tick


class TickRetry:
    """Decides when a tick follows one that failed, so that AutoFlow soon notices that FlowAPI works again.

    `timer` counts seconds.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._failures = 0
        self._at = math.inf

    @property
    def is_due(self) -> bool:
        """Whether a tick should follow now."""
        return self._timer() >= self._at

    def tick_scheduled(self) -> None:
        """Wait for the end of the next tick."""
        self._at = math.inf

    def tick_ended(self, result: Tick | AutoflowError) -> None:
        """Plan the next tick if this one failed; after an invalid workflows.yml, it follows the edit instead."""
        if isinstance(result, Tick | WorkflowsFileError):
            self._failures, self._at = 0, math.inf
            return
        seconds = min(FIRST_RETRY_SECONDS * 2**self._failures, LONGEST_RETRY_SECONDS)
        self._failures += 1
        self._at = self._timer() + seconds
        logger.info("the next tick is in %.0f min, or earlier if it is due by then", seconds / 60)


def count(number: int, noun: str) -> str:
    """Return a number with a noun, in the plural unless the number is 1."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _due_text(work: DueWork) -> str:
    waiting = f"; {count(work.waiting, 'date')} waiting for the rest of the data" if work.waiting else ""
    if not work.total:
        return f"nothing is due{waiting}"
    first = sorted((run for runs in work.runs.values() for run in runs[:5]), key=lambda run: run.reference_date)[:5]
    some = ", ".join(map(str, first)) + (", …" if work.total > 5 else "")
    return f"{count(work.total, 'run')} due: {some}{waiting}"

"""The daemon's watch over workflows.yml and everything else that may need attention."""

import datetime
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from autoflow.errors import AutoflowError, FlowApiError, RunStoreError, TokenError, WorkflowsFileError
from autoflow.flowapi import FlowApi
from autoflow.messages.notifier import Notifier
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.server_process import is_ready
from autoflow.orchestration.sights import database_id, see
from autoflow.page.writer import PageWriter
from autoflow.parser.watch import Checked, FileWatch
from autoflow.runs.attention import Attention, Facts, Need, Sights, attention, next_standing
from autoflow.runs.naming import run_name
from autoflow.runs.records import utc_now
from autoflow.settings import Settings
from autoflow.specs import SensorSpec, WorkflowsFile
from autoflow.system.log import Outage, logger
from autoflow.system.stop_signal import PeriodicThread
from autoflow.utils import redact

if TYPE_CHECKING:
    # This imports Dask, which is an extra.
    from autoflow.cluster.client import Cluster

LOOK_SECONDS = 1.0
"""How often workflows.yml is checked, which costs a read of the file."""

ATTEND_SECONDS = 15.0
"""How often everything else is checked."""

LOGGED = frozenset({Need.DISK, Need.DATABASE, Need.PREFECT})
"""Conditions that are logged here when they begin and when they are over; ticks log their own failures."""


@dataclass(frozen=True)
class Clocks:
    """The time, in UTC, and seconds that pass evenly, whatever happens to the time."""

    now: Callable[[], datetime.datetime] = utc_now
    seconds: Callable[[], float] = time.monotonic


class Watch:
    """Watches workflows.yml and everything else that may need attention, in the background.

    Its findings go to the log, the daemon's files, the page and the messages. `workflows` is the workflows.yml
    that the daemon has started with.
    """

    def __init__(
        self,
        settings: Settings,
        store: RunStore,
        workflows: WorkflowsFile,
        *,
        notifier: Notifier,
        page: PageWriter,
        clocks: Clocks | None = None,
    ) -> None:
        clocks = clocks or Clocks()
        self._settings = settings
        self._store = store
        self._workflows = workflows
        self._notifier = notifier
        self._page = page
        self._cluster: Cluster | None = None
        self._followers: list[Callable[[SensorSpec], None]] = []
        self._clock, self._seconds = clocks.now, clocks.seconds
        self._files = DaemonFiles(home=settings.prefect_home)
        self._lock = threading.Lock()
        self._facts = replace(self._files.facts(), database=database_id(settings))
        self._recorded: Facts | None = None
        self._outage = Outage()
        self._file = FileWatch(settings, clock=clocks.seconds)
        self._accept: Callable[[WorkflowsFile], bool] = lambda _: True
        self._unapplied: WorkflowsFile | None = None
        self._attended_at = -ATTEND_SECONDS
        self._last = Attention()
        self._guarded: Sequence[PeriodicThread] = ()
        self._thread = PeriodicThread("watch", self.look, LOOK_SECONDS, also_at_end=True)

    def add_follower(self, follower: Callable[[SensorSpec], None]) -> None:
        """Call `follower` with the sensor of each later workflows.yml that is valid."""
        self._followers.append(follower)

    def add_cluster(self, cluster: "Cluster | None") -> None:
        """Watch the cluster that executes the notebooks as well, if there is one."""
        self._cluster = cluster

    @contextmanager
    def running(self, accept: Callable[[WorkflowsFile], bool] | None = None) -> Iterator[None]:
        """Watch for the duration of the block.

        `accept` takes over a changed workflows.yml and returns whether it could; if not, it is called again later.
        """
        self._accept = accept or self._accept
        with self._thread:
            yield

    def guard(self, *threads: PeriodicThread) -> None:
        """Show no sign of life from now on while one of `threads` is dead or hangs."""
        self._guarded = threads

    @property
    def workflows(self) -> WorkflowsFile:
        """The last valid workflows.yml."""
        return self._workflows

    @property
    def facts(self) -> Facts:
        """What the daemon has found out."""
        with self._lock:
            return self._facts

    @property
    def attention(self) -> Attention:
        """What needed attention at the last look."""
        return self._last

    @property
    def token_expiry(self) -> datetime.datetime | None:
        """When the present token expires, in UTC; None if it never does or cannot be read."""
        return FlowApi.of(self._settings).token_expiry()

    def tick_ended(self, error: AutoflowError | None) -> None:
        """Record how a tick ended."""
        now, token = self._clock(), FlowApi.of(self._settings).token_id
        with self._lock:
            self._facts = _after_tick(self._facts, error, self._text(error), now, token)
        self._attended_at = -ATTEND_SECONDS
        self._thread.wake()

    def look(self) -> None:
        """Check workflows.yml if it was edited and, less often, everything else."""
        checked = self._file.look()
        if checked is not None:
            self._file_checked(checked)
        now = self._seconds()
        if checked is not None or now - self._attended_at >= ATTEND_SECONDS:
            self._attended_at = now
            self._apply()
            self._attend()

    def _file_checked(self, checked: Checked) -> None:
        result, edited = checked.result, ", ".join(checked.edited)
        error = self._text(result) if isinstance(result, WorkflowsFileError) else None
        with self._lock:
            before = self._facts.workflows_file
            self._facts = replace(self._facts, workflows_file=next_standing(before, error, self._clock()))
        if isinstance(result, WorkflowsFileError):
            after = f" after an edit of {edited}" if edited else ""
            logger.error("workflows.yml is invalid%s; AutoFlow does not look for new dates:\n%s", after, result)
        else:
            # Before the first check, an edit is noticed only by its effect.
            is_edited = edited or result != self._workflows
            if is_edited:
                logger.info("accepted an edit of %s: %s", edited or "workflows.yml", _summary(result))
            elif before and not before.is_good:
                logger.info("workflows.yml is valid again: %s", _summary(result))
            if is_edited or result.findings != self._workflows.findings:
                for finding in result.findings:
                    logger.warning("%s", finding.text)
            self._workflows = self._unapplied = result

    def _apply(self) -> None:
        """Apply a changed workflows.yml."""
        if self._unapplied is None:
            return
        for follower in self._followers:
            follower(self._unapplied.sensor)
        self._page.follow(self._unapplied.sensor.triggers, self._unapplied.sensor.cdr_types)
        self._notifier.follow(self._unapplied.sensor.triggers)
        if self._accept(self._unapplied):
            self._unapplied = None

    def _attend(self) -> None:
        self._look_at_prefect()
        self._look_at_cluster()
        sights = self._see()
        with self._lock:
            facts = self._facts
        name = partial(run_name, triggers=self._workflows.sensor.triggers)
        found = attention(facts, sights, self._clock(), notify_after=self._settings.notify_after, name=name)
        found = replace(found, fine=found.fine | {Need.START})
        self._log(found)
        self._record(facts)
        self._notifier.attend(found)
        self._page.show(found.conditions, self._files.looked_at)
        if not any(thread.is_dead_or_hangs() for thread in self._guarded):
            self._files.beat()

    def _see(self) -> Sights:
        error = None
        try:
            sights = see(self._settings, self._store, self._facts)
        except RunStoreError as problem:
            error, sights = self._text(problem), see(self._settings, None, self._facts)
        with self._lock:
            self._facts = replace(
                self._facts,
                run_store=next_standing(self._facts.run_store, error, self._clock()),
                disk=next_standing(self._facts.disk, sights.disk and "full", self._clock()),
                database_file=next_standing(self._facts.database_file, sights.database and "gone", self._clock()),
            )
        return sights

    def _look_at_prefect(self) -> None:
        url = self._settings.prefect_api_url or self._files.api_url
        if url is None:
            return
        hint = "check PREFECT_API_URL" if self._settings.prefect_api_url else f"see {self._files.home / 'server.log'}"
        error = None if is_ready(url) else f"the Prefect API at {url} does not answer; {hint}"
        with self._lock:
            self._facts = replace(self._facts, prefect=next_standing(self._facts.prefect, error, self._clock()))

    def _look_at_cluster(self) -> None:
        """Record whether notebooks can run; a cluster that the daemon no longer has is forgotten."""
        state = self._cluster.state() if self._cluster else None
        standing = None
        if state:
            about = "workers" if state.is_connected else "scheduler"
            before = self._facts.cluster
            standing = next_standing(before, state.problem, self._clock(), about if state.problem else "")
        with self._lock:
            self._facts = replace(self._facts, cluster=standing, cluster_state=state)

    def _text(self, error: AutoflowError | None) -> str:
        """Return the message of an error without secrets: it is written to a file."""
        return redact(str(error), self._settings.secrets)

    def _log(self, found: Attention) -> None:
        before = {condition.key for condition in self._last.conditions}
        for condition in found.conditions:
            if condition.need in LOGGED and condition.key not in before:
                logger.warning("%s", condition.text)
        for condition in self._last.conditions:
            if condition.need in LOGGED and found.is_over(condition.key):
                logger.info("%s", condition.need.over)
        self._last = found

    def _record(self, facts: Facts) -> None:
        if facts == self._recorded:
            return
        try:
            self._files.record_facts(facts)
        except OSError as error:
            self._outage.begin("could not write to %s: %s", self._files.home, error.strerror)
        else:
            self._recorded = facts
            self._outage.end("wrote to %s again", self._files.home)


def _summary(file: WorkflowsFile) -> str:
    names = ", ".join(workflow.name for workflow in file.workflows)
    return f"workflows {names}; schedule {file.sensor.schedule or 'null'}; sensor entries {len(file.sensor.triggers)}"


def _after_tick(facts: Facts, error: AutoflowError | None, text: str, now: datetime.datetime, token: str) -> Facts:
    """Return the facts after a tick, where `text` is what the `error` says.

    What a failed tick did not reach is unknown or as before.
    """
    if error is None:
        return replace(
            facts,
            workflows_file=next_standing(facts.workflows_file, None, now),
            token=next_standing(facts.token, None, now, token),
            flowapi=next_standing(facts.flowapi, None, now),
            ticks=next_standing(facts.ticks, None, now),
        )
    if isinstance(error, WorkflowsFileError):
        return replace(facts, workflows_file=next_standing(facts.workflows_file, text, now), ticks=None)
    if isinstance(error, TokenError):
        return replace(facts, token=next_standing(facts.token, text, now, token), flowapi=None, ticks=None)
    if isinstance(error, FlowApiError):
        return replace(facts, flowapi=next_standing(facts.flowapi, text, now), ticks=None)
    return replace(facts, ticks=next_standing(facts.ticks, text, now))

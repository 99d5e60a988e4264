"""Metrics for Prometheus: what the daemon has done, counted as it happens, and its state at each scrape.

Labels come from the entries of the sensor, and series of entries that were removed disappear. No parameter is a label.
"""

import datetime
import math
import platform
import socket
import socketserver
import sys
import threading
import time
from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, MetricsHandler, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from autoflow import __version__
from autoflow.dates.availability import Availability
from autoflow.errors import AutoflowError, RunSkipped, RunStopped, RunStoreError, SettingsError
from autoflow.kernels.fork_server import ForkServer
from autoflow.messages.notifier import Notifier
from autoflow.model.store import RunStore
from autoflow.model.successes import Success, last_successes
from autoflow.runs.attention import Need, Standing
from autoflow.runs.plan import given_up_keys, keys_with_reruns, planners
from autoflow.runs.records import Histories, History, RunState, WorkflowKey, utc_now
from autoflow.runs.run import EndedRun
from autoflow.runs.statuses import DateStatus
from autoflow.settings import Settings
from autoflow.specs import TriggerSpec
from autoflow.system.disk import free_bytes, size_bytes
from autoflow.system.log import logger
from autoflow.utils import redact

if TYPE_CHECKING:
    # They import Prefect, which the daemon does later, or Dask.
    from autoflow.cluster.client import Cluster
    from autoflow.workflows.dispatcher import Dispatcher
    from autoflow.workflows.runner import WorkflowRunner
    from autoflow.workflows.tick import Tick
    from autoflow.workflows.watch import Watch

ENTRY = ("workflow", "label", "every")
"""The labels of an entry. Entries without a label that differ in parameters alone are counted together."""

BUCKETS = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
"""The upper bounds of durations, in seconds: from a small notebook to the default timeout."""

STATUSES: Mapping[DateStatus, str] = {
    DateStatus.DONE: "done",
    DateStatus.SKIPPED: "skipped",
    DateStatus.RUNNING: "running",
    DateStatus.DUE: "due",
    DateStatus.WAITING: "waiting_for_retry",
    DateStatus.WAITING_FOR_DATA: "waiting_for_data",
    DateStatus.BLOCKED: "waiting_for_earlier_date",
    DateStatus.INCOMPLETE: "missing",
    DateStatus.GIVEN_UP: "given_up",
    DateStatus.CANCELLED: "cancelled",
}
"""The statuses of dates that are counted, as values of a label."""

COUNTED_STATES = (RunState.SUCCEEDED, RunState.SKIPPED, RunState.FAILED)
"""The states of runs that are counted from 0, so that Prometheus notices the first of them."""

SUBJECTS = tuple(need for need in Need if need not in {Need.START, Need.GIVEN_UP})
"""What may need attention; the dates that were given up are counted with the others."""

LOOK_SECONDS = 10.0
"""How long what was read from the run store and the disks counts, unless something has happened."""

LOOK_SHARE = 20
"""The shortest time between two looks, as a multiple of the time that a look takes, which grows with the history."""

PATIENCE = 5.0
"""How long a scrape waits for another one that looks, in seconds; Prometheus waits for 10 s."""

TOO_OLD = 300.0
"""From which age on the last look no longer counts, in seconds: the database or a disk hangs."""

LONGEST_REQUEST = 10.0
"""How long a client may take for its request and the answer, in seconds."""

MOST_CLIENTS = 8
"""How many clients are served at the same time."""

_Labels = tuple[str, ...]


@dataclass(frozen=True)
class Daemon:
    """The parts of the daemon whose state is asked for at each scrape."""

    settings: Settings
    store: RunStore
    watch: "Watch"
    dispatcher: "Dispatcher"
    notifier: Notifier
    runner: "WorkflowRunner"


class Metrics:
    """The metrics of this process. It follows runs and ticks; `watch` gives it the daemon.

    `timer` counts seconds and does not jump.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._events = _Events(self.registry)
        self._timer = timer
        self._state: _State | None = None
        ProcessCollector(registry=self.registry)
        versions = {"version": __version__, "python_version": platform.python_version()}
        prometheus_client.Info("autoflow_build", "The version of AutoFlow.", registry=self.registry).info(versions)

    def watch(self, daemon: Daemon) -> None:
        """Include the state of the daemon from now on."""
        self._state = _State(daemon, self._events, self._timer)
        self._events.follow(daemon.watch.workflows.sensor.triggers, daemon.settings.secrets)
        self.registry.register(self._state)

    def run_ended(self, ended: EndedRun) -> None:
        """Count a run and its notebooks."""
        self._events.run_ended(ended)
        if self._state:
            self._state.has_changed()

    def tick_ended(self, result: "Tick | AutoflowError") -> None:
        """Count a tick, and take over the dates that it has found."""
        self._events.tick_ended(is_success=not isinstance(result, AutoflowError))
        if self._state:
            self._state.tick_ended(result)


class _Events:
    """What is counted as it happens, in this process alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lock = threading.Lock()
        self._labels: Mapping[WorkflowKey, _Labels] = {}
        self._notebooks: frozenset[_Labels] = frozenset()
        self._runs = Counter("autoflow_runs", "Runs that have ended.", (*ENTRY, "state"), registry=registry)
        self._run_seconds = Histogram(
            "autoflow_run_duration_seconds",
            "How long runs took that succeeded, failed or were skipped.",
            (*ENTRY, "state"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._notebook_seconds = Histogram(
            "autoflow_notebook_duration_seconds",
            "How long notebooks took, with their reports.",
            ("workflow", "notebook", "state"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._ticks = Counter("autoflow_ticks", "Checks for new dates.", ("result",), registry=registry)
        for result in ("success", "failure"):
            self._ticks.labels(result)

    def follow(self, triggers: Sequence[TriggerSpec], secrets: Iterable[str]) -> Mapping[WorkflowKey, _Labels]:
        """Count runs of `triggers` from now on, forget those of other entries, and return the labels of each entry."""
        secrets = tuple(secrets)
        labels = {WorkflowKey.of_trigger(trigger): _labels(trigger, secrets) for trigger in triggers}
        notebooks = {
            (redact(trigger.workflow.name, secrets), redact(notebook.label, secrets))
            for trigger in triggers
            for notebook in trigger.workflow.notebooks
        }
        with self._lock:
            for entry in set(self._labels.values()) - set(labels.values()):
                for state in RunState:
                    self._runs.remove(*entry, state)
                    self._run_seconds.remove(*entry, state)
            for notebook in self._notebooks - notebooks:
                for state in COUNTED_STATES:
                    self._notebook_seconds.remove(*notebook, state)
            self._labels, self._notebooks = labels, frozenset(notebooks)
            for entry in set(labels.values()):
                for state in COUNTED_STATES:
                    self._runs.labels(*entry, state)
        return labels

    def run_ended(self, ended: EndedRun) -> None:
        with self._lock:
            entry = self._labels.get(ended.run.key.workflow_key)
            if entry is None:
                return  # a user has tried other parameters, or the entry was removed
            self._runs.labels(*entry, ended.state).inc()
            if ended.state in COUNTED_STATES:
                self._run_seconds.labels(*entry, ended.state).observe(ended.seconds)
            for label, seconds in ended.outcome.executed_seconds.items():
                error = ended.outcome.errors.get(label)
                if not isinstance(error, RunStopped) and (entry[0], label) in self._notebooks:
                    state = _state_of_notebook(error)
                    self._notebook_seconds.labels(entry[0], label, state).observe(seconds)

    def tick_ended(self, *, is_success: bool) -> None:
        self._ticks.labels("success" if is_success else "failure").inc()


class _State(Collector):
    """The state of the daemon, asked for at each scrape; what is slow to find out is kept for a while."""

    def __init__(self, daemon: Daemon, events: _Events, timer: Callable[[], float]) -> None:
        self._daemon = daemon
        self._events = events
        self._timer = timer
        self._looking = threading.Lock()
        self._found: Sequence[Metric] = ()
        self._looked_at, self._look_again_at, self._look_at_latest = -TOO_OLD, 0.0, 0.0
        self._has_changed = True
        self._availability: Availability | None = None
        self._ticks: dict[bool, float] = {}
        self._last_tick_succeeded = False

    def has_changed(self) -> None:
        """Look again at the next scrape, unless the last look was expensive."""
        self._has_changed = True

    def tick_ended(self, result: "Tick | AutoflowError") -> None:
        is_success = not isinstance(result, AutoflowError)
        if not isinstance(result, AutoflowError):
            self._availability = result.availability
        self._ticks[is_success], self._last_tick_succeeded = time.time(), is_success
        self.has_changed()

    def collect(self) -> Iterator[Metric]:
        """Yield the state as metrics."""
        yield from self._known()
        if self._looking.acquire(timeout=PATIENCE):
            try:
                self._look_if_due()
            finally:
                self._looking.release()
        if self._timer() - self._looked_at < TOO_OLD:
            yield from self._found

    def _known(self) -> Iterator[Metric]:
        """Yield what is known without a look at the database or a disk."""
        daemon, facts = self._daemon, self._daemon.watch.facts
        yield from _standing("autoflow_flowapi_up", "Whether FlowAPI answered when it was last asked.", facts.flowapi)
        yield from _standing(
            "autoflow_flowapi_token_accepted", "Whether FlowAPI accepted the token when it was last asked.", facts.token
        )
        yield from _standing("autoflow_prefect_up", "Whether the Prefect API answers.", facts.prefect)
        yield from _standing("autoflow_run_store_up", "Whether the database of runs answers.", facts.run_store)
        if expiry := daemon.watch.token_expiry:
            documentation = "When the token for FlowAPI expires."
            yield _gauge("autoflow_flowapi_token_expiry_timestamp_seconds", documentation, expiry.timestamp())
        yield from self._of_ticks()
        needs = Count(condition.need for condition in daemon.watch.attention.conditions)
        yield _family(
            "autoflow_needs_attention",
            "How many conditions need attention, see 'autoflow health'.",
            ("subject",),
            {(need.name.lower(),): needs[need] for need in SUBJECTS},
        )
        yield _gauge("autoflow_slots", "How many runs of this daemon may be in progress.", daemon.runner.slots)
        yield _gauge("autoflow_slots_used", "How many runs of this daemon are in progress.", daemon.dispatcher.running)
        yield from (
            metrics_of_cluster(daemon.runner.cluster)
            if daemon.runner.cluster
            else _of_kernels(daemon.runner.fork_server)
        )
        counts = daemon.notifier.counts
        yield _counter("autoflow_messages_sent", "Messages that were sent.", counts.sent)
        yield _counter("autoflow_messages_failed", "Attempts to send a message that failed.", counts.failed)

    def _of_ticks(self) -> Iterator[Metric]:
        if not self._ticks:
            return
        last = "When the last check for new dates ended."
        yield _gauge("autoflow_last_tick_timestamp_seconds", last, max(self._ticks.values()))
        succeeded = "Whether the last check for new dates succeeded."
        yield _gauge("autoflow_last_tick_success", succeeded, self._last_tick_succeeded)
        if at := self._ticks.get(True):
            last_success = "When the last check for new dates that succeeded ended."
            yield _gauge("autoflow_last_successful_tick_timestamp_seconds", last_success, at)
        dates = self._availability.to().dates if self._availability else ()
        if dates:
            newest = "The newest date that FlowAPI has, at midnight UTC."
            yield _gauge("autoflow_newest_available_date_timestamp_seconds", newest, _midnight(max(dates)))

    def _look_if_due(self) -> None:
        now = self._timer()
        if now < (self._look_again_at if self._has_changed else self._look_at_latest):
            return
        self._has_changed = False
        self._found = (*self._of_disks(), *self._of_entries())
        self._looked_at = self._timer()
        self._look_again_at = self._looked_at + LOOK_SHARE * (self._looked_at - now)
        self._look_at_latest = max(self._look_again_at, self._looked_at + LOOK_SECONDS)

    def _of_disks(self) -> Iterator[Metric]:
        sizes: dict[_Labels, float] = {}
        free: dict[_Labels, float] = {}
        for folder in self._daemon.settings.written_folders:
            if size := size_bytes(folder):
                sizes[(str(folder),)], free[(str(folder),)] = size, free_bytes(folder)
        yield _family("autoflow_disk_free_bytes", "Free space on the disk of each folder.", ("folder",), free)
        yield _family("autoflow_disk_size_bytes", "Size of the disk of each folder.", ("folder",), sizes)

    def _of_entries(self) -> Iterator[Metric]:
        daemon, triggers = self._daemon, self._daemon.watch.workflows.sensor.triggers
        labels = self._events.follow(triggers, daemon.settings.secrets)
        try:
            histories = daemon.store.histories(keys_with_reruns(triggers))
            successes = last_successes(daemon.store.database)
        except RunStoreError as error:
            logger.debug("could not count dates for the metrics: %s", error)
            return
        counts: Count[_Labels] = Count()
        for key, status, number in _counts(triggers, self._availability, histories):
            counts[(*labels[key], STATUSES[status])] += number
        yield _family("autoflow_dates", "Dates by their status.", (*ENTRY, "status"), counts)
        yield from _of_successes(labels, histories, successes)


def _of_kernels(server: ForkServer | None) -> Iterator[Metric]:
    forks = "Whether kernels are forked from a process that has preloaded modules."
    yield _gauge("autoflow_forked_kernels", forks, server is not None and server.is_usable)
    starts = CounterMetricFamily("autoflow_kernels_started", "Kernels that were started.", labels=("start",))
    if server:
        starts.add_metric(("forked",), server.forked)
        starts.add_metric(("ordinary",), server.not_forked)
    yield starts


def metrics_of_cluster(cluster: "Cluster") -> Iterator[Metric]:
    """Yield the state of a cluster as metrics."""
    workers = cluster.workers()
    usable = [worker for worker in workers if worker.is_usable]
    counts: dict[_Labels, float] = {("usable",): len(usable), ("left_out",): len(workers) - len(usable)}
    yield _gauge("autoflow_cluster_up", "Whether the scheduler of the cluster responds.", cluster.is_connected)
    yield _family("autoflow_cluster_workers", "Workers of the cluster.", ("state",), counts)
    slots, used = sum(worker.slots for worker in usable), sum(worker.used for worker in usable)
    yield _gauge("autoflow_cluster_slots", "How many notebooks the cluster executes at a time.", slots)
    yield _gauge("autoflow_cluster_slots_used", "Notebooks in progress on the cluster, of all daemons.", used)


def _counts(
    triggers: Sequence[TriggerSpec], availability: Availability | None, histories: Histories
) -> Iterator[tuple[WorkflowKey, DateStatus, int]]:
    """Yield how many dates of each entry have each status; without the dates of FlowAPI, only what is certain."""
    if availability is not None:
        for planner in planners(triggers, availability, histories, utc_now()):
            key, found = WorkflowKey.of_trigger(planner.trigger), planner.counts()
            yield from ((key, status, found[status]) for status in STATUSES)
        return
    given_up = Count(key.workflow_key for key in given_up_keys(triggers, histories))
    for key in map(WorkflowKey.of_trigger, triggers):
        history = histories.get(key, History())
        yield key, DateStatus.DONE, len(history.done - history.skipped - history.running)
        yield key, DateStatus.SKIPPED, len(history.skipped - history.running)
        yield key, DateStatus.RUNNING, len(history.running)
        yield key, DateStatus.GIVEN_UP, given_up[key]


def _of_successes(
    labels: Mapping[WorkflowKey, _Labels], histories: Histories, successes: Mapping[WorkflowKey, Success]
) -> Iterator[Metric]:
    ordered = sorted((each.finished_at, labels[key], each) for key, each in successes.items() if key in labels)
    last = {entry: each for _, entry, each in ordered}
    ends = {entry: each.finished_at.replace(tzinfo=datetime.UTC).timestamp() for entry, each in last.items()}
    dates = {entry: _midnight(each.reference_date) for entry, each in last.items()}
    newest: dict[_Labels, float] = {}
    for key, entry in labels.items():
        if key in histories and (done := histories[key].done):
            newest[entry] = max(newest.get(entry, -math.inf), _midnight(max(done)))
    name = "autoflow_last_success_timestamp_seconds"
    yield _family(name, "When the last run that succeeded or was skipped ended.", ENTRY, ends)
    name = "autoflow_last_success_reference_date_timestamp_seconds"
    yield _family(
        name, "The reference date of the last run that succeeded or was skipped, at midnight UTC.", ENTRY, dates
    )
    name = "autoflow_newest_done_date_timestamp_seconds"
    yield _family(name, "The newest reference date that is done, at midnight UTC.", ENTRY, newest)


def _state_of_notebook(error: AutoflowError | None) -> RunState:
    if error is None:
        return RunState.SUCCEEDED
    return RunState.SKIPPED if isinstance(error, RunSkipped) else RunState.FAILED


def _labels(trigger: TriggerSpec, secrets: Iterable[str]) -> _Labels:
    """Return the values of `ENTRY`."""
    texts = (trigger.workflow.name, trigger.label or "", trigger.every.value)
    return tuple(redact(text, secrets) for text in texts)


def _midnight(date: datetime.date) -> float:
    return datetime.datetime.combine(date, datetime.time(), datetime.UTC).timestamp()


def _family(name: str, documentation: str, labels: Sequence[str], values: Mapping[_Labels, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for entry, value in values.items():
        family.add_metric(entry, value)
    return family


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, value=float(value))


def _counter(name: str, documentation: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, documentation, value=value)


def _standing(name: str, documentation: str, standing: Standing | None) -> Iterator[GaugeMetricFamily]:
    """Yield 1 for what works and 0 for what fails, nothing while that is unknown."""
    if standing is not None:
        yield _gauge(name, documentation, standing.is_good)


class _Handler(MetricsHandler):
    """Answers GET /metrics, and nothing else."""

    server_version, sys_version = "AutoFlow", ""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server looks for
        """Send the metrics."""
        if urlsplit(self.path).path == "/metrics":
            super().do_GET()
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "the metrics are at /metrics")


class _Server(ThreadingHTTPServer):
    """Serves a few clients at a time, each for a limited time."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = family
        self._places = threading.BoundedSemaphore(MOST_CLIENTS)
        super().__init__((str(address[0]), int(address[1])), _Handler.factory(registry))

    def server_bind(self) -> None:
        """Bind without a query for the name of this machine, which may take long."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a client in a thread, unless there are too many."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a client, and close the connection when its time is over."""
        alarm = threading.Timer(LONGEST_REQUEST, _hang_up, [request])
        alarm.daemon = True
        alarm.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            alarm.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a bug; a client that hangs up is none."""
        del request, client_address
        if not isinstance(sys.exception(), OSError):
            logger.exception("a scrape failed because of a bug; please report these lines")


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving_metrics(settings: Settings) -> Iterator[Metrics | None]:
    """Serve metrics for the duration of the block; yield None if no port for them is set.

    Raises
    ------
    SettingsError
        If the port cannot be used.

    """
    host, port = settings.metrics_host, settings.metrics_port
    if port is None:
        yield None
        return
    metrics = Metrics()
    try:
        server = _Server(host, port, metrics.registry)
    except OSError as error:
        reason = f"cannot listen on {host} port {port}: {error.strerror}; choose another port, or end what uses it"
        raise SettingsError([f"AUTOFLOW_METRICS_PORT: {reason}"]) from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield metrics
    finally:
        server.shutdown()
        server.server_close()

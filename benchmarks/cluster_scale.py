"""Measure how many workers a cluster can have: ``python -m benchmarks.cluster_scale``.

First it sends empty notebooks to real workers, each with one slot, on this machine. Then stand-ins take the place of
the workers: they register, take orders, read claims and answer as workers do, but only sleep. Last, a daemon with
Prefect runs a workflow on them. Scheduler, PostgreSQL, claims and heartbeats are real throughout.

Stand-ins, scheduler, PostgreSQL and daemon share the CPUs of this machine. So CPU time per run, by process, says what
each of them carries on a core of its own, and runs per second only what this machine does.
"""

import argparse
import asyncio
import datetime
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path

import psutil
import psycopg

from autoflow.cluster.client import Cluster, Reservation
from autoflow.cluster.desk import Desk
from autoflow.cluster.fitness import CHECK_SECONDS
from autoflow.cluster.options import log_with_autoflow, set_options
from autoflow.cluster.security import security
from autoflow.cluster.work import Result, Work
from autoflow.cluster.worker import dask_worker
from autoflow.errors import AutoflowError, WorkerLostError
from autoflow.model.claim_ages import ClaimAges
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.notebooks.execution import Means
from autoflow.runs.records import RunKey, RunState
from autoflow.runs.run import NotebookOutputs
from autoflow.settings import Settings
from autoflow.system.stop_signal import PeriodicThread, StopSignal
from benchmarks.cluster_hosts import ClusterHosts, Part, running_cluster, start
from benchmarks.daemon import STOP_SECONDS, children_by_kind, write_inputs
from examples.flowapi import ExampleFlowApi
from tests.waiting import wait_for

REAL_WORKERS = (8, 4, 2, 1)
"""How many real workers there are, one after the other."""

STAND_INS_PER_PROCESS = 50

POLL_SECONDS = 0.02
"""How often a run that waits for a slot looks for one, and the notebooks in progress are counted."""

MOST_STARTING = 300.0
"""How many seconds a daemon may take until its first run has ended."""

WARM_UP = 5.0
"""Seconds before a measurement begins."""

DAY = datetime.date(2016, 1, 1)

NUMBERS = count()
"""Tell the runs of this process apart."""


def sleep(seconds: float, work: Work, settings: Settings, means: Means) -> Result:
    """Stand in for a notebook: wait, look at the claim as before a file is renamed, and write the file."""
    if not means.stop.wait(seconds) and means.confirm:
        means.confirm()
    executed = work.executed(settings)
    executed.write_bytes(work.notebook.read_bytes())
    return Result(outputs=NotebookOutputs(executed))


async def stand_in(settings: Settings, number: int, seconds: float, stack: ExitStack, folder: Path) -> None:
    """Register a worker that only sleeps."""
    ages = stack.enter_context(closing(ClaimAges(settings.db_uri)))
    desk = Desk(settings, ages, carry_out=partial(sleep, seconds))
    stack.enter_context(PeriodicThread(f"fitness-{number}", desk.fitness.check, CHECK_SECONDS))
    await dask_worker(desk, folder, security(settings))


async def run_stand_ins(number: int, seconds: float) -> None:
    """Be so many workers until this process is killed."""
    settings = Settings.read(dict(os.environ))
    set_options(settings.heartbeat_timeout)
    log_with_autoflow()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for each in range(number):
            await stand_in(settings, each, seconds, stack, folder)
        print("registered as stand-ins", flush=True)
        await asyncio.Event().wait()


@dataclass(frozen=True)
class Usage:
    """CPU seconds of each process, and transactions of PostgreSQL, until `time`."""

    cpu: Mapping[str, float]
    transactions: int
    connections: int
    time: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Watch:
    """Looks at what the processes of a cluster use."""

    conninfo: str
    processes: Mapping[str, int]

    def look(self) -> Usage:
        """Return what all have used so far."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            row = connection.execute(
                "SELECT pg_backend_pid(),"
                " (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),"
                " (SELECT count(*) FROM pg_stat_activity WHERE usename IS NOT NULL)"
            ).fetchone()
            assert row
            pid, transactions, connections = row
            server = psutil.Process(pid).parent()
            assert server
            cpu = {"PostgreSQL": _cpu(server) + sum(map(_cpu, server.children()))}
        cpu |= {name: _cpu(psutil.Process(pid)) for name, pid in self.processes.items()}
        return Usage(cpu, transactions, connections)


def _cpu(process: psutil.Process) -> float:
    """Return the CPU time of a process, with that of children that have ended."""
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


HEAD = f"{'':26}{'runs/s':>8}{'busy':>7}{'connections':>13}{'queries/s':>11}   CPU ms per run (percent of a core)"


def print_line(name: str, runs: int, busy: float, before: Usage, after: Usage) -> None:
    """Print what happened between two looks; `busy` is how many notebooks were in progress on average."""
    seconds = after.time - before.time
    parts = []
    for process, cpu in after.cpu.items():
        used = cpu - before.cpu[process]
        parts.append(f"{process} {1000 * used / max(runs, 1):.0f} ({used / seconds:.0%})")
    queries = (after.transactions - before.transactions) / seconds
    figures = f"{runs / seconds:>8.1f}{busy:>7.0f}{after.connections:>13}{queries:>11.0f}"
    print(f"{name:26}{figures}   {', '.join(parts)}", flush=True)


class Driver:
    """A daemon without Prefect: it claims runs, has workers carry out a notebook, and records the end.

    There is a thread for each slot, as in a daemon. `ended`, `failed` and `running` count runs.
    """

    def __init__(self, settings: Settings, store: RunStore, heartbeat: Heartbeat, cluster: Cluster) -> None:
        self._settings = settings
        self._store = store
        self._heartbeat = heartbeat
        self._cluster = cluster
        self._lock = threading.Lock()
        self.ended = 0
        self.running = 0
        self.failed = 0

    @contextmanager
    def running_all(self, slots: int, *, spread: float = 0.0) -> Iterator[None]:
        """Run one after the other in each of so many threads, which start within `spread` seconds, during the block."""
        end = threading.Event()
        threads = [threading.Thread(target=self._run_some, args=[end]) for _ in range(slots)]
        for thread in threads:
            thread.start()
            time.sleep(spread / slots)
        try:
            yield
        finally:
            end.set()
            for thread in threads:
                thread.join()

    def _run_some(self, end: threading.Event) -> None:
        while not end.is_set():
            reservation = self._cluster.reserve()
            if reservation is None:
                end.wait(POLL_SECONDS)
                continue
            with reservation:
                self._run(reservation)

    def _run(self, reservation: Reservation) -> None:
        with self._lock:
            number = next(NUMBERS)
            self.running += 1
        claim = self._store.claim(RunKey.of("load", {"number": number}, DAY))
        assert claim
        stop = StopSignal()
        with self._heartbeat.of(claim, stop):
            place = reservation.place(claim, lambda _: self._heartbeat.leave(claim))
            error: AutoflowError | None
            try:
                error = place.carry_out(self._work(number), stop=stop).error
            except WorkerLostError as lost:
                error = lost
            self._store.finish(claim, RunState.FAILED if error else RunState.SUCCEEDED)
        with self._lock:
            self.running -= 1
            self.ended += error is None
            self.failed += error is not None

    def _work(self, number: int) -> Work:
        notebook = self._settings.inputs_dir / "trivial.ipynb"
        return Work(
            label="n",
            notebook=notebook,
            sources={},
            values={},
            upstream={},
            stem=f"load-{number}",
            timeout=600.0,
            report_timeout=600.0,
        )


def settings_of(cluster: ClusterHosts) -> Settings:
    """Return the settings of a daemon on the host of this process."""
    return Settings.read(cluster.daemon_environ("hub"))


def watch(cluster: ClusterHosts, **more: int) -> Watch:
    """Return a watch of the scheduler, of PostgreSQL and of the processes with these ids."""
    assert cluster.scheduler.process
    uri = cluster.daemon_environ("hub")["AUTOFLOW_DB_URI"]
    return Watch(uri, {"scheduler": cluster.scheduler.process.pid, **more})


@contextmanager
def driving(cluster: ClusterHosts) -> Iterator[tuple[Driver, Cluster]]:
    """Have a driver for the duration of the block, with its connection to the cluster."""
    settings = settings_of(cluster)
    crashed_after = datetime.timedelta(seconds=settings.heartbeat_timeout)
    with (
        closing(RunStore(settings.db_uri, crashed_after=crashed_after)) as store,
        Heartbeat(store) as heartbeat,
        Cluster(settings) as connection,
    ):
        yield Driver(settings, store, heartbeat, connection), connection


def usable(cluster: Cluster) -> int:
    """Return how many workers get orders."""
    return sum(worker.is_usable for worker in cluster.workers())


def measured(name: str, driver: Driver, watch: Watch, seconds: float) -> None:
    """Print what happens in so many seconds, after the warm-up."""
    time.sleep(WARM_UP)
    ended, before, busy = driver.ended, watch.look(), []
    while time.monotonic() < before.time + seconds:
        busy.append(driver.running)
        time.sleep(POLL_SECONDS)
    after, runs = watch.look(), driver.ended - ended
    print_line(name, runs, sum(busy) / len(busy), before, after)
    if driver.failed:
        print(f"{driver.failed} runs failed", flush=True)


def measure_real(folder: Path, seconds: float) -> None:
    """Send trivial notebooks to one to eight real workers."""
    print(f"\ntrivial notebooks, workers with one slot each, for {seconds:g} s\n{HEAD}")
    environ = {"AUTOFLOW_WORKER_SLOTS": "1"}
    with running_cluster(folder, workers=REAL_WORKERS[0], environ=environ) as cluster:
        write_inputs(cluster.inputs)
        for number in REAL_WORKERS:
            for worker in cluster.workers[number:]:
                worker.end()
            with driving(cluster) as (driver, connection):
                wait_for(lambda: usable(connection) == number)  # noqa: B023 - it is called within this round
                with driver.running_all(number):
                    measured(f"{number} workers", driver, watch(cluster, daemon=os.getpid()), seconds)


def start_stand_ins(cluster: ClusterHosts, number: int, seconds: float) -> None:
    """Start so many stand-ins on the host of the only worker, in its place."""
    (worker,) = cluster.workers
    worker.end()
    command = [*worker.command[: worker.command.index("-m")], "-m", "benchmarks.cluster_scale"]
    for first in range(0, number, STAND_INS_PER_PROCESS):
        size = min(STAND_INS_PER_PROCESS, number - first)
        options = ["--stand-ins", str(size), "--sleeps", str(seconds)]
        part = Part(worker.host, [*command, *options], worker.environ, cluster.folder / f"stand-ins-{first}.log")
        cluster.stack.callback(part.end)
        start(part, "registered as")


def measure_stand_ins(folder: Path, workers: int, slots: int, sleeps: float, seconds: float) -> None:
    """Send runs to stand-ins: from this process, then from a daemon with Prefect."""
    with running_cluster(folder, workers=1, environ={"AUTOFLOW_WORKER_SLOTS": str(slots)}) as cluster:
        write_inputs(cluster.inputs)
        start_stand_ins(cluster, workers, sleeps)
        name = f"{workers} x {slots}, {sleeps:g} s"
        with driving(cluster) as (driver, connection):
            wait_for(lambda: usable(connection) == workers)
            me = watch(cluster, daemon=os.getpid())
            measured(f"{name}, idle", driver, me, seconds / 2)
            with driver.running_all(workers * slots, spread=sleeps):
                measured(f"{name}, no Prefect", driver, me, max(seconds, 2 * sleeps))
        measure_daemon(cluster, name, max(seconds, 2 * sleeps))


def measure_daemon(cluster: ClusterHosts, name: str, seconds: float) -> None:
    """Have a daemon run a workflow for more dates than it can do, and stop it after so many seconds."""
    dates = [DAY - datetime.timedelta(days=day) for day in range(20_000)]
    settings = settings_of(cluster)
    with ExampleFlowApi(dates, host=cluster.network.listens_on) as flowapi, closing(RunStore(settings.db_uri)) as store:
        daemon = cluster.daemon()
        daemon.environ = {**daemon.environ, "FLOWAPI_URL": flowapi.url, "FLOWAPI_TOKEN": flowapi.token()}
        daemon.start()
        assert daemon.process
        try:
            wait_for(lambda: counts(store)[0] or not daemon.is_running, seconds=MOST_STARTING, pause=0.5)
            assert daemon.is_running, daemon.text[-2000:]
            time.sleep(WARM_UP)
            children = dict(children_by_kind(psutil.Process(daemon.process.pid)))
            server = children["Prefect server"].pid
            its = watch(cluster, daemon=daemon.process.pid, **{"Prefect's server": server})
            ended, before, busy = counts(store)[0], its.look(), []
            while time.monotonic() < before.time + seconds:
                busy.append(counts(store)[1])
                time.sleep(1)
            after, runs = its.look(), counts(store)[0] - ended
            print_line(f"{name}, daemon", runs, sum(busy) / len(busy), before, after)
        finally:
            daemon.signal(signal.SIGKILL)
            daemon.process.wait(STOP_SECONDS)


def counts(store: RunStore) -> tuple[int, int]:
    """Return how many runs of the daemon have succeeded, and how many are in progress."""
    states = [run.state for run in store.runs(workflow="trivial")]
    return sum(state.is_success for state in states), sum(state.is_active for state in states)


def main() -> int:
    """Print the tables; in another process, be stand-ins."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--workers", type=int, nargs="*", default=[50, 200], help="numbers of stand-ins (default: 50 200)"
    )
    parser.add_argument("--slots", type=int, default=2, help="slots of each stand-in (default: 2)")
    parser.add_argument("--sleeps", type=float, default=30.0, help="how long a run takes, in seconds (default: 30)")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="how long each measurement takes, at least (default: 30)"
    )
    parser.add_argument("--no-real", action="store_true", help="leave real workers out")
    parser.add_argument("--stand-ins", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stand_ins:
        asyncio.run(run_stand_ins(options.stand_ins, options.sleeps))
    print(f"load average {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} CPUs")
    if not options.no_real:
        with tempfile.TemporaryDirectory() as folder:
            measure_real(Path(folder), options.seconds / 2)
    print(f"\nstand-ins: workers x slots, and how long a run takes\n{HEAD}")
    for workers in options.workers:
        with tempfile.TemporaryDirectory() as folder:
            measure_stand_ins(Path(folder), workers, options.slots, options.sleeps, options.seconds)
    print(f"\nload average {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

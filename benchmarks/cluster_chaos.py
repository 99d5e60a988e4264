"""Kill, stop and cut off the parts of a cluster at random while it works: ``python -m benchmarks.cluster_chaos``.

Two daemons on one PostgreSQL run a workflow for 60 dates on the workers of a Dask cluster. Every few seconds, a worker,
a daemon or the scheduler is killed, stopped, or cut off from all others, the database or the scheduler. Some seconds
later, it is started again, continued or connected again. As root, each part is in a network namespace of its own.

The kernels log when they are alive, and ignore SIGTERM. The verdict comes from that log: no two attempts at a date are
alive at the same time, no file of an attempt appears once the next one has begun, and each date is completed. By the
record, each date has one success, and no run has failed.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import nbformat
import sqlalchemy as sa

from autoflow.model.tables import runs_table
from benchmarks.chaos import Figures, check_outputs, engine, processes, successes
from benchmarks.cluster_hosts import DATABASE, SCHEDULER, ClusterHosts, Part, running_cluster
from examples.flowapi import ExampleFlowApi
from tests.lives import code_of_life, complaints, read_lives

FIRST_DATE = date(2016, 1, 1)

FAULTS = {
    "worker": ("killed", "stopped", "cut off", "cut off from the database", "cut off from the scheduler"),
    "daemon": ("killed", "stopped", "cut off", "cut off from the database", "cut off from the scheduler"),
    "scheduler": ("killed", "stopped", "cut off"),
}

WEIGHTS = {"worker": 3, "daemon": 2, "scheduler": 1}

LONGEST = 2.5
"""The longest time that a part stays stopped or cut off, in heartbeat timeouts."""

REPORT_SECONDS = 30.0
"""How often the progress is printed, in seconds."""


def write_inputs(folder: Path, seconds: float) -> None:
    """Write a workflow with a notebook that lives for some seconds, and has a report."""
    (folder / "lives").mkdir()
    parameters = nbformat.v4.new_code_cell("reference_date = ''", metadata={"tags": ["parameters"]})
    run = "f'chaos__n__{reference_date}'"
    goes_on = f"time.monotonic() < started + {seconds}"
    code = "import time\nstarted = time.monotonic()\n" + code_of_life(folder / "lives", run=run, goes_on=goes_on)
    cells = [parameters, nbformat.v4.new_code_cell(code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "inputs" / "n.ipynb")
    notebook = {"filename": "n.ipynb", "parameters": {"reference_date": "reference_date"}, "output": {"format": "pdf"}}
    trigger = {"workflow_name": "chaos", "retry_delay": 1, "max_attempts": 1000}
    content = {
        "workflows": [{"name": "chaos", "notebooks": {"n": notebook}}],
        "available_dates_sensor": {"schedule": "* * * * * */3", "workflows": [trigger]},
    }
    # JSON is YAML.
    (folder / "inputs" / "workflows.yml").write_text(json.dumps(content))


@dataclass
class Trouble:
    """Makes trouble for the parts of a cluster, one fault at a time for each of them."""

    cluster: ClusterHosts
    daemons: list[Part]
    options: argparse.Namespace
    chance: random.Random
    faults: Counter[str] = field(default_factory=Counter)
    next_at: float = 0.0
    ends: dict[str, tuple[float, Part]] = field(default_factory=dict)

    def look(self, now: float) -> None:
        """End the faults that are over, and begin another one if it is time."""
        for host, (end, part) in list(self.ends.items()):
            if now >= end:
                self._heal(part)
                del self.ends[host]
        if now >= self.next_at and self.faults.total() < self.options.faults:
            self.next_at = now + self.chance.uniform(0.5, 1.5) * self.options.pause
            self._harm(now)

    def heal_all(self) -> None:
        """End all faults."""
        for _, part in self.ends.values():
            self._heal(part)
        self.ends.clear()

    def _harm(self, now: float) -> None:
        (role,) = self.chance.choices([*WEIGHTS], [*WEIGHTS.values()])
        parts = {"worker": self.cluster.workers, "daemon": self.daemons, "scheduler": [self.cluster.scheduler]}[role]
        part, fault = self.chance.choice(list(parts)), self.chance.choice(FAULTS[role])
        seconds = self.chance.uniform(0.1, LONGEST) * self.options.heartbeat
        if part.host in self.ends:
            return
        self.faults[f"{role} {fault}"] += 1
        if fault == "killed":
            part.signal(signal.SIGKILL)
            seconds = self.chance.uniform(0, 5)
        elif fault == "stopped":
            part.signal(signal.SIGSTOP)
        else:
            services = {"the database": DATABASE, "the scheduler": SCHEDULER}
            self.cluster.network.cut(part.host, services.get(fault.partition(" from ")[2]))
        self.ends[part.host] = now + seconds, part
        print(f"  fault {self.faults.total():>3}: {part.host} {fault} for {seconds:.0f} s", flush=True)

    def _heal(self, part: Part) -> None:
        part.signal(signal.SIGCONT)
        self.cluster.network.join(part.host)
        part.start()


def work(cluster: ClusterHosts, trouble: Trouble, options: argparse.Namespace) -> list[str]:
    """Make trouble until there has been enough, then wait until all dates are done; return what is wrong."""
    started = time.monotonic()
    next_look, is_over = started + REPORT_SECONDS, False
    while (now := time.monotonic()) < started + options.minutes * 60:
        time.sleep(0.1)
        if not is_over:
            trouble.look(now)
        if trouble.faults.total() == options.faults and not trouble.ends:
            is_over = True
        if now >= next_look or is_over:
            done = successes(cluster.uri)
            if is_over and done == options.dates:
                return []
            if now >= next_look:
                next_look = now + REPORT_SECONDS
                print(f"  {now - started:.0f} s: {done} of {options.dates} dates are done", flush=True)
            time.sleep(0.5)
    trouble.heal_all()
    return [f"not all dates were done after {options.minutes:g} minutes"]


def check_record(uri: str, dates: int) -> tuple[Counter[str], list[str]]:
    """Return how many runs ended in each state, and what is wrong with them."""
    with engine(uri).connect() as connection:
        query = sa.select(runs_table.c.reference_date, runs_table.c.state, runs_table.c.error_message)
        rows = connection.execute(query).all()
    done = Counter(day for day, state, _ in rows if state == "succeeded")
    days = [FIRST_DATE + timedelta(days=number) for number in range(dates)]
    problems = [f"{day} has {done[day]} successes" for day in days if done[day] != 1]
    problems += [f"{day} failed, although only AutoFlow was harmed: {error}" for day, s, error in rows if s == "failed"]
    return Counter(state for _, state, _ in rows), problems


def run(options: argparse.Namespace, folder: Path) -> list[str]:
    """Run the cluster in trouble; print the figures, and return what is wrong."""
    environ = {
        "AUTOFLOW_HEARTBEAT_TIMEOUT": str(options.heartbeat),
        "AUTOFLOW_WORKER_SLOTS": str(options.slots),
        "AUTOFLOW_SHUTDOWN_GRACE": "0",
    }
    days = [FIRST_DATE + timedelta(days=number) for number in range(options.dates)]
    namespaces = False if options.loopback else None
    with running_cluster(folder, workers=options.workers, environ=environ, namespaces=namespaces) as cluster:
        write_inputs(folder, options.seconds)
        print(f"each part has {cluster.network.what} of its own", flush=True)
        with ExitStack() as stack:
            flowapi = ExampleFlowApi(dates=days, subscribers=100, host=cluster.network.listens_on)
            stack.enter_context(flowapi)
            daemons = [cluster.daemon(number, flowapi=flowapi) for number in range(2)]
            for daemon in daemons:
                daemon.start()
            trouble = Trouble(cluster, daemons, options, random.Random(options.seed), next_at=time.monotonic() + 15)
            started = time.monotonic()
            problems = work(cluster, trouble, options)
            seconds = time.monotonic() - started
            for part in (*daemons, *cluster.workers):
                part.signal(signal.SIGTERM)
            for part in (*daemons, *cluster.workers):
                part.end()
        time.sleep(3)
        states, found = check_record(cluster.uri, options.dates)
        problems += found
    return problems + judged(folder, trouble, states, seconds)


def judged(folder: Path, trouble: Trouble, states: Counter[str], seconds: float) -> list[str]:
    """Print the figures; return what the log of the kernels, the outputs and the processes complain about."""
    figures = Figures()
    lives = {file.name: read_lives(file) for file in (folder / "lives").iterdir()}
    attempts = [life for found in lives.values() for life in found]
    problems = complaints(folder / "lives", folder / "outputs")
    problems += [f"{name} was never completed" for name, found in lives.items() if not any(x.is_whole for x in found)]
    left = processes(str(folder / "outputs"))
    problems += [f"process {pid} is still running: {name}" for pid, name in left.items()]
    notebooks, reports = check_outputs(folder / "outputs", figures)
    whole = sum(life.is_whole for life in attempts)
    print(f"faults                {trouble.faults.total():>6}")
    for fault, count in sorted(trouble.faults.items()):
        print(f"  {fault:40}{count:>6}")
    print(f"attempts recorded     {states.total():>6}  {dict(states)}")
    print(f"kernels               {len(attempts):>6}  of which came to their end: {whole}, for {len(lives)} dates")
    print(f"hosts of kernels      {len({life.host for life in attempts}):>6}")
    print(f"complete files        {notebooks + reports:>6}  {notebooks} notebooks, {reports} reports")
    print(f"minutes               {seconds / 60:>6.1f}")
    return problems + figures.problems


def main() -> None:
    """Run with the options of the command line; exit with 1 if there is any problem."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dates", type=int, default=60)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--slots", type=int, default=2, help="of each worker")
    parser.add_argument("--pause", type=float, default=5, help="seconds between faults, on average")
    parser.add_argument("--seconds", type=float, default=8, help="how long each notebook runs")
    parser.add_argument("--heartbeat", type=float, default=12, help="the heartbeat timeout, in seconds")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loopback", action="store_true", help="use proxies on loopback, not network namespaces")
    parser.add_argument("--keep", type=Path, help="an empty folder in which to keep everything")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autoflow-chaos-")))
        print(f"{options.workers} workers, 2 daemons, {options.dates} dates, seed {options.seed}", flush=True)
        problems = run(options, folder)
    for problem in problems:
        print(f"PROBLEM: {problem}")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()

"""Measure a cluster on one machine, each part on a host of its own: ``python -m benchmarks.cluster``.

As root, hosts are network namespaces; otherwise they share loopback. It runs the example on four workers; notebooks
that only sleep on one, two and four hosts, which shows what several machines would gain; and empty notebooks on one
worker and without a cluster, which shows what the cluster adds to each.
"""

import argparse
import datetime
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from autoflow.model.opening import open_run_store
from autoflow.runs.records import RunRecord, RunState
from autoflow.settings import Settings
from benchmarks.cluster_hosts import SCHEDULER, ClusterHosts, Part, can_use_namespaces, running_cluster
from benchmarks.goals import Goal, add_options, judge
from examples.flowapi import first_dates
from examples.run import INPUTS, LOST_DAY

LINEAR_GOAL = 0.9
"""The gain from one to the highest number of hosts, divided by that number, at least."""

MORE_GOAL = 0.25
"""Seconds that a notebook may take longer on a worker than without a cluster."""

SLOTS = 2
"""How many notebooks a host executes at a time."""

EXAMPLE_WORKERS = 4
LONGEST = 600.0
"""Seconds that a daemon may take for all of its runs."""

NO_CLUSTER = dict.fromkeys(("AUTOFLOW_DASK_SCHEDULER", "AUTOFLOW_DASK_CA", "AUTOFLOW_DASK_CERT"), "")


@dataclass(frozen=True)
class Measured:
    """The runs of a daemon, all of which succeeded."""

    runs: Sequence[RunRecord]

    @property
    def seconds(self) -> float:
        """From the start of the first run to the end of the last."""
        ends = [run.finished_at for run in self.runs if run.finished_at]
        return (max(ends) - min(run.started_at for run in self.runs)).total_seconds()

    @property
    def each(self) -> float:
        """The median time of a run."""
        return statistics.median(
            (run.finished_at - run.started_at).total_seconds() for run in self.runs if run.finished_at
        )


def dates_of(count: int) -> list[datetime.date]:
    """Return so many dates."""
    return [datetime.date(2016, 1, 1) + datetime.timedelta(days=number) for number in range(count)]


def write_inputs(inputs: Path, code: str) -> None:
    """Write a workflow of one notebook with this code."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbformat.write(notebook, inputs / "n.ipynb")
    (inputs / "workflows.yml").write_text(
        "workflows: [{name: w, notebooks: {n: {filename: n.ipynb}}}]\n"
        "available_dates_sensor: {schedule: null, workflows: [{workflow_name: w}]}\n"
    )


def run_all(cluster: ClusterHosts, environ: Mapping[str, str]) -> Measured:
    """Run a daemon until nothing is due; return its runs, or end the benchmark if one of them failed."""
    daemon: Part = cluster.daemon(environ=environ)
    daemon.start()
    assert daemon.process
    try:
        daemon.process.wait(LONGEST)
    except subprocess.TimeoutExpired:
        sys.exit(f"the daemon took longer than {LONGEST:.0f} s; the end of its log:\n{daemon.text[-3000:]}")
    with open_run_store(Settings.read({**cluster.daemon_environ(SCHEDULER), **NO_CLUSTER})) as store:
        runs = store.runs()
    if daemon.process.returncode or not runs or any(run.state is not RunState.SUCCEEDED for run in runs):
        sys.exit(f"not all runs succeeded; the end of the daemon's log:\n{daemon.text[-3000:]}")
    return Measured(runs)


def measure(
    hosts: int,
    write: Callable[[Path], object],
    dates: Sequence[datetime.date],
    environ: Mapping[str, str] | None = None,
) -> tuple[Measured, Sequence[Path]]:
    """Return the runs of inputs on so many workers, and the reports; with `environ` for the daemon."""
    with tempfile.TemporaryDirectory() as folder:
        # Each worker has as many slots as a machine of two cores would have.
        slots = {"AUTOFLOW_WORKER_SLOTS": str(SLOTS)}
        with running_cluster(Path(folder), workers=hosts, environ=slots, dates=dates) as cluster:
            write(cluster.inputs)
            found = run_all(cluster, environ or {})
            return found, list(cluster.outputs.glob("reports/*.pdf"))


def example() -> list[Goal]:
    """Run the example on four workers."""
    dates = [day for day in first_dates(12) if day != LOST_DAY]
    found, reports = measure(EXAMPLE_WORKERS, lambda inputs: shutil.copytree(INPUTS, inputs, dirs_exist_ok=True), dates)
    succeeded = f"{len(found.runs)} runs succeeded in {found.seconds:.0f} s"
    print(f"the example on {EXAMPLE_WORKERS} workers: {succeeded}, {len(reports)} PDFs")
    return [Goal("example: reports", len(reports), 1, unit="", at_least=True)]


def scaling(hosts: Sequence[int], runs: int, seconds: float) -> list[Goal]:
    """Run notebooks that sleep on several numbers of hosts; return the goal for the highest."""
    print(f"\n{runs} runs of notebooks that sleep for {seconds:g} s, {SLOTS} slots on each host")
    print(f"{'hosts':>8}{'wall s':>10}{'ideal s':>10}{'of linear':>12}")
    walls: dict[int, float] = {}
    for number in sorted(hosts):
        found, _ = measure(
            number, lambda inputs: write_inputs(inputs, f"import time\ntime.sleep({seconds})"), dates_of(runs)
        )
        walls[number] = found.seconds
        first = min(walls)
        linear = walls[first] * first / number / found.seconds
        ideal = -(-runs // (SLOTS * number)) * seconds
        print(f"{number:>8}{found.seconds:>10.1f}{ideal:>10.1f}{linear:>12.0%}", flush=True)
    return [Goal(f"cluster: part of linear, {max(walls)} hosts", linear, LINEAR_GOAL, at_least=True)]


def cost(runs: int) -> list[Goal]:
    """Run empty notebooks on a worker and without a cluster; return the goal for the difference."""
    local, _ = measure(
        1, lambda inputs: write_inputs(inputs, ""), dates_of(runs), {**NO_CLUSTER, "AUTOFLOW_MAX_PARALLEL_RUNS": "1"}
    )
    remote, _ = measure(1, lambda inputs: write_inputs(inputs, ""), dates_of(runs), {"AUTOFLOW_MAX_PARALLEL_RUNS": "1"})
    medians = f"median {local.each:.3f} s without a cluster, {remote.each:.3f} s on a worker"
    print(f"\n{runs} empty notebooks, one at a time: {medians}")
    return [Goal("cluster: more for each notebook", remote.each - local.each, MORE_GOAL, unit="s")]


def main() -> int:
    """Print the tables and the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 2, 4], help="numbers of hosts (default: 1 2 4)")
    parser.add_argument("--runs", type=int, default=24, help="how many runs (default: 24)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each notebook sleeps (default: 8)")
    add_options(parser)
    options = parser.parse_args()
    print(f"hosts are {'network namespaces' if can_use_namespaces() else 'on loopback'}", flush=True)
    started = time.monotonic()
    goals = [*example(), *scaling(options.hosts, options.runs, options.seconds), *cost(options.runs)]
    print(f"\n{time.monotonic() - started:.0f} s in all")
    return judge(goals, check=options.check, figures=options.figures)


if __name__ == "__main__":
    sys.exit(main())

"""Measure the memory of AutoFlow's processes during a long backfill: ``python -m benchmarks.memory [--dates 1000]``.

The fork server is replaced whenever packages have changed, and starts small.
"""

import argparse
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.daemon import children_by_kind, end_of, environment, running_daemon, write_inputs
from benchmarks.goals import Goal, add_options, judge
from examples.flowapi import ExampleFlowApi

if TYPE_CHECKING:
    import subprocess

LONG_LIVED = ("daemon", "Prefect server", "kernel server")
"""The processes that live as long as the backfill; kernels come and go."""

MOST_GROWTH = 1.3
"""How many times its memory after the first step a process may have at the end."""

START_SECONDS = 120.0
LONGEST_RUN = 10.0
"""Seconds that a run may take, on average, before the benchmark gives up."""

Sizes = dict[str, float]
"""The memory of each long-lived process, in MB."""


def resident_megabytes(pid: int) -> Sizes:
    """Return the memory of a daemon and of its long-lived children that are running."""
    sizes: Sizes = {}
    try:
        daemon = psutil.Process(pid)
        for kind, process in (("daemon", daemon), *children_by_kind(daemon)):
            if kind in LONG_LIVED:
                sizes[kind] = max(sizes.get(kind, 0), process.memory_info().rss / 1e6)
    except psutil.Error:
        return sizes
    return sizes


def backfill(
    daemon: "subprocess.Popen[bytes]", outputs: Path, log: Path, options: argparse.Namespace
) -> list[tuple[int, Sizes]]:
    """Wait while the daemon works through all dates; return the memory after each step."""
    samples: list[tuple[int, Sizes]] = []
    wanted = list(range(options.step, options.dates + 1, options.step))
    deadline = time.monotonic() + START_SECONDS + LONGEST_RUN * options.dates
    while daemon.poll() is None and wanted:
        if time.monotonic() > deadline:
            sys.exit(f"a run takes over {LONGEST_RUN:g} s; the end of the daemon's log:\n{end_of(log)}")
        time.sleep(0.05)
        done = sum(1 for _ in (outputs / "notebooks").glob("*.ipynb"))
        if done >= wanted[0] and (sizes := resident_megabytes(daemon.pid)):
            # The last sample before the end, because afterwards there is no process to measure.
            samples.append((done, sizes))
            wanted = [step for step in wanted if step > done]
            print(done, {kind: round(size) for kind, size in sizes.items()}, flush=True)
    return samples


def judged(samples: list[tuple[int, Sizes]], options: argparse.Namespace) -> int:
    """Print how much each process has grown since the first step, and the goals."""
    (_, first), (_, last) = samples[0], samples[-1]
    growth = {kind: last[kind] / size for kind, size in first.items() if kind in last}
    for kind, ratio in growth.items():
        print(f"{kind:<16}{first[kind]:>8.0f} MB{last[kind]:>8.0f} MB{ratio:>7.2f}")
    goals = [Goal(f"growth: {kind}", ratio, MOST_GROWTH) for kind, ratio in growth.items()]
    return judge(goals, check=options.check, figures=options.figures)


def main() -> int:
    """Measure, and print the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dates", type=int, default=1000, help="how many runs (default: 1000)")
    parser.add_argument("--step", type=int, default=100, help="after how many runs to measure (default: 100)")
    add_options(parser)
    options = parser.parse_args()
    days = [date(2016, 1, 1) + timedelta(days=number) for number in range(options.dates)]
    with tempfile.TemporaryDirectory() as folder, ExampleFlowApi(dates=days, subscribers=50) as flowapi:
        inputs, outputs, log = Path(folder) / "inputs", Path(folder) / "outputs", Path(folder) / "log"
        (outputs / "notebooks").mkdir(parents=True)
        inputs.mkdir()
        write_inputs(inputs)
        started = time.monotonic()
        with running_daemon(environment(inputs, outputs, flowapi), log) as daemon:
            samples = backfill(daemon, outputs, log, options)
        seconds = time.monotonic() - started
        if len(samples) < 2:
            sys.exit(f"{len(samples)} samples are too few; the end of the daemon's log:\n{end_of(log)}")
    print(f"{options.dates} dates in {seconds:.0f} s")
    return judged(samples, options)


if __name__ == "__main__":
    sys.exit(main())

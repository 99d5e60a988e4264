"""Measure an idle AutoFlow, with a tick a minute and nothing due: ``python -m benchmarks.idle [--minutes 3]``.

Memory and CPU time are those of the daemon and of all processes below it. RSS counts shared memory for each process,
PSS divides it among them. The fork server stays for a while after the last run, so there are two tables: one until it
has ended, and one for `--minutes` without it. The goals are for the second.
"""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from autoflow.kernels.fork_server import IDLE_SECONDS
from benchmarks.daemon import children_by_kind, end_of, environment, kind_of, running_daemon, write_inputs
from benchmarks.goals import Goal, add_options, judge
from examples.flowapi import ExampleFlowApi

MEMORY_GOAL = 300.0
"""MB (PSS) that all processes together may use."""

CPU_GOAL = 1.0
"""Percent of a core that all processes together may use."""

START_SECONDS = 120.0
"""How long the daemon may take to write its first notebook."""

SETTLE_SECONDS = 5.0
"""How long there may be work to do after a run or the end of a process."""

WITH_KERNEL_SERVER = 0.5 * IDLE_SECONDS
"""Seconds during which the fork server is still running."""

GONE_SECONDS = 90.0
"""How long it may take to end after that."""


@dataclass(frozen=True)
class Usage:
    """RSS and PSS in MB, and CPU seconds so far or, in a table, percent of a core."""

    rss: float = 0
    pss: float = 0
    cpu: float = 0


@contextmanager
def idle_daemon(flowapi: ExampleFlowApi, folder: Path) -> Iterator[psutil.Process]:
    """Run AutoFlow with one date due, and yield it once that is done."""
    inputs, outputs, log = folder / "inputs", folder / "outputs", folder / "log"
    inputs.mkdir()
    write_inputs(inputs)
    workflows = inputs / "workflows.yml"
    often = workflows.read_text().replace("schedule: null", "schedule: '* * * * *'")
    workflows.write_text(often.replace("workflow_name: trivial", "workflow_name: trivial, earliest_date: 2016-01-12"))
    with running_daemon(environment(inputs, outputs, flowapi), log) as daemon:
        deadline = time.monotonic() + START_SECONDS
        while not list(outputs.glob("notebooks/*.ipynb")):
            if daemon.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"no notebook was run in {START_SECONDS:g} s; the end of its log:\n{end_of(log)}")
            time.sleep(0.5)
        try:
            yield psutil.Process(daemon.pid)
        finally:
            if daemon.poll() is not None:
                print(f"the daemon has exited; the end of its log:\n{end_of(log)}", file=sys.stderr)


def sample(daemon: psutil.Process) -> dict[str, Usage]:
    """Return the usage of each process, by name; the daemon's CPU time includes its children that have ended."""
    found = {}
    for process in (daemon, *daemon.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            memory, times = process.memory_full_info(), process.cpu_times()
            name = "daemon" if process == daemon else f"{kind_of(process)} {process.pid}"
            ended = times.children_user + times.children_system
            found[name] = Usage(memory.rss / 1e6, memory.pss / 1e6, times.user + times.system + ended)
    return found


def watch(daemon: psutil.Process, seconds: float) -> dict[str, Usage]:
    """Return the memory of each process after a number of seconds, and its percentage of a core during them."""
    before, started = sample(daemon), time.monotonic()
    time.sleep(seconds)
    after, passed = sample(daemon), time.monotonic() - started
    return {
        name: Usage(usage.rss, usage.pss, 100 * (usage.cpu - before.get(name, Usage()).cpu) / passed)
        for name, usage in after.items()
    }


def has_kernel_server(daemon: psutil.Process) -> bool:
    """Return whether there is a fork server."""
    return any(kind == "kernel server" for kind, _ in children_by_kind(daemon))


def watch_both(daemon: psutil.Process, minutes: float) -> tuple[dict[str, Usage], dict[str, Usage]]:
    """Return the usage with the fork server, and without it."""
    time.sleep(SETTLE_SECONDS)
    just_after_a_run = watch(daemon, WITH_KERNEL_SERVER)
    deadline = time.monotonic() + GONE_SECONDS
    while has_kernel_server(daemon):
        if time.monotonic() > deadline:
            sys.exit(f"the kernel server was still there {GONE_SECONDS:g} s after it should have ended")
        time.sleep(1)
    time.sleep(SETTLE_SECONDS)
    return just_after_a_run, watch(daemon, 60 * minutes)


def print_table(title: str, usages: Mapping[str, Usage]) -> Usage:
    """Print a row for each process and one for their total; return the total."""
    sums = (sum(getattr(usage, figure) for usage in usages.values()) for figure in ("rss", "pss", "cpu"))
    total = Usage(*sums)
    print(f"\n{title:32}{'RSS MB':>8}{'PSS MB':>8}{'CPU %':>8}")
    for name, usage in {**usages, "all together": total}.items():
        print(f"  {name:30}{usage.rss:8.0f}{usage.pss:8.0f}{usage.cpu:8.1f}")
    return total


def main() -> int:
    """Print the tables and the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3, help="how long to measure without fork server (default: 3)")
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExampleFlowApi() as flowapi, idle_daemon(flowapi, Path(folder)) as it:
        try:
            just_after_a_run, idle = watch_both(it, options.minutes)
        except psutil.NoSuchProcess:
            return 1
    print_table(f"up to {IDLE_SECONDS:g} s after a run", just_after_a_run)
    total = print_table("idle", idle)
    goals = [
        Goal("idle: memory (PSS)", total.pss, MEMORY_GOAL, unit="MB"),
        Goal("idle: CPU", total.cpu, CPU_GOAL, unit="%"),
    ]
    return judge(goals, check=options.check, figures=options.figures)


if __name__ == "__main__":
    sys.exit(main())

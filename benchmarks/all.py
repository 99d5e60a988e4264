"""Run all benchmarks with goals, one after the other, and print one table: ``python -m benchmarks.all``.

It takes about 25 minutes on a machine that does nothing else. The last line is a row for `history.md`.
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from benchmarks.daemon import ROOT
from benchmarks.goals import HEAD, Goal, recorded

BENCHMARKS: Mapping[str, Sequence[str]] = {
    "parse": (),
    "report": (),
    "notebooks": ("--rounds", "7", "--tail", "0"),
    "startup": (),
    "overhead": (),
    "idle": (),
    "tick": (),
    "page": (),
    "backfill": (),
    "cluster": (),
}
"""The options of each, so that all together take 45 minutes at most."""

LONGEST = 1800.0
"""Seconds that a benchmark may take."""


def run(name: str, folder: Path) -> list[Goal] | None:
    """Run a benchmark, whose output goes to our own; return its goals, or None if it failed."""
    figures = folder / f"{name}.json"
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{name}", *BENCHMARKS[name], "--figures", str(figures)]
    started = time.monotonic()
    print(f"\n=== {name} (load average {os.getloadavg()[0]:.1f})", flush=True)
    with (folder / f"{name}.log").open("w+") as log:
        try:
            code = subprocess.run(command, cwd=ROOT, stderr=log, check=False, timeout=LONGEST).returncode
        except subprocess.TimeoutExpired:
            code = 1
        log.seek(0)
        errors = log.read()
    print(f"=== {name}: {time.monotonic() - started:.0f} s", flush=True)
    if code or not figures.exists():
        print(f"{name} failed:\n{errors[-5000:]}", file=sys.stderr, flush=True)
        return None
    return recorded(figures)


def row(goals: Sequence[Goal]) -> str:
    """Return the row for the history: date, commit, machine, and the figures in the order of the table."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {sys.version.split()[0]}"
    figures = "; ".join(f"{goal.name} {goal.figure:.3g} {goal.unit}".rstrip() for goal in goals)
    return f"| {datetime.datetime.now(datetime.UTC):%Y-%m-%d} | {commit.stdout.strip()} | {machine} | {figures} |"


def main() -> int:
    """Run the benchmarks; the exit code is 1 if one failed, whether goals are reached or not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which ones to run: {', '.join(BENCHMARKS)} (default: all)"
    )
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = {name: run(name, Path(folder)) for name in names}
    goals = [goal for each in found.values() for goal in each or ()]
    print(HEAD)
    for goal in goals:
        print(goal)
    minutes = (time.monotonic() - started) / 60
    print(f"{sum(goal.is_reached for goal in goals)} of {len(goals)} goals reached, in {minutes:.0f} minutes")
    if failed := [name for name, each in found.items() if each is None]:
        print(f"failed: {', '.join(failed)}")
    print(f"\n{row(goals)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

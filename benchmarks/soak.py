"""Run thousands of notebooks, 8 at a time; none may fail or hang: ``python -m benchmarks.soak [--runs 5000]``.

Each is a trivial notebook, run as by the daemon, whose kernel must be forked and whose output must be right. Everything
logged or written to stderr, by kernels too, and each failure in full, goes to a file that is named at the end. A run
has a timeout of two minutes; if it exceeds that, the stacks of all threads go to the file, and the soak ends.
"""

import argparse
import collections
import faulthandler
import logging
import os
import queue
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from autoflow.errors import NotebookError
from autoflow.system.log import log_ends_of_threads, logger
from benchmarks.goals import Goal, judge
from benchmarks.notebooks import FORKED, LONGEST_RUN, TRIVIAL, WITNESS, LikeDaemon, printed, write_notebook

SIDE_BY_SIDE = 8

OVERDUE = LONGEST_RUN + 30
"""Seconds after which a run has exceeded its timeout."""

LAST_RESORT = OVERDUE + 30
"""Seconds after which this process is killed from outside Python if even its main thread hangs."""

EXPECTED = "3\n"
"""The first output of the notebook."""

GONE_SECONDS = 10.0
"""How long processes may take to end after the last run."""


@dataclass
class Soak:
    """Runs a notebook again and again, and counts the results."""

    daemon: LikeDaemon
    notebook: Path
    runs: int
    done: int = 0
    slowest: float = 0.0
    hung: int = 0
    unforked: int = 0
    failures: collections.Counter[str] = field(default_factory=collections.Counter)
    """The number of failed runs, by cause."""

    def __post_init__(self) -> None:
        """Queue all runs."""
        self._waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(self.runs):
            self._waiting.put(number)
        self._lock = threading.Lock()
        self._under_way: dict[int, float] = {}

    def run(self) -> None:
        """Run all, several at a time; return when they are done, or when one hangs for good."""
        threads = [threading.Thread(target=self._work, args=(place,), daemon=True) for place in range(SIDE_BY_SIDE)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            faulthandler.dump_traceback_later(LAST_RESORT, exit=True)
            time.sleep(0.2)
            if overdue := self._overdue():
                print(f"runs that hang: {overdue}; all stacks:", file=sys.stderr, flush=True)
                faulthandler.dump_traceback(all_threads=True)
                self.hung += len(overdue)
                break
        faulthandler.cancel_dump_traceback_later()

    def _overdue(self) -> list[int]:
        with self._lock:
            now = time.monotonic()
            return [number for number, started in self._under_way.items() if now - started > OVERDUE]

    def _work(self, place: int) -> None:
        while True:
            try:
                number = self._waiting.get_nowait()
            except queue.Empty:
                return
            self._run(number, place)

    def _run(self, number: int, place: int) -> None:
        name, started = f"executed-{place}", time.monotonic()
        with self._lock:
            self._under_way[number] = started
        failure = self._failure(number, name)
        said = printed(self.daemon.executed(name))
        with self._lock:
            del self._under_way[number]
            self.done += 1
            self.slowest = max(self.slowest, time.monotonic() - started)
            if failure == "Timeout":
                self.hung += 1
            elif failure:
                self.failures[failure] += 1
            elif not said.startswith(EXPECTED):
                self.failures["wrong output"] += 1
                print(f"run {number} printed {said!r}", file=sys.stderr)
            elif FORKED not in said:
                self.unforked += 1
                print(f"run {number}: its kernel was not forked", file=sys.stderr)

    def _failure(self, number: int, name: str) -> str:
        """Run the notebook once; if it fails, log the failure and return its class."""
        try:
            self.daemon.executed(name).unlink(missing_ok=True)
            self.daemon.run(self.notebook, name)
        except Exception as error:  # noqa: BLE001 - any failure is counted, and the other runs continue
            print(f"run {number} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            return error.error_class if isinstance(error, NotebookError) else type(error).__name__
        return ""


def write_everything_to(log: IO[bytes]) -> None:
    """Redirect stderr of this process and its children, and all logging, to `log`."""
    os.dup2(log.fileno(), sys.stderr.fileno())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # What kernels print outside of cells is logged at this level.
    logger.setLevel(logging.DEBUG)
    logging.captureWarnings(capture=True)
    log_ends_of_threads()
    faulthandler.enable()


def left_over(this: psutil.Process, files: int) -> tuple[int, int]:
    """Return the number of open files and of processes left after a wait, without the fork server."""
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        left = this.num_fds() - files, len(this.children(recursive=True)) - 1
        if max(left) <= 0 or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def judged(soak: Soak, files: int, processes: int) -> int:
    """Print the goals of a soak; return 1 if one is missed."""
    for kind, count in soak.failures.most_common():
        print(f"  failed with {kind}: {count}")
    counts = {
        "not run": soak.runs - soak.done,
        "failed": soak.failures.total(),
        "hung": soak.hung,
        "kernels not forked": soak.unforked,
        "files left open": files,
        "processes left": processes,
    }
    return judge([Goal(name, count, 0, unit="") for name, count in counts.items()], check=True)


def main() -> int:
    """Run the notebooks; return 1 if there is any problem."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5000, help="how many notebooks (default: 5000)")
    parser.add_argument("--log", type=Path, help="file for stderr and the log (default: a new one)")
    options = parser.parse_args()
    path = options.log or Path(tempfile.mkstemp(prefix="autoflow-soak-", suffix=".log")[1])
    print(f"stderr and the log go to {path}", flush=True)
    os.environ.pop("MPLBACKEND", None)
    with (
        path.open("wb", buffering=0) as log,
        tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder,
    ):
        write_everything_to(log)
        first, *others = TRIVIAL
        write_notebook(Path(folder) / "soak.ipynb", [WITNESS[0] + first, *others, WITNESS[1]])
        with LikeDaemon.ready(Path(folder)) as daemon:
            daemon.warm_up()
            this, started = psutil.Process(), time.monotonic()
            files = this.num_fds()
            soak = Soak(daemon, Path(folder) / "soak.ipynb", options.runs)
            soak.run()
            seconds = time.monotonic() - started
            left = left_over(this, files)
    print(f"{soak.done} notebooks, {SIDE_BY_SIDE} side by side, in {seconds:.0f} s; slowest {soak.slowest:.1f} s")
    lines = path.read_text(errors="replace").count("\n")
    print(f"{path} {f'has {lines} lines' if lines else 'is empty'}")
    return judged(soak, *left)


if __name__ == "__main__":
    sys.exit(main())

"""Measure a backfill with AutoFlow against a loop over the dates: ``python -m benchmarks.backfill [--dates N]``.

Each date has two typical notebooks, the second of which reads the data glued by the first, and a PDF report of the
second. The loop is what an analyst would write without AutoFlow: papermill, then nbconvert and the asciidoctor-pdf
command, whose reports contain less (see `report.py`), for one date at a time, and for two in threads. AutoFlow runs
two dates at a time. Its daemon is timed from start to exit, including the start of a Prefect server and the creation of
its database. The ways take turns in a random order; 40 dates take about six minutes for all of them.

CPU time is that of all processes. The system adds the time of forked kernels to no parent, because none waits for
them. So it is sampled 200 times a second, and misses what they use after the last sample.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import nbformat
import papermill

from autoflow.model.store import RunStore
from autoflow.page.latest_files import FOLDER_NAME
from autoflow.runs.records import utc_now
from benchmarks.chaos import FIRST_DATE
from benchmarks.daemon import ROOT, end_of, environment
from benchmarks.goals import Goal, add_options, judge
from benchmarks.notebooks import TYPICAL
from benchmarks.report import plain
from examples.flowapi import ExampleFlowApi

TIMES_LOOP, TIMES_LOOP_IN_THREADS = 8.0, 5.0
"""How many times as long as AutoFlow the loop must take, alone and in two threads."""

AT_ONCE = 2
"""How many dates AutoFlow, and the loop in threads, run at the same time; the goals are for two cores."""

START_SECONDS = 120.0
LONGEST_DATE = 60.0
"""Seconds that a date may take, on average, before the benchmark gives up."""

LOOK_SECONDS = 0.005
"""How often the CPU time of forked kernels is sampled."""

SEARCH_SECONDS = 0.2
"""How often to look for the process that forks them."""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Seconds of a backfill; `start` is the time until its first run began, if known."""

    wall: float
    cpu: float
    start: float | None = None


def write_inputs(inputs: Path) -> None:
    """Write two notebooks and their workflow."""
    read = "print(sb.read_notebook(flows).scraps['highest'].data)"
    _write_notebook(inputs / "flows.ipynb", "reference_date = ''", TYPICAL)
    _write_notebook(inputs / "report.ipynb", "reference_date = ''\nflows = ''", (*TYPICAL, read))
    date = {"reference_date": "reference_date"}
    flows = {"filename": "flows.ipynb", "parameters": date}
    report = {"filename": "report.ipynb", "parameters": {**date, "flows": "flows"}, "output": {"format": "pdf"}}
    document = {
        "workflows": [{"name": "backfill", "notebooks": {"flows": flows, "report": report}}],
        "available_dates_sensor": {"schedule": None, "workflows": [{"workflow_name": "backfill"}]},
    }
    # JSON is YAML.
    (inputs / "workflows.yml").write_text(json.dumps(document))


def _write_notebook(path: Path, parameters: str, cells: Sequence[str]) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells = [
        nbformat.v4.new_markdown_cell(f"# {path.stem.title()}"),
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        *(nbformat.v4.new_code_cell(cell) for cell in cells),
    ]
    nbformat.write(notebook, path)


def run_loop(inputs: Path, outputs: Path, *, dates: int, threads: int) -> None:
    """Do the same without AutoFlow."""
    days = [(FIRST_DATE + timedelta(days=number)).isoformat() for number in range(dates)]
    run = partial(_run_date, inputs, outputs)
    with ThreadPoolExecutor(threads) as pool:
        list((pool.map if threads > 1 else map)(run, days))


def _run_date(inputs: Path, outputs: Path, day: str) -> None:
    # A folder for each date: the figures of all reports have the same names.
    folder = outputs / day
    folder.mkdir()
    flows, report = folder / "flows.ipynb", folder / "report.ipynb"
    for path, parameters in ((flows, {}), (report, {"flows": str(flows)})):
        values = {"reference_date": day, **parameters}
        papermill.execute_notebook(str(inputs / path.name), str(path), parameters=values, progress_bar=False)
    plain(report, folder / "report.pdf")


class ForkedKernels:
    """Sums the CPU time of the kernels that a daemon has forked, and of their guards."""

    def __init__(self, daemon: int) -> None:
        self._daemon = daemon
        self._server: int | None = None
        self._next_search = 0.0
        self._seconds: dict[int, float] = {}

    @property
    def cpu(self) -> float:
        """The CPU time sampled so far, in seconds."""
        return sum(self._seconds.values())

    def look(self) -> None:
        """Sample the CPU time of the current kernels."""
        if time.monotonic() > self._next_search:
            self._next_search = time.monotonic() + SEARCH_SECONDS
            # Each time, because another one may have replaced it.
            self._server = _kernel_server(self._daemon)
        for guard in _children(self._server) if self._server else ():
            # The guard first: once it has waited for its kernel, its time includes the kernel's.
            seconds = _cpu_seconds(guard) + sum(_cpu_seconds(kernel) for kernel in _children(guard))
            self._seconds[guard] = max(seconds, self._seconds.get(guard, 0.0))


def _kernel_server(daemon: int) -> int | None:
    """Return the daemon's child that forks kernels, found by the command lines of its children."""
    for child in _children_of_threads(daemon):
        with contextlib.suppress(OSError):
            if b"warm_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
    return None


def _children_of_threads(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        return [int(child) for text in texts for child in text.split()]
    return []


def _children(pid: int) -> list[int]:
    """Return the children of a single-threaded process."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of the children it has waited for; 0 if it is gone."""
    with contextlib.suppress(OSError):
        # PID (NAME) STATE PPID ...: the name can contain anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / TICKS_PER_SECOND
    return 0.0


def measure(command: Sequence[str], environ: Mapping[str, str], log: Path, *, longest: float) -> Cost:
    """Run `command` for at most `longest` seconds; return the time of it and of all processes it started.

    What it says goes to `log`.
    """
    before, started = _waited_for(), time.perf_counter()
    with log.open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=said, stderr=said, start_new_session=True)
    forked = ForkedKernels(process.pid)
    try:
        while process.poll() is None and time.perf_counter() - started < longest:
            forked.look()
            time.sleep(LOOK_SECONDS)
    finally:
        is_hung = process.poll() is None
        if is_hung:
            # With all its processes: otherwise, a loop's kernels would continue.
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    wall = time.perf_counter() - started
    if status:
        end = f"was killed after {longest:.0f} s" if is_hung else f"ended with status {status}"
        sys.exit(f"{' '.join(command)} {end}:\n{end_of(log)}")
    return Cost(wall, _waited_for() - before + forked.cpu)


def _waited_for() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def check(way: str, outputs: Path, dates: int) -> None:
    """Raise unless there are as many notebooks and reports as expected."""
    files = [path for path in outputs.rglob("*.*") if FOLDER_NAME not in path.parts and path.stat().st_size]
    made = Counter(path.suffix for path in files)
    if (made[".ipynb"], made[".pdf"]) != (2 * dates, dates):
        sys.exit(f"{way} made {made['.ipynb']} notebooks and {made['.pdf']} reports of {dates} dates")


def run_way(way: str, arguments: Sequence[str], folder: Path, dates: int) -> Cost:
    """Run the backfill in an empty folder."""
    inputs, outputs = folder / "inputs", folder / "outputs"
    inputs.mkdir(parents=True)
    outputs.mkdir()
    write_inputs(inputs)
    days = [FIRST_DATE + timedelta(days=number) for number in range(dates)]
    with ExampleFlowApi(dates=days, subscribers=50) as flowapi:
        environ = environment(inputs, outputs, flowapi) | {"AUTOFLOW_MAX_PARALLEL_RUNS": str(AT_ONCE)}
        started, longest = utc_now(), START_SECONDS + LONGEST_DATE * dates
        cost = measure([sys.executable, "-m", *arguments], environ, folder / "log", longest=longest)
    check(way, outputs, dates)
    if way == "AutoFlow":
        with contextlib.closing(RunStore(f"sqlite:///{outputs / 'autoflow.db'}")) as store:
            first = min(run.started_at for run in store.runs())
        return replace(cost, start=(first - started).total_seconds())
    return cost


def run_all(rounds: int, dates: int) -> dict[str, list[Cost]]:
    """Return the times of each way in each round."""
    ways = {
        "AutoFlow": ["autoflow"],
        "loop": ["benchmarks.backfill", "--loop", "1"],
        "loop, 2 threads": ["benchmarks.backfill", "--loop", str(AT_ONCE)],
    }
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in random.sample(list(ways), len(ways)):
            with tempfile.TemporaryDirectory(prefix="autoflow-backfill-") as folder:
                arguments = ways[way] if way == "AutoFlow" else [*ways[way], folder, "--dates", str(dates)]
                costs[way].append(run_way(way, arguments, Path(folder), dates))
            print(f"{way}: {costs[way][-1].wall:.0f} s", file=sys.stderr, flush=True)
    return costs


def median_of(costs: Sequence[Cost]) -> Cost:
    """Return the median of each figure."""
    starts = [cost.start for cost in costs if cost.start is not None]
    wall, cpu = (statistics.median(figures) for figures in zip(*((cost.wall, cost.cpu) for cost in costs), strict=True))
    return Cost(wall, cpu, statistics.median(starts) if starts else None)


def print_table(costs: Mapping[str, Sequence[Cost]], dates: int) -> list[Goal]:
    """Print the medians and their ratios to AutoFlow's; return the goals."""
    medians = {way: median_of(each) for way, each in costs.items()}
    own, rounds = medians["AutoFlow"], len(costs["AutoFlow"])
    print(f"\n{dates} dates, {f'medians of {rounds} rounds' if rounds > 1 else '1 round'}")
    heads = ("wall s", "start s", "CPU s", "s per date", "x AutoFlow", "x, CPU")
    print(f"{'':18}" + "".join(f"{head:>12}" for head in heads))
    for way, cost in medians.items():
        start = "" if cost.start is None else f"{cost.start:.1f}"
        per_date, wall, cpu = cost.wall / dates, cost.wall / own.wall, cost.cpu / own.cpu
        print(f"{way:18}{cost.wall:12.1f}{start:>12}{cost.cpu:12.1f}{per_date:12.2f}{wall:12.1f}{cpu:12.1f}")
    limits = {"loop": TIMES_LOOP, "loop, 2 threads": TIMES_LOOP_IN_THREADS}
    return [
        Goal(f"backfill: {way} / AutoFlow", medians[way].wall / own.wall, limit, at_least=True)
        for way, limit in limits.items()
    ]


def main() -> int:
    """Measure and print; in a measured process, run the loop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dates", type=int, default=40, help="how many dates the backfill has (default: 40)")
    parser.add_argument(
        "--rounds", type=int, default=1, help="how often each way runs (default: 1; use 7 for reliable medians)"
    )
    parser.add_argument("--loop", nargs=2, metavar=("THREADS", "FOLDER"), help=argparse.SUPPRESS)
    add_options(parser)
    options = parser.parse_args()
    if options.loop:
        threads, folder = int(options.loop[0]), Path(options.loop[1])
        run_loop(folder / "inputs", folder / "outputs", dates=options.dates, threads=threads)
        return 0
    return judge(
        print_table(run_all(options.rounds, options.dates), options.dates), check=options.check, figures=options.figures
    )


if __name__ == "__main__":
    sys.exit(main())

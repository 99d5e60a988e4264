"""What a backfill takes, AutoFlow's against a loop over the dates: ``python -m benchmarks.backfill [--dates N]``.

Each date has two typical notebooks, of which the second reads what the first glued, and a PDF report of the second.
The loop is what somebody would write without AutoFlow: papermill, then nbconvert and the asciidoctor-pdf command, whose
reports hold less (see `report.py`); one date after the other, and two at a time in threads. AutoFlow's daemon is timed
from its start to its end: its own start, that of a Prefect server, and the making of its database included. The ways
take turns in a random order, 40 dates of all of them take about six minutes.

CPU time is that of all processes. The kernels that AutoFlow forks are waited for by nobody, so the system adds their
time to no parent's: it is looked at 200 times a second, and what they use after the last look is missing.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import nbformat
import papermill
import psutil

from benchmarks.chaos import FIRST_DATE, ROOT
from benchmarks.memory import environment
from benchmarks.notebooks import TYPICAL
from benchmarks.report import plain
from examples.flowapi import ExampleFlowApi

LOOK_SECONDS = 0.005
"""How often the CPU time of forked kernels is looked at."""

SEARCH_SECONDS = 0.2
"""How often the process that forks them is looked for until it is there."""

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What a backfill took, in seconds."""

    wall: float
    cpu: float


def write_inputs(inputs: Path) -> None:
    """Write two notebooks and the workflow of both."""
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
    """Do what AutoFlow does, without AutoFlow."""
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
    """Adds up the CPU time of the kernels that a daemon has forked, and of their guards."""

    def __init__(self, daemon: int) -> None:
        self._daemon = daemon
        self._server: int | None = None
        self._next_search = 0.0
        self._seconds: dict[int, float] = {}

    @property
    def cpu(self) -> float:
        """The CPU time that has been seen, in seconds."""
        return sum(self._seconds.values())

    def look(self) -> None:
        """See how much CPU time the kernels that are there have used."""
        if self._server is None and time.monotonic() > self._next_search:
            self._next_search = time.monotonic() + SEARCH_SECONDS
            self._server = _kernel_server(self._daemon)
        for guard in _children(self._server) if self._server else ():
            # The guard first: once it has waited for its kernel, it has the kernel's time as well.
            seconds = _cpu_seconds(guard) + sum(_cpu_seconds(kernel) for kernel in _children(guard))
            self._seconds[guard] = max(seconds, self._seconds.get(guard, 0.0))


def _kernel_server(daemon: int) -> int | None:
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(daemon).children()
        return next((int(child.pid) for child in children if "kernel_server" in " ".join(child.cmdline())), None)
    return None


def _children(pid: int) -> list[int]:
    """Return the children of a process that has one thread."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of all that it has waited for; 0 if it is gone."""
    with contextlib.suppress(OSError):
        # PID (NAME) STATE PPID ...: the name may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / TICKS_PER_SECOND
    return 0.0


def measure(command: Sequence[str], environ: Mapping[str, str], log: Path) -> Cost:
    """Run `command` to its end; return what it took with all that it started. What it says goes to `log`."""
    before, started = _waited_for(), time.perf_counter()
    with log.open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=said, stderr=said)
    forked = ForkedKernels(process.pid)
    try:
        while process.poll() is None:
            forked.look()
            time.sleep(LOOK_SECONDS)
    finally:
        process.kill()
        status = process.wait()
    wall = time.perf_counter() - started
    if status:
        sys.exit(f"{' '.join(command)} ended with status {status}:\n{log.read_text()[-2000:]}")
    return Cost(wall, _waited_for() - before + forked.cpu)


def _waited_for() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def check(way: str, outputs: Path, dates: int) -> None:
    """Fail unless there are as many notebooks and reports as asked for."""
    made = Counter(path.suffix for path in outputs.rglob("*.*") if path.stat().st_size)
    if (made[".ipynb"], made[".pdf"]) != (2 * dates, dates):
        sys.exit(f"{way} made {made['.ipynb']} notebooks and {made['.pdf']} reports of {dates} dates")


def run_way(way: str, arguments: Sequence[str], folder: Path, dates: int) -> Cost:
    """Do the backfill in an empty folder."""
    inputs, outputs = folder / "inputs", folder / "outputs"
    inputs.mkdir(parents=True)
    outputs.mkdir()
    write_inputs(inputs)
    days = [FIRST_DATE + timedelta(days=number) for number in range(dates)]
    with ExampleFlowApi(dates=days, subscribers=50) as flowapi:
        environ = environment(inputs, outputs, flowapi)
        cost = measure([sys.executable, "-m", *arguments], environ, folder / "log")
    check(way, outputs, dates)
    return cost


def run_all(rounds: int, dates: int) -> dict[str, list[Cost]]:
    """Return what each way took in each round."""
    ways = {
        "AutoFlow": ["autoflow"],
        "loop": ["benchmarks.backfill", "--loop", "1"],
        "loop, 2 threads": ["benchmarks.backfill", "--loop", "2"],
    }
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in random.sample(list(ways), len(ways)):
            with tempfile.TemporaryDirectory(prefix="autoflow-backfill-") as folder:
                arguments = ways[way] if way == "AutoFlow" else [*ways[way], folder, "--dates", str(dates)]
                costs[way].append(run_way(way, arguments, Path(folder), dates))
            print(f"{way}: {costs[way][-1].wall:.0f} s", file=sys.stderr, flush=True)
    return costs


def print_table(costs: Mapping[str, Sequence[Cost]], dates: int) -> None:
    """Print the medians, and how many times as much as AutoFlow's they are."""
    medians = {
        way: Cost(statistics.median(cost.wall for cost in each), statistics.median(cost.cpu for cost in each))
        for way, each in costs.items()
    }
    own = medians["AutoFlow"]
    print(f"{'':18}{'wall s':>8}{'CPU s':>8}{'s per date':>12}{'x AutoFlow':>12}{'x AutoFlow, CPU':>17}")
    for way, cost in medians.items():
        per_date, wall, cpu = cost.wall / dates, cost.wall / own.wall, cost.cpu / own.cpu
        print(f"{way:18}{cost.wall:8.1f}{cost.cpu:8.1f}{per_date:12.2f}{wall:12.1f}{cpu:17.1f}")


def main() -> None:
    """Measure and print; in a process that is measured, be the loop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dates", type=int, default=40, help="how many dates the backfill has (default: 40)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each way does it (default: 1)")
    parser.add_argument("--loop", nargs=2, metavar=("THREADS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        threads, folder = int(options.loop[0]), Path(options.loop[1])
        run_loop(folder / "inputs", folder / "outputs", dates=options.dates, threads=threads)
    else:
        print_table(run_all(options.rounds, options.dates), options.dates)


if __name__ == "__main__":
    main()

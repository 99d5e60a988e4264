"""Time how long people wait for a start: ``python -m benchmarks.startup [--rounds N]``.

``autoflow --help`` and a Python that does nothing take turns. Daemons are started with an existing database of their
Prefect server, and without one; the first tick is when FlowAPI is asked for the first time. ``autoflow run`` is timed
until the first cell of its notebook, without a daemon.
"""

import argparse
import math
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from autoflow.orchestration.server_process import is_ready
from benchmarks.daemon import ROOT, clean_environ, end_of, environment, running_daemon, write_inputs
from benchmarks.goals import Goal, add_options, judge
from benchmarks.notebooks import write_notebook
from examples.flowapi import ExampleFlowApi

HELP_GOAL = 0.3
"""Seconds that ``autoflow --help`` may take in addition to Python's own start."""

TICK_GOAL = 1.5
"""Seconds from a daemon's start to its first tick, which does not wait for Prefect."""

CELL_GOAL = 2.0
"""Seconds from the start of ``autoflow run`` or ``autoflow try`` to the first cell."""

FIRST_CELL = "import pathlib, time; pathlib.Path({file!r}).write_text(str(time.time()))"

LONGEST_HELP = 60.0
LONGEST_START = 240.0
"""Seconds."""

LOOK_SECONDS = 0.005
"""How often to check whether FlowAPI was asked."""

COMMANDS = {"python -c pass": ["-c", "pass"], "autoflow --help": ["-m", "autoflow", "--help"]}
DATABASES = {"existing database": True, "no database": False}


@dataclass(frozen=True)
class Start:
    """Seconds from a daemon's start until its Prefect server answered, and until its first tick."""

    answer: float
    tick: float


def seconds_of(arguments: Sequence[str]) -> float:
    """Return the seconds that Python takes with `arguments`."""
    started = time.perf_counter()
    command = [sys.executable, *arguments]
    subprocess.run(command, cwd=ROOT, env=clean_environ(), check=True, capture_output=True, timeout=LONGEST_HELP)
    return time.perf_counter() - started


def measure_help(rounds: int) -> dict[str, list[float]]:
    """Let the commands take turns; return the seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name in random.sample(list(COMMANDS), len(COMMANDS)):
            seconds[name].append(seconds_of(COMMANDS[name]))
    return seconds


def print_help(seconds: dict[str, list[float]]) -> list[Goal]:
    """Print the medians, and return their goals."""
    python, autoflow = (statistics.median(values) for values in seconds.values())
    print(f"{'':32}{'median s':>10}{'max s':>8}{'ratio':>8}{'more s':>8}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"  {name:30}{median:10.2f}{max(values):8.2f}{median / python:8.1f}{median - python:8.2f}", flush=True)
    return [Goal("autoflow --help: on top of Python's start", autoflow - python, HELP_GOAL, unit="s")]


def seconds_to_first_cell(folder: Path) -> float:
    """Return the seconds until `autoflow try` shows the output of a notebook's first cell, without settings."""
    notebook = folder / "first.ipynb"
    write_notebook(notebook, ["print('has run')"])
    started = time.perf_counter()
    command = [sys.executable, "-u", "-m", "autoflow", "try", str(notebook)]
    environ = clean_environ() | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout  # it is a pipe
        found = any(line.endswith("  has run\n") for line in process.stdout)
        seconds = time.perf_counter() - started
        process.communicate(timeout=LONGEST_HELP)
    if not found:
        sys.exit("'autoflow try' has not run the notebook")
    return seconds


def measure_first_cells(rounds: int, folder: Path) -> list[Goal]:
    """Print how long `autoflow try` takes to its first cell, and return the goal."""
    seconds = [seconds_to_first_cell(folder) for _ in range(rounds)]
    median = statistics.median(seconds)
    print(f"  {'autoflow try, first cell':30}{median:10.2f}{max(seconds):8.2f}")
    return [Goal("autoflow try: first cell", median, CELL_GOAL, unit="s")]


def prepare(folder: Path) -> None:
    """Write inputs with nothing due, and a schedule without ticks after the first one."""
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    write_inputs(inputs)
    workflows = inputs / "workflows.yml"
    rarely = workflows.read_text().replace("schedule: null", "schedule: '0 0 29 2 *'")
    workflows.write_text(rarely.replace("workflow_name: trivial", "workflow_name: trivial, earliest_date: 2099-01-01"))


def start(folder: Path, flowapi: ExampleFlowApi) -> Start:
    """Start a daemon in `folder`, and stop it after its first tick and its Prefect server's first answer."""
    environ = environment(folder / "inputs", folder / "outputs", flowapi)
    api_url = f"http://127.0.0.1:{environ['PREFECT_SERVER_API_PORT']}/api"
    asked = len(flowapi.requests)
    answers: list[float] = []
    started = time.perf_counter()
    with running_daemon(environ, folder / "log") as daemon:
        answering = threading.Thread(target=_wait_for_answer, args=(api_url, answers), daemon=True)
        answering.start()
        while len(flowapi.requests) == asked:
            if daemon.poll() is not None or time.perf_counter() - started > LONGEST_START:
                sys.exit(f"the daemon did not tick; the end of its log:\n{end_of(folder / 'log')}")
            time.sleep(LOOK_SECONDS)
        ticked = time.perf_counter()
        # By then, the server has its database.
        answering.join()
    return Start((answers[0] if answers else math.nan) - started, ticked - started)


def _wait_for_answer(api_url: str, answers: list[float]) -> None:
    deadline = time.monotonic() + LONGEST_START
    # A server that listens but does not answer yet keeps clients waiting.
    while time.monotonic() < deadline:
        if is_ready(api_url, timeout=LONGEST_START):
            answers.append(time.perf_counter())
            return
        time.sleep(0.02)


def measure_starts(rounds: int, folder: Path) -> dict[str, list[Start]]:
    """Let starts with and without a database take turns; return their times."""
    starts: dict[str, list[Start]] = {name: [] for name in DATABASES}
    with ExampleFlowApi(subscribers=50) as flowapi:
        kept = folder / "kept"
        prepare(kept)
        start(kept, flowapi)
        for number in range(rounds):
            for name in random.sample(list(DATABASES), len(DATABASES)):
                place = kept
                if not DATABASES[name]:
                    place = folder / f"new{number}"
                    prepare(place)
                starts[name].append(start(place, flowapi))
    return starts


def print_starts(starts: dict[str, list[Start]]) -> list[Goal]:
    """Print the medians, and return their goals."""
    print(f"\n{'median s, daemon':32}{'first tick':>12}{'max':>8}{'server answers':>16}")
    goals = []
    for name, each in starts.items():
        answer, tick = statistics.median(one.answer for one in each), statistics.median(one.tick for one in each)
        print(f"  {name:30}{tick:12.2f}{max(one.tick for one in each):8.2f}{answer:16.2f}")
        goals.append(Goal(f"{name}: first tick", tick, TICK_GOAL, unit="s"))
    return goals


def measure_runs(rounds: int, folder: Path) -> list[float]:
    """Return the seconds from the start of ``autoflow run`` to the first cell, without a daemon."""
    prepare(folder)
    began = folder / "began"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(FIRST_CELL.format(file=str(began)))])
    nbformat.write(notebook, folder / "inputs" / "trivial.ipynb")
    seconds = []
    with ExampleFlowApi(subscribers=50) as flowapi:
        environ = environment(folder / "inputs", folder / "outputs", flowapi)
        command = [sys.executable, "-m", "autoflow", "run", "trivial", "--date", "2016-01-05", "--force"]
        for _ in range(rounds):
            started = time.time()
            subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, timeout=LONGEST_START)
            seconds.append(float(began.read_text()) - started)
    return seconds


def print_runs(seconds: list[float]) -> list[Goal]:
    """Print the median, and return its goal."""
    median = statistics.median(seconds)
    print(f"\n{'median s, autoflow run':32}{'first cell':>12}{'max':>8}")
    print(f"  {'no daemon':30}{median:12.2f}{max(seconds):8.2f}")
    return [Goal("autoflow run: first cell", median, CELL_GOAL, unit="s")]


def main() -> int:
    """Print the tables and the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often each starts (default: 7)")
    add_options(parser)
    options = parser.parse_args()
    goals = print_help(measure_help(options.rounds))
    with tempfile.TemporaryDirectory() as folder:
        goals += measure_first_cells(options.rounds, Path(folder))
        goals += print_starts(measure_starts(options.rounds, Path(folder)))
        goals += print_runs(measure_runs(options.rounds, Path(folder, "run")))
    return judge(goals, check=options.check, figures=options.figures)


if __name__ == "__main__":
    sys.exit(main())

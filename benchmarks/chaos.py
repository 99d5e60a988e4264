"""Kill AutoFlow's processes at random while it works, and check the results: ``python -m benchmarks.chaos``.

Two daemons on one PostgreSQL (or one on SQLite) run two workflows for 60 dates. Every few seconds, SIGKILL hits a
random process of theirs: a daemon, a Prefect server, a kernel or any other. A daemon that is gone is started again.
The notebooks record when they are alive, which shows whether two attempts at a date overlap.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import nbformat
import sqlalchemy as sa

from autoflow.model.tables import runs_table
from autoflow.orchestration.prefect_api import free_port
from benchmarks.daemon import ROOT, clean_environ
from examples.flowapi import ExampleFlowApi
from tests.postgres import running_postgres

FIRST_DATE = date(2016, 1, 1)

LIVES = """
import os, pathlib, threading, time, uuid
attempt = uuid.uuid4().hex
diary = pathlib.Path(f"{workflow}_{reference_date}.lives")
def write(word):
    with diary.open("a") as file:
        file.write(f"{attempt} {time.time():.3f} {word}\\n")
write("begins")
for _ in range(10):
    time.sleep(0.1)
    write("lives")
write("ends")
"""
"""The code of each notebook: record ten times a second, for a second, that it is alive."""


@dataclass
class Figures:
    """The counts and problems of a benchmark run."""

    kills: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    problems: list[str] = field(default_factory=list)


def write_inputs(inputs: Path) -> None:
    """Write two workflows: one with a single notebook, and one with two, the second of which makes a report."""
    notebook = nbformat.v4.new_notebook()
    parameters = "reference_date = ''\nworkflow = 'single'\nabove = ''"
    notebook.cells = [
        nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(LIVES),
    ]
    nbformat.write(notebook, inputs / "lives.ipynb")
    trigger = {"retry_delay": 1, "max_attempts": 1000}
    lives = {"filename": "lives.ipynb", "parameters": {"reference_date": "reference_date", "workflow": "workflow"}}
    report = {"filename": "report.ipynb", "parameters": {"above": "lives"}, "output": {"format": "pdf"}}
    notebook.cells[1] = nbformat.v4.new_code_cell("print(above)")
    nbformat.write(notebook, inputs / "report.ipynb")
    document = {
        "workflows": [
            {"name": "single", "notebooks": {"lives": lives}},
            {"name": "double", "notebooks": {"lives": lives, "report": report}},
        ],
        "available_dates_sensor": {
            "schedule": "* * * * * */3",
            "workflows": [
                {"workflow_name": name, "parameters": {"workflow": name}, **trigger} for name in ("single", "double")
            ],
        },
    }
    # JSON is YAML.
    (inputs / "workflows.yml").write_text(json.dumps(document))


class Daemon:
    """An AutoFlow that is started again when it is gone."""

    def __init__(self, environ: Mapping[str, str], log: Path) -> None:
        self._environ = environ
        self._log = log
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the daemon and append to its log."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "autoflow"], cwd=ROOT, env=self._environ, stderr=log, start_new_session=True
            )
        return self.process


def processes(marker: str) -> dict[int, str]:
    """Return the processes with `marker` in their environment, and the names of their programs."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = kind((folder / "cmdline").read_bytes().decode().split("\0"))
    return found


def kind(command: list[str]) -> str:
    """Return a word for the program of a command line."""
    line = " ".join(command)
    words = {"prefect_server": "Prefect server", "ipykernel": "kernel", "-m autoflow ": "daemon"}
    words |= {"asciidoctor": "asciidoctor-pdf", "pandoc": "pandoc"}
    return next((word for part, word in words.items() if part in line + " "), Path(command[0]).name or "?")


@contextmanager
def daemons(count: int, environ: Mapping[str, str], folder: Path) -> Iterator[list[Daemon]]:
    """Run a number of daemons, and stop them at the end of the block."""
    running = []
    for number in range(count):
        own = {"PREFECT_HOME": str(folder / f"prefect{number}"), "PREFECT_SERVER_API_PORT": str(free_port())}
        running.append(Daemon({**environ, **own}, folder / f"log{number}"))
    try:
        yield running
    finally:
        for daemon in running:
            daemon.process.send_signal(signal.SIGTERM)
        for daemon in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.process.wait(15)
            daemon.process.kill()
            daemon.process.wait()


def kill_at_random(running: list[Daemon], marker: str, figures: Figures, options: argparse.Namespace) -> None:
    """Kill processes until there have been enough kills, then wait until all dates are done."""
    chance = random.Random(options.seed)
    deadline = time.monotonic() + options.minutes * 60
    next_kill = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.2)
        for daemon in running:
            if daemon.process.poll() is not None:
                daemon.start()
                figures.starts += 1
        killed = figures.kills.total()
        if killed < options.kills and time.monotonic() > next_kill:
            next_kill = time.monotonic() + chance.uniform(1, 2 * options.pause - 1)
            victims = processes(marker)
            pid = chance.choice(sorted(victims))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                figures.kills[victims[pid]] += 1
        if killed >= options.kills and successes(options.uri) == options.dates * 2:
            return
    figures.problems.append(f"not all dates were done after {options.minutes} minutes")


def successes(uri: str) -> int:
    """Return the number of recorded successes."""
    with engine(uri).connect() as connection:
        query = sa.select(sa.func.count()).where(runs_table.c.state == "succeeded")
        return connection.execute(query).scalar_one()


def engine(uri: str) -> sa.Engine:
    """Return an engine that keeps no connection open."""
    url = sa.make_url(uri)
    driver = "postgresql+psycopg" if url.drivername == "postgresql" else url.drivername
    return sa.create_engine(url.set(drivername=driver), poolclass=sa.NullPool)


def check_store(uri: str, dates: int, figures: Figures) -> Counter[str]:
    """Check that each workflow has one success for each date; count the attempts by their end."""
    with engine(uri).connect() as connection:
        query = sa.select(runs_table.c.workflow, runs_table.c.reference_date, runs_table.c.state)
        rows = connection.execute(query).all()
    done = Counter((workflow, day) for workflow, day, state in rows if state == "succeeded")
    for workflow in ("single", "double"):
        for number in range(dates):
            key = (workflow, FIRST_DATE + timedelta(days=number))
            if done[key] != 1:
                figures.problems.append(f"{key[0]} {key[1]} has {done[key]} successes")
    return Counter(state for _, _, state in rows)


def check_lives(inputs: Path, figures: Figures) -> tuple[int, int]:
    """Check that no two attempts at a date overlapped; return the number of attempts and of those cut short."""
    attempts = cut = 0
    for diary in inputs.glob("*.lives"):
        times: dict[str, list[float]] = defaultdict(list)
        ended = set()
        for line in diary.read_text().splitlines():
            attempt, moment, word = line.split()
            times[attempt].append(float(moment))
            if word == "ends":
                ended.add(attempt)
        attempts += len(times)
        cut += len(times) - len(ended)
        spans = sorted((min(moments), max(moments)) for moments in times.values())
        for (_, first_ends), (second_begins, _) in itertools.pairwise(spans):
            if second_begins <= first_ends:
                figures.problems.append(f"{diary.stem}: two attempts overlapped")
    return attempts, cut


def check_outputs(outputs: Path, figures: Figures) -> tuple[int, int]:
    """Check that every visible file is complete; return the number of notebooks and reports."""
    visible = [
        path for path in outputs.glob("*/*.*") if not path.name.startswith(".") and path.parent.name != "prefect"
    ]
    notebooks = [path for path in visible if path.suffix == ".ipynb"]
    reports = [path for path in visible if path.suffix == ".pdf"]
    for path in visible:
        if path.suffix == ".html" and not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
            figures.problems.append(f"{path.name} is not complete")
    for path in notebooks:
        try:
            nbformat.validate(nbformat.read(path, as_version=4))
        except Exception as error:  # noqa: BLE001 - it can be broken in any way
            figures.problems.append(f"{path.name} is not complete: {error}")
    for path in reports:
        if subprocess.run(["pdfinfo", str(path)], capture_output=True, check=False).returncode:
            figures.problems.append(f"{path.name} is not complete")
    return len(notebooks), len(reports)


def run(options: argparse.Namespace, folder: Path) -> Figures:
    """Run the daemons, kill processes, and check the results."""
    inputs, outputs = folder / "inputs", folder / "outputs"
    inputs.mkdir(parents=True)
    write_inputs(inputs)
    figures = Figures()
    days = [FIRST_DATE + timedelta(days=number) for number in range(options.dates)]
    with ExampleFlowApi(dates=days, subscribers=100) as flowapi:
        environ = {
            **clean_environ(),
            "AUTOFLOW_INPUTS_DIR": str(inputs),
            "AUTOFLOW_OUTPUTS_DIR": str(outputs),
            "AUTOFLOW_DB_URI": options.uri,
            "AUTOFLOW_HEARTBEAT_TIMEOUT": str(options.heartbeat),
            "AUTOFLOW_SHUTDOWN_GRACE": "1",
            "AUTOFLOW_MAX_RUNS_PER_TICK": "10",
            "FLOWAPI_URL": flowapi.url,
            "FLOWAPI_TOKEN": flowapi.token(),
        }
        outputs.mkdir()
        with daemons(options.daemons, environ, folder) as running:
            kill_at_random(running, str(outputs), figures, options)
    time.sleep(3)
    for pid, name in processes(str(outputs)).items():
        figures.problems.append(f"process {pid} is still running: {name}")
    states = check_store(options.uri, options.dates, figures)
    attempts, cut = check_lives(inputs, figures)
    notebooks, reports = check_outputs(outputs, figures)
    print(f"kills                 {figures.kills.total():>6}  {dict(figures.kills)}")
    print(f"daemon restarts       {figures.starts:>6}")
    print(f"attempts recorded     {states.total():>6}  {dict(states)}")
    print(f"notebook attempts     {attempts:>6}  of which cut short: {cut}")
    print(f"complete files        {notebooks + reports:>6}  {notebooks} notebooks, {reports} reports")
    return figures


def main() -> None:
    """Run with the options of the command line; exit with 1 if there is any problem."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--dates", type=int, default=60)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--pause", type=float, default=4, help="seconds between kills, on average")
    parser.add_argument(
        "--heartbeat", type=float, default=8, help="seconds without heartbeat after which a run counts as crashed"
    )
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="an empty folder in which to keep everything")
    options = parser.parse_args()
    options.daemons = 2 if options.database == "postgresql" else 1
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autoflow-chaos-")))
        if options.database == "postgresql":
            options.uri = stack.enter_context(running_postgres()).uri()
        else:
            options.uri = f"sqlite:///{folder / 'runs.db'}"
        print(f"{options.database}, {options.daemons} daemon(s), {options.dates} dates of 2 workflows", flush=True)
        figures = run(options, folder)
    print(f"minutes               {(time.monotonic() - started) / 60:>6.1f}")
    for problem in figures.problems:
        print(f"PROBLEM: {problem}")
    sys.exit(1 if figures.problems else 0)


if __name__ == "__main__":
    main()

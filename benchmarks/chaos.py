"""Kill AutoFlow's processes at random while it works, and check the results: ``python -m benchmarks.chaos``.

Two daemons on one PostgreSQL (or one on SQLite) run two workflows for 60 dates or more. Every few seconds, SIGKILL
hits one of their processes at random: a daemon, a Prefect server, a kernel or any other. A daemon that has died is
started again. Some kills are kept for conversions: while a report is converted, they hit a process that converts it or
a daemon. In between, daemons get SIGTERM, without a grace period, also during conversions: a run that is only stopped
must not fail.

The kernels log when each attempt is alive and when it ends. The verdict comes from that log, not from the run store:
each date is completed, no two attempts at a date are alive at the same time, and no date is executed again unless
something was killed or stopped after it.
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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from pathlib import Path

import nbformat
import psutil
import sqlalchemy as sa

from autoflow.model.tables import runs_table
from autoflow.orchestration.prefect_api import free_port
from benchmarks.daemon import ROOT, clean_environ
from examples.flowapi import ExampleFlowApi
from tests.postgres import running_postgres

FIRST_DATE = date(2016, 1, 1)

PATIENCE = 30.0
"""How long a kill that is kept for conversions waits for one, in seconds."""

STOP_EVERY = 5
"""Every so many strikes, one is a SIGTERM to a daemon."""

SLACK = 20.0
"""How long after a kill a run may fail because of it, in seconds: the machine may be busy."""

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
    in_conversions: int = 0
    stops: int = 0
    harm_at: list[float] = field(default_factory=list)
    """When something was killed or stopped, in seconds since the epoch."""
    kills_below_daemons_at: list[float] = field(default_factory=list)
    """When something other than a daemon was killed: that may fail a run."""
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
    report = {
        "filename": "report.ipynb",
        "parameters": {"above": "lives", "reference_date": "reference_date"},
        "output": {"format": ["pdf", "html"]},
    }
    notebook.cells[0].source = parameters.replace("single", "report")
    notebook.cells.append(nbformat.v4.new_code_cell("print(above)"))
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
    words |= {"asciidoctor": "asciidoctor-pdf", "pandoc": "pandoc", "reports/worker": "report worker"}
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


def converters(daemons: Iterable[int]) -> dict[int, str]:
    """Return the processes below `daemons` that convert a report just now, and the names of their programs.

    These are a pandoc, a worker, or a fork of a loaded asciidoctor. None of them has the environment of its daemon.
    """
    found = {}
    for daemon in daemons:
        with contextlib.suppress(psutil.Error):
            below = psutil.Process(daemon).children(recursive=True)
            names = {child.pid: _name(child) for child in below}
            for child in below:
                name = names[child.pid]
                is_fork = name == "asciidoctor-pdf" and names.get(child.ppid()) == name
                if is_fork or name in {"pandoc", "report worker"}:
                    found[child.pid] = name
    return found


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return kind(process.cmdline() or [""])
    return ""


@dataclass
class Killer:
    """Kills and stops processes with `marker` in their environment, as `options` say."""

    marker: str
    figures: Figures
    options: argparse.Namespace
    chance: random.Random
    next_at: float
    turn: int = 0

    def strike(self, now: float) -> None:
        """Kill or stop one process if it is time; if this is a turn for conversions, wait for one."""
        figures = self.figures
        if now < self.next_at or figures.kills.total() >= self.options.kills:
            return
        victims = processes(self.marker)
        daemons = [pid for pid, name in victims.items() if name == "daemon"]
        converting = converters(daemons)
        is_for_conversions = figures.in_conversions < self.options.conversions and self.turn % 2 == 0
        # Conversions can be rare; after a while, this turn is given up.
        if is_for_conversions and not converting and now < self.next_at + PATIENCE:
            return
        self.turn += 1
        self.next_at = now + self.chance.uniform(1, 2 * self.options.pause - 1)
        if self.turn % STOP_EVERY == 0 and daemons:
            self._send(self.chance.choice(daemons), signal.SIGTERM)
            figures.stops += 1
            return
        choice = [*converting, *daemons] if is_for_conversions and converting else sorted(victims)
        pid = self.chance.choice(choice)
        names = victims | converting
        if self._send(pid, signal.SIGKILL):
            figures.kills[names[pid]] += 1
            during = " during a conversion" if converting else ""
            print(f"  kill {figures.kills.total():>3}: {names[pid]}{during}", flush=True)
            figures.in_conversions += bool(converting)
            if names[pid] != "daemon":
                figures.kills_below_daemons_at.append(time.time())

    def _send(self, pid: int, signum: signal.Signals) -> bool:
        self.figures.harm_at.append(time.time())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
            return True
        return False


def add_dates(flowapi: ExampleFlowApi, figures: Figures, options: argparse.Namespace) -> None:
    """Add dates while there have not been enough kills and most dates are done: kills have to hit something."""
    if figures.kills.total() < options.kills and successes(options.uri) > options.dates * 2 - 20:
        for _ in range(10):
            flowapi.add_date(FIRST_DATE + timedelta(days=options.dates))
            options.dates += 1


def kill_at_random(
    running: list[Daemon], flowapi: ExampleFlowApi, marker: str, figures: Figures, options: argparse.Namespace
) -> None:
    """Kill processes until there have been enough kills, then wait until all dates are done."""
    started = time.monotonic()
    killer = Killer(marker, figures, options, random.Random(options.seed), next_at=started + 20)
    next_look = started + 30
    while time.monotonic() < started + options.minutes * 60:
        time.sleep(0.05)
        for daemon in running:
            if daemon.process.poll() is not None:
                daemon.start()
                figures.starts += 1
        killer.strike(time.monotonic())
        if time.monotonic() < next_look:
            continue
        next_look = time.monotonic() + 2
        add_dates(flowapi, figures, options)
        if figures.kills.total() >= options.kills and successes(options.uri) == options.dates * 2:
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


def check_failures(uri: str, figures: Figures) -> None:
    """Check that no run failed unless something below a daemon was killed just before."""
    columns = (runs_table.c.workflow, runs_table.c.reference_date, runs_table.c.finished_at, runs_table.c.error_message)
    with engine(uri).connect() as connection:
        rows = connection.execute(sa.select(*columns).where(runs_table.c.state == "failed")).all()
    for workflow, day, finished_at, message in rows:
        at = finished_at.replace(tzinfo=UTC).timestamp()
        if not any(killed <= at <= killed + SLACK for killed in figures.kills_below_daemons_at):
            figures.problems.append(f"{workflow} {day} failed although it was only stopped: {message}")


@dataclass(frozen=True)
class Attempt:
    """An attempt according to the log of its kernel: when it was alive, and whether it came to its end."""

    begins: float
    ends: float
    is_complete: bool


def read_diary(diary: Path) -> list[Attempt]:
    """Return the attempts that kernels have logged in a file, by their begin."""
    times: dict[str, list[float]] = defaultdict(list)
    ended = set()
    for line in diary.read_text().splitlines():
        attempt, moment, word = line.split()
        times[attempt].append(float(moment))
        if word == "ends":
            ended.add(attempt)
    attempts = [Attempt(min(moments), max(moments), attempt in ended) for attempt, moments in times.items()]
    return sorted(attempts, key=lambda attempt: attempt.begins)


def check_lives(inputs: Path, dates: int, figures: Figures) -> tuple[int, int, int]:
    """Check what the kernels logged; return the numbers of attempts, of those cut short, and of repeated ones."""
    counts = Counter[str]()
    for name in ("single", "double", "report"):
        for number in range(dates):
            diary = inputs / f"{name}_{FIRST_DATE + timedelta(days=number)}.lives"
            attempts = read_diary(diary) if diary.exists() else []
            counts["all"] += len(attempts)
            counts["cut"] += sum(not attempt.is_complete for attempt in attempts)
            if not any(attempt.is_complete for attempt in attempts):
                figures.problems.append(f"{diary.stem} was never completed")
            for first, second in itertools.pairwise(attempts):
                if second.begins <= first.ends:
                    figures.problems.append(f"{diary.stem}: two attempts were alive at the same time")
                if first.is_complete:
                    counts["repeated"] += 1
                    if not any(first.begins - SLACK <= at <= second.begins for at in figures.harm_at):
                        figures.problems.append(f"{diary.stem} was executed again without a reason")
    return counts["all"], counts["cut"], counts["repeated"]


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
            "AUTOFLOW_SHUTDOWN_GRACE": "0",
            "FLOWAPI_URL": flowapi.url,
            "FLOWAPI_TOKEN": flowapi.token(),
        }
        outputs.mkdir()
        with daemons(options.daemons, environ, folder) as running:
            kill_at_random(running, flowapi, str(outputs), figures, options)
    time.sleep(3)
    for pid, name in processes(str(outputs)).items():
        figures.problems.append(f"process {pid} is still running: {name}")
    states = check_store(options.uri, options.dates, figures)
    check_failures(options.uri, figures)
    attempts, cut, repeated = check_lives(inputs, options.dates, figures)
    notebooks, reports = check_outputs(outputs, figures)
    print(f"dates                 {options.dates:>6}  of 2 workflows, 3 notebooks")
    print(f"kills                 {figures.kills.total():>6}  {dict(figures.kills)}")
    print(f"during conversions    {figures.in_conversions:>6}")
    print(f"SIGTERM to daemons    {figures.stops:>6}")
    print(f"daemon restarts       {figures.starts:>6}")
    print(f"attempts recorded     {states.total():>6}  {dict(states)}")
    print(f"notebook attempts     {attempts:>6}  of which cut short: {cut}, executed again: {repeated}")
    print(f"complete files        {notebooks + reports:>6}  {notebooks} notebooks, {reports} reports")
    return figures


def main() -> None:
    """Run with the options of the command line; exit with 1 if there is any problem."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--dates", type=int, default=60)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--conversions", type=int, default=12, help="how many kills are kept for conversions")
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

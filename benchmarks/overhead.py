"""Measure what AutoFlow and Prefect add to an empty notebook: ``python -m benchmarks.overhead [--dates 80]``.

A daemon with one workflow of one notebook without cells works through a number of dates, one run at a time, then four.

The CPU time of a run is that of each process between the twentieth date and one near the end, divided by the number of
runs in between, so that no start counts. At both dates, the same number of runs is in progress. Kernels and their
guards would not be counted, because the fork server leaves it to the system to reap them. So each kernel records its
CPU time and its guard's at its end, through a preloaded module; what both use after that, under 20 ms, is missing. The
goal is for all but the kernel, including the guard and the work of the fork server.

The daemon contains both AutoFlow and Prefect's client. To tell them apart, the same runs are repeated in this process
without Prefect: claim, heartbeat, notebook, record and page as in the daemon. Their time is AutoFlow's; the rest of the
daemon's is that of Prefect's client, including the search for dates and cancelled runs. Now and then, processes of the
page convert executed notebooks to HTML; in a short measurement, it is chance whether one of these counts.

A run waits for Prefect from its claim until its notebook begins, and from the written notebook to the record. After
that it keeps its slot until the next claim, because Prefect must be informed of its end. Its wait is the sum of all
three; the lines without Prefect show AutoFlow's own part. The first runs also wait for imports, and are judged apart.
"""

import argparse
import contextlib
import faulthandler
import heapq
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import nbformat
import psutil

from autoflow.cluster.work import ThisMachine
from autoflow.kernels.fork_server import ForkServer
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.notebooks.executed import ExecutedNotebook
from autoflow.orchestration.prefect_api import free_port
from autoflow.page.writer import PageWriter
from autoflow.parser import read_workflows
from autoflow.runs.records import RunRecord, RunState
from autoflow.runs.run import EndedRun, Outcome, WorkflowRun
from autoflow.settings import PRELOAD, Settings
from autoflow.specs import WorkflowSpec
from autoflow.system.stop_signal import StopSignal
from autoflow.workflows.flow import Step, run_notebook
from benchmarks.daemon import KINDS, ROOT, children_by_kind, clean_environ, write_inputs
from benchmarks.goals import Goal, add_options, judge
from examples.flowapi import ExampleFlowApi

SETTLED = 20
"""The number of runs after which everything is imported and warm."""

CPU_GOAL = 0.06
"""Seconds of CPU time that a run may use besides its kernel."""

SIDE_BY_SIDE = 4

WAIT_GOAL = 1.0
"""Seconds that a run may wait for Prefect."""

LONGEST_RUN = 5.0
"""Seconds that a run may take, on average, before the benchmark gives up; and as long again for the start."""

SPY = "autoflow_benchmark_spy"
SPY_SOURCE = """
import atexit, os, pathlib, time
server = os.getpid()
def write_down():
    if os.getpid() == server:
        return
    guard = int(pathlib.Path(f"/proc/{{os.getppid()}}/schedstat").read_text().split()[0]) / 1e9
    file = os.open({tally!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{{time.process_time():.6f}} {{guard:.6f}}\\n".encode())
    os.close(file)
atexit.register(write_down)
"""
"""A module, preloaded in the fork server, that makes kernels record their CPU time."""


@dataclass(frozen=True)
class Place:
    """The folder of a daemon, or of the runs without one."""

    folder: Path

    @property
    def outputs(self) -> Path:
        """The outputs folder."""
        return self.folder / "outputs"

    @property
    def tally(self) -> Path:
        """The records of kernels: a line with the CPU seconds of each and those of its guard."""
        return self.folder / "tally"

    def prepare(self) -> None:
        """Write the inputs, with a notebook without cells, and the module that records CPU time."""
        for name in ("inputs", "outputs/notebooks", "modules"):
            (self.folder / name).mkdir(parents=True)
        write_inputs(self.folder / "inputs")
        nbformat.write(nbformat.v4.new_notebook(), self.folder / "inputs" / "trivial.ipynb")
        (self.folder / "modules" / f"{SPY}.py").write_text(SPY_SOURCE.format(tally=str(self.tally)))

    def environ(self, flowapi_url: str, flowapi_token: str, side_by_side: int) -> dict[str, str]:
        """Return the environment for AutoFlow."""
        return clean_environ() | {
            "AUTOFLOW_INPUTS_DIR": str(self.folder / "inputs"),
            "AUTOFLOW_OUTPUTS_DIR": str(self.outputs),
            "AUTOFLOW_MAX_PARALLEL_RUNS": str(side_by_side),
            "AUTOFLOW_PRELOAD": ",".join((*PRELOAD, SPY)),
            "FLOWAPI_URL": flowapi_url,
            "FLOWAPI_TOKEN": flowapi_token,
            "PREFECT_SERVER_API_PORT": str(free_port()),
            "PYTHONPATH": str(self.folder / "modules"),
        }

    def runs(self) -> list[RunRecord]:
        """Return the recorded runs, in the order of their start."""
        with closing(RunStore(f"sqlite:///{self.outputs / 'autoflow.db'}")) as store:
            return sorted(store.runs(state=RunState.SUCCEEDED), key=lambda run: run.started_at)


@dataclass(frozen=True)
class Wait:
    """Seconds that a run takes, and of them: until its notebook begins, and from when that is written to the record.

    `held` is how much longer it keeps its place: until the next claim there. The last runs have no next one.
    """

    run: float
    before: float
    after: float
    held: float = 0

    @property
    def whole(self) -> float:
        """The whole wait."""
        return self.before + self.after + self.held

    @classmethod
    def of(cls, record: RunRecord) -> "Wait":
        """Return the wait from a record and its notebook."""
        path = Path(record.outputs["trivial"]["notebook"])
        notebook = ExecutedNotebook.read(path)
        assert record.finished_at
        assert notebook
        assert notebook.started_at
        begins = datetime.fromisoformat(notebook.started_at).astimezone(UTC).replace(tzinfo=None)
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
        return cls(
            run=(record.finished_at - record.started_at).total_seconds(),
            before=(begins - record.started_at).total_seconds(),
            after=(record.finished_at - written).total_seconds(),
        )


def waits_of(records: Sequence[RunRecord], side_by_side: int) -> list[Wait]:
    """Return the waits of the runs, in the order of `records`, which is that of their start."""
    waits = [Wait.of(record) for record in records]
    free: list[tuple[datetime, int]] = []
    for number, record in enumerate(records):
        if len(free) == side_by_side:
            since, before = heapq.heappop(free)
            waits[before] = replace(waits[before], held=(record.started_at - since).total_seconds())
        assert record.finished_at
        heapq.heappush(free, (record.finished_at, number))
    return waits


def cpu_seconds(daemon: psutil.Process, tally: Path) -> dict[str, float]:
    """Return the CPU time so far of the daemon and the processes below it, and the number of finished kernels."""
    times = daemon.cpu_times()
    seconds = dict.fromkeys((*KINDS.values(), "other"), 0.0) | {"daemon": times.user + times.system}
    # The children it has waited for make HTML for the page.
    seconds["page"] = times.children_user + times.children_system
    for kind, child in children_by_kind(daemon):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            seconds[kind] += times.user + times.system
    lines = tally.read_text().splitlines() if tally.exists() else []
    kernels, guards = (sum(float(line.split()[place]) for line in lines) for place in (0, 1))
    seconds["guard"] += guards
    return seconds | {"kernel": kernels, "kernels": len(lines)}


@contextmanager
def killed_after(process: "subprocess.Popen[str]", seconds: float) -> Iterator[None]:
    """Kill `process` if the block takes longer than `seconds`."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def with_daemon(place: Place, environ: Mapping[str, str], dates: int, side_by_side: int) -> dict[str, float]:
    """Run all dates with a daemon; return the CPU seconds of each of its processes for one run."""
    samples: list[dict[str, float]] = []
    # At both, the same number of runs is in progress.
    wanted = [SETTLED, dates - side_by_side]
    done = 0
    command = [sys.executable, "-m", "autoflow"]
    with (
        subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True) as daemon,
        killed_after(daemon, LONGEST_RUN * (dates + SETTLED)),
    ):
        assert daemon.stderr
        for line in daemon.stderr:
            if " finished trivial " in line:
                done += 1
                if done in wanted:
                    samples.append(cpu_seconds(psutil.Process(daemon.pid), place.tally))
            elif " ERROR " in line:
                print(line, end="", file=sys.stderr)
    if len(samples) < len(wanted):
        return {}
    return {name: (samples[1][name] - samples[0][name]) / (wanted[1] - wanted[0]) for name in samples[1]}


@dataclass(frozen=True)
class WithoutPrefect:
    """Does in this process what a daemon does for each date, without Prefect."""

    settings: Settings
    store: RunStore
    heartbeat: Heartbeat
    page: PageWriter
    fork_server: ForkServer
    workflow: WorkflowSpec

    @classmethod
    @contextmanager
    def ready(cls, settings: Settings) -> Iterator["WithoutPrefect"]:
        """Yield one that is warm."""
        store = RunStore(settings.db_uri)
        store.migrate()
        triggers = read_workflows(settings).sensor.triggers
        with (
            closing(store),
            Heartbeat(store) as heartbeat,
            PageWriter(settings, store) as page,
            ForkServer(settings.preload) as fork_server,
        ):
            page.follow(triggers)
            fork_server.warm_up(settings.kernel_environ)
            assert fork_server.wait_until_warm(60)
            yield cls(settings, store, heartbeat, page, fork_server, triggers[0].workflow)

    def cpu_seconds(self, dates: Sequence[date], side_by_side: int) -> float:
        """Run `dates`; return the CPU seconds of this process for one of them."""
        # Threads that hang cannot be ended; the stacks show where they hang.
        faulthandler.dump_traceback_later(LONGEST_RUN * (len(dates) + SETTLED), exit=True)
        with ThreadPoolExecutor(side_by_side) as pool:
            list(pool.map(self.run, dates[:SETTLED]))
            started = time.process_time()
            list(pool.map(self.run, dates[SETTLED:]))
            seconds = time.process_time() - started
        faulthandler.cancel_dump_traceback_later()
        return seconds / (len(dates) - SETTLED)

    def run(self, reference_date: date) -> None:
        """Run the notebook for one date, as `WorkflowRunner` does."""
        run = WorkflowRun(workflow=self.workflow, parameters={}, reference_date=reference_date, date_ranges=())
        claim = self.store.claim(run.key)
        assert claim
        self.fork_server.warm_up(self.settings.kernel_environ)
        stop, outcome = StopSignal(), Outcome()
        with self.heartbeat.of(claim, stop):
            step = Step(
                run=run,
                notebook=self.workflow.notebooks[0],
                stem=f"trivial__{reference_date}",
                settings=self.settings,
                outcome=outcome,
                stop=stop,
                place=ThisMachine(self.settings, self.fork_server),
            )
            outputs = outcome.outputs["trivial"] = run_notebook(step, {})
            left = {"trivial": {"notebook": str(outputs.executed), "reports": []}}
            self.store.finish(claim, RunState.SUCCEEDED, outputs=left)
        self.page.run_ended(EndedRun(run=run, state=RunState.SUCCEEDED, outcome=outcome))


def print_cpu(daemon: Mapping[str, float], autoflow: float) -> float:
    """Print the CPU time of a run by process; return the seconds of all but the kernel."""
    rows = {
        "AutoFlow": autoflow,
        "AutoFlow's page": daemon["page"],
        "AutoFlow's guard of the kernel": daemon["guard"],
        "AutoFlow's kernel server": daemon["kernel server"],
        "Prefect client": daemon["daemon"] - autoflow,
        "Prefect server": daemon["Prefect server"],
        "other": daemon["other"],
    }
    rows |= {"all but kernels": sum(rows.values()), "kernel": daemon["kernel"]}
    print("CPU ms for each run")
    for name, seconds in rows.items():
        print(f"  {name:30}{1000 * seconds:8.0f}")
    if abs(daemon["kernels"] - 1) > 0.1:
        print(f"  {daemon['kernels']:.2f} kernels per run were counted; those not forked count as page")
    return rows["all but kernels"]


def print_wall(name: str, waits: Sequence[Wait]) -> None:
    """Print the median and maximum of the times and waits of runs, with the first runs apart."""
    rows = {
        "run": [wait.run for wait in waits],
        "waits": [wait.whole for wait in waits],
        "  before its notebook": [wait.before for wait in waits],
        "  after its notebook": [wait.after for wait in waits],
        "  until the next one's claim": [wait.held for wait in waits],
    }
    print(f"{f'wall ms, {name}':32}{'median':>8}{'max':>8}{f'max of first {SETTLED}':>20}")
    for row, seconds in rows.items():
        first, later = seconds[:SETTLED], seconds[SETTLED:]
        figures = (1000 * statistics.median(later), 1000 * max(later), 1000 * max(first))
        print(f"  {row:30}" + "{:8.0f}{:8.0f}{:20.0f}".format(*figures))


@dataclass(frozen=True)
class Found:
    """The results of a series of dates: the number of notebooks, and the goals."""

    notebooks: int
    goals: Sequence[Goal]


def measure(folder: Path, dates: Sequence[date], side_by_side: int) -> Found:
    """Print the tables for a number of runs at the same time."""
    with_prefect, without = Place(folder / "daemon"), Place(folder / "alone")
    with_prefect.prepare()
    without.prepare()
    with ExampleFlowApi(dates=dates, subscribers=50) as flowapi:
        environ = with_prefect.environ(flowapi.url, flowapi.token(), side_by_side)
        daemon = with_daemon(with_prefect, environ, len(dates), side_by_side)
    # The example FlowAPI, whose threads are in this process, has ended.
    settings = Settings.read(without.environ("http://localhost", "token", side_by_side))
    with WithoutPrefect.ready(settings) as alone:
        autoflow = alone.cpu_seconds(dates, side_by_side)
    title = f"{side_by_side} side by side" if side_by_side > 1 else "one at a time"
    print(f"\n{len(dates)} dates, {title}")
    goals: list[Goal] = []
    if daemon:
        cpu = print_cpu(daemon, autoflow)
        waits = waits_of(with_prefect.runs(), side_by_side)
        print_wall("the daemon", waits)
        print_wall("without Prefect", waits_of(without.runs(), side_by_side))
        goals = judged(title, cpu, waits)
    return Found(sum(1 for _ in with_prefect.outputs.glob("notebooks/*.ipynb")), goals)


def judged(title: str, cpu: float, waits: Sequence[Wait]) -> list[Goal]:
    """Return the goals for the CPU time, in seconds, and the waits."""
    first, later = waits[:SETTLED], waits[SETTLED:]
    return [
        Goal(f"{title}: CPU of all but the kernel", cpu, CPU_GOAL, unit="s"),
        Goal(f"{title}: longest wait", max(wait.whole for wait in later), WAIT_GOAL, unit="s"),
        Goal(f"{title}: longest wait of first {SETTLED}", max(wait.whole for wait in first), WAIT_GOAL, unit="s"),
    ]


def main() -> int:
    """Measure one run at a time, and several at the same time."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dates", type=int, default=80, help="how many runs (default: 80)")
    add_options(parser)
    options = parser.parse_args()
    if options.dates < 3 * SETTLED:
        parser.error(f"--dates: {3 * SETTLED} at least")
    dates = [date(2016, 1, 1) + timedelta(days=number) for number in range(options.dates)]
    found = []
    for side_by_side in (1, SIDE_BY_SIDE):
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(Path(folder), dates, side_by_side))
    code = judge([goal for each in found for goal in each.goals], check=options.check, figures=options.figures)
    if (notebooks := min(each.notebooks for each in found)) < len(dates):
        sys.exit(f"{notebooks} notebooks for {len(dates)} dates")
    return code


if __name__ == "__main__":
    sys.exit(main())

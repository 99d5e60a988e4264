"""Measure what AutoFlow and Prefect add to an empty notebook: ``python -m benchmarks.overhead [--dates 80]``.

A daemon with one workflow of one notebook without cells works through a number of dates, one run at a time, then four.

The first twenty runs warm everything up. Once Prefect shows their end, the CPU time of each process is read. Then an
edit of workflows.yml makes the other dates due, and the CPU time is read again once Prefect shows the end of all runs.
From the difference, the CPU time that the same processes use afterwards, while nothing happens, is subtracted for the
same time. The rest is divided by the number of runs. Kernels and their guards would not be counted, because the fork
server leaves it to the system to reap them. So each kernel records its CPU time and its guard's at its end, through a
preloaded module; what both use after that, under 20 ms, is missing. The goal is for all but the kernel, including the
guard and the work of the fork server.

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
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
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
from autoflow.workflows.execution import Step, run_notebook
from benchmarks.daemon import KINDS, children_by_kind, clean_environ, end_of, running_daemon, write_inputs
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

WARM = "kernel server"
"""The name of the process that forks kernels, see `KINDS`."""

LATE_SECONDS = 3.0
"""How long the daemon and Prefect may still work after the end of the last run: the page, events."""

LOOK_SECONDS = 0.2
"""How often to check whether the runs have ended."""

LONGEST_ANSWER = 60.0
"""Seconds that Prefect may take for an answer."""

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
"""Prefect's states of flow runs that have ended."""

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

    @property
    def log(self) -> Path:
        """The daemon's log."""
        return self.folder / "log"

    def prepare(self, last: date) -> None:
        """Write the inputs, with a notebook without cells that runs up to `last`, and the module for CPU time."""
        for name in ("inputs", "outputs/notebooks", "modules"):
            (self.folder / name).mkdir(parents=True)
        write_inputs(self.folder / "inputs")
        self.write_workflows(last)
        nbformat.write(nbformat.v4.new_notebook(), self.folder / "inputs" / "trivial.ipynb")
        (self.folder / "modules" / f"{SPY}.py").write_text(SPY_SOURCE.format(tally=str(self.tally)))

    def write_workflows(self, last: date) -> None:
        """Make the workflow run up to `last`, included; nothing else makes the daemon tick after its start."""
        new = self.folder / "workflows.yml"
        new.write_text(
            "workflows: [{name: trivial, notebooks: {trivial: {filename: trivial.ipynb}}}]\n"
            "available_dates_sensor:\n"
            f"  {{schedule: '0 0 29 2 *', workflows: [{{workflow_name: trivial, latest_date: {last}}}]}}\n"
        )
        new.replace(self.folder / "inputs" / "workflows.yml")

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


@dataclass(frozen=True)
class Sample:
    """The CPU seconds of the daemon's processes so far, and the seconds of a clock."""

    at: float
    seconds: Mapping[str, float]

    def __sub__(self, earlier: "Sample") -> "Sample":
        """Return what has been used since an earlier sample, and how long that is ago."""
        return Sample(self.at - earlier.at, {name: self.seconds[name] - earlier.seconds[name] for name in self.seconds})


@dataclass(frozen=True)
class Watched:
    """A daemon at work in `place`."""

    process: psutil.Process
    place: Place
    api_url: str

    def after_runs(self, number: int) -> Sample:
        """Wait until so many runs have ended and Prefect shows that; return a sample."""
        self.wait_for(number)
        # Only now, as each answer takes CPU time.
        self._wait(number, self._shows)
        time.sleep(LATE_SECONDS)
        return self.sample()

    def wait_for(self, number: int) -> None:
        """Wait until so many runs have ended."""
        self._wait(number, lambda number: self.place.log.read_text().count(" finished trivial ") >= number)

    def _wait(self, number: int, have_ended: Callable[[int], bool]) -> None:
        deadline = time.monotonic() + LONGEST_RUN * (number + SETTLED)
        while not have_ended(number):
            if self.process.status() == psutil.STATUS_ZOMBIE or time.monotonic() > deadline:
                sys.exit(f"{number} runs do not end; the end of the log:\n{end_of(self.place.log)}")
            time.sleep(LOOK_SECONDS)

    def sample(self) -> Sample:
        """Return the CPU time so far."""
        return Sample(time.monotonic(), cpu_seconds(self.process, self.place.tally))

    def _shows(self, number: int) -> bool:
        wanted = {"flow_runs": {"state": {"type": {"any_": ENDED}}}, "flows": {"name": {"any_": ["trivial"]}}}
        return int(httpx.post(f"{self.api_url}/flow_runs/count", json=wanted, timeout=LONGEST_ANSWER).text) >= number


def with_daemon(place: Place, environ: Mapping[str, str], dates: Sequence[date]) -> dict[str, float]:
    """Run all dates with a daemon; return the CPU seconds of each of its processes for one run."""
    api_url = f"http://127.0.0.1:{environ['PREFECT_SERVER_API_PORT']}/api"
    with running_daemon(environ, place.log) as process:
        daemon = Watched(psutil.Process(process.pid), place, api_url)
        before = daemon.after_runs(SETTLED)
        place.write_workflows(dates[-1])
        # The process that forks kernels ends if it has nothing to do: its start does not count.
        daemon.wait_for(SETTLED + 1)
        warm = {WARM: daemon.sample().seconds[WARM]}
        work = daemon.after_runs(len(dates)) - replace(before, seconds={**before.seconds, **warm})
        idle_from = daemon.sample()
        time.sleep(work.at)
        idle = daemon.sample() - idle_from
    for line in place.log.read_text().splitlines():
        if " ERROR " in line:
            print(line, file=sys.stderr)
    runs, share = len(dates) - SETTLED, work.at / idle.at
    # The time of a process that has ended meanwhile is gone.
    return {name: (used - share * max(0.0, idle.seconds[name])) / runs for name, used in work.seconds.items()}


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
    with_prefect.prepare(dates[SETTLED - 1])
    without.prepare(dates[-1])
    with ExampleFlowApi(dates=dates, subscribers=50) as flowapi:
        environ = with_prefect.environ(flowapi.url, flowapi.token(), side_by_side)
        daemon = with_daemon(with_prefect, environ, dates)
    # The example FlowAPI, whose threads are in this process, has ended.
    settings = Settings.read(without.environ("http://localhost", "token", side_by_side))
    with WithoutPrefect.ready(settings) as alone:
        autoflow = alone.cpu_seconds(dates, side_by_side)
    title = f"{side_by_side} side by side" if side_by_side > 1 else "one at a time"
    print(f"\n{len(dates)} dates, {title}")
    cpu = print_cpu(daemon, autoflow)
    runs = with_prefect.runs()
    # Between the two series, nothing waits.
    waits = waits_of(runs[:SETTLED], side_by_side) + waits_of(runs[SETTLED:], side_by_side)
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

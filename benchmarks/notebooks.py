"""Time a notebook: AutoFlow, with and without forked kernels, against papermill, a script, and the limit.

Usage: python -m benchmarks.notebooks [--rounds N] [--tail N]   (2>/dev/null hides papermill's kernels)

The trivial notebook has three cells; the typical one imports pandas, matplotlib, scrapbook and flowclient, plots, and
glues a number. All ways take turns, in another order each round, with one notebook and with 4 at a time; the medians
count. The limit is the same code in processes forked with everything imported.
"""

import argparse
import contextlib
import datetime
import math
import os
import random
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nbformat
import papermill
import psutil

from autoflow.cluster.work import ThisMachine
from autoflow.kernels.fork_server import ForkServer
from autoflow.runs.run import Outcome, WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import NotebookSpec, WorkflowSpec
from autoflow.system.stop_signal import StopSignal
from autoflow.workflows.flow import Step, run_notebook
from benchmarks.daemon import clean_environ
from benchmarks.goals import Goal, add_options, judge

TRIVIAL = ("x = 1", "y = x + 1", "print(x + y)")
TYPICAL = (
    "import pandas as pd\nimport matplotlib.pyplot as plt\nimport scrapbook as sb\nimport flowclient",
    "frame = pd.DataFrame({'region': [i % 17 for i in range(5000)], 'flow': range(5000)})",
    "means = frame.groupby('region').flow.mean()\nprint(means.head())",
    "figure, axes = plt.subplots()\nmeans.plot(ax=axes)\nplt.show()",
    "sb.glue('highest', float(means.max()))",
    "print(flowclient.__version__)",
)
NOTEBOOKS = {"trivial": TRIVIAL, "typical": TYPICAL}
SIDE_BY_SIDE = 4
LONGEST_RUN = 120.0
"""Seconds; a notebook that takes longer hangs."""

TIMES_PAPERMILL = {"trivial": (5.0, 7.0), "typical": (9.0, 8.0)}
"""How many times as long as with AutoFlow each notebook must take with papermill, at least: alone, and side by side."""

OVER_LIMIT = {"trivial": 0.05, "typical": 0.2}
"""Seconds that each notebook may take above the limit, alone."""

TAIL = 3.0
"""How many times the median a run may take at most."""

FEW_ROUNDS = 7
"""Fewer samples do not make a reliable median."""

FORKED = "preloaded: True"
"""Output of a notebook whose kernel had pandas imported before its first cell."""

WITNESS = "import sys\npreloaded = 'pandas' in sys.modules\n", "\nprint(f'preloaded: {preloaded}')"
"""Code before the first and after the last cell, in each way."""

IMPORTS = "import flowclient, io, matplotlib, os, pandas, scrapbook, sys, warnings\nmatplotlib.use('agg')\n"
WITHOUT_KERNEL = {
    "import matplotlib.pyplot": "import matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot",
    "plt.show()": "import io\nfigure.savefig(io.BytesIO(), format='png')",
}
"""Replacements in the code for a script."""

LIMIT = """
import matplotlib.pyplot
source = compile({source!r}, "code", "exec")
out = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
for line in sys.stdin:
    for _ in range(int(line)):
        if os.fork() == 0:
            exec(source, {{"__name__": "__main__"}})
            os._exit(0)
    for _ in range(int(line)):
        assert os.wait()[1] == 0
    os.write(out, b"x")
"""


@dataclass(frozen=True)
class Sample:
    """Seconds of notebooks run at the same time: of all together, and of each; infinite if one failed or hung."""

    batch: float
    singles: Sequence[float]

    @property
    def each(self) -> float:
        """The time of all, divided by their number."""
        return self.batch / len(self.singles)

    @property
    def lost(self) -> int:
        """How many failed or hung."""
        return sum(math.isinf(single) for single in self.singles)


@dataclass(frozen=True)
class LikeDaemon:
    """Runs notebooks as the daemon does, without Prefect and the run store."""

    settings: Settings
    fork_server: ForkServer

    @classmethod
    @contextmanager
    def ready(cls, folder: Path) -> Iterator["LikeDaemon"]:
        """Yield one that works in `folder`, in our environment without settings for a daemon."""
        environ = clean_environ() | {
            "AUTOFLOW_INPUTS_DIR": str(folder),
            "AUTOFLOW_OUTPUTS_DIR": str(folder),
            "FLOWAPI_URL": "http://localhost",
            # As long as a real token, because it is searched for in the whole notebook.
            "FLOWAPI_TOKEN": f"{'h' * 100}.{'p' * 400}.{'s' * 86}",
        }
        # It must exist, but is not read.
        (folder / "workflows.yml").touch()
        settings = Settings.read(environ)
        # The daemon's would end during the turns of the other ways.
        with ForkServer(settings.preload, idle_seconds=24 * 3600, stderr=None) as fork_server:
            yield cls(settings, fork_server)

    def warm_up(self) -> None:
        """Wait until the next kernel can be forked."""
        self.fork_server.warm_up(self.settings.kernel_environ)
        if not self.fork_server.wait_until_warm(60):
            sys.exit("no kernels can be forked here: the log says why")

    def executed(self, name: str) -> Path:
        """Return the path of the executed notebook called `name`."""
        return self.settings.notebooks_dir / f"{name}.ipynb"

    def run(self, notebook: Path, name: str, *, forked: bool = True) -> None:
        """Run `notebook`; the executed one is called `name`."""
        spec = NotebookSpec(label=notebook.stem, path=notebook, timeout=LONGEST_RUN)
        workflow = WorkflowSpec(name=notebook.stem, notebooks=(spec,))
        step = Step(
            run=WorkflowRun(workflow=workflow, parameters={}, reference_date=datetime.date(2016, 1, 1), date_ranges=()),
            notebook=spec,
            stem=name,
            settings=self.settings,
            outcome=Outcome(),
            stop=StopSignal(),
            place=ThisMachine(self.settings, self.fork_server if forked else None),
        )
        run_notebook(step, {})


@dataclass(frozen=True)
class Bench:
    """A notebook on disk, and the ways to run it."""

    name: str
    folder: Path
    daemon: LikeDaemon
    limit: "subprocess.Popen[bytes]"

    @property
    def notebook(self) -> Path:
        """The notebook."""
        return self.folder / f"{self.name}.ipynb"

    @property
    def kernel_ways(self) -> dict[str, Callable[[int], object]]:
        """Every way with a kernel, by name."""
        return {
            "AutoFlow": self.autoflow,
            "ordinary kernels": partial(self.autoflow, forked=False),
            "papermill": self.papermill,
        }

    @property
    def ways(self) -> dict[str, Callable[[int], Sample]]:
        """Return every way to run a number of notebooks at the same time, by name."""
        each = self.kernel_ways | {"script": self.script}
        return {name: partial(side_by_side, run) for name, run in each.items()} | {"limit": self.at_the_limit}

    def autoflow(self, number: int, *, forked: bool = True) -> None:
        """Run the notebook as AutoFlow does."""
        self.daemon.run(self.notebook, f"executed-{number}", forked=forked)

    def papermill(self, number: int) -> None:
        """Run the notebook with plain papermill."""
        executed = self.folder / f"papermill-{number}.ipynb"
        papermill.execute_notebook(str(self.notebook), str(executed), progress_bar=False, kernel_name="python3")

    def script(self, number: int) -> None:
        """Run the notebook's code as a script."""
        del number
        command = [sys.executable, str(self.folder / f"{self.name}.py")]
        subprocess.run(command, check=True, capture_output=True, timeout=LONGEST_RUN)

    def at_the_limit(self, count: int) -> Sample:
        """Run the code in processes with everything imported."""
        assert self.limit.stdin
        assert self.limit.stdout
        started = time.perf_counter()
        self.limit.stdin.write(f"{count}\n".encode())
        self.limit.stdin.flush()
        readable, _, _ = select.select([self.limit.stdout], [], [], LONGEST_RUN)
        if not readable or self.limit.stdout.read(1) != b"x":
            sys.exit(f"{self.name}: the code fails or hangs without a kernel")
        seconds = time.perf_counter() - started
        return Sample(seconds, [seconds] * count)

    def unforked(self, count: int) -> int:
        """Return how many of the last runs with AutoFlow had a kernel that was not forked."""
        executed = (self.daemon.executed(f"executed-{number}") for number in range(count))
        return sum(FORKED not in printed(path) for path in executed)

    def sample(self, way: str, count: int) -> Sample:
        """Run the notebook a number of times at once; AutoFlow's kernels come from a warm fork server."""
        if way == "AutoFlow":
            self.daemon.warm_up()
        children = set(psutil.Process().children())
        sample = self.ways[way](count)
        if sample.lost:
            for child in set(psutil.Process().children()) - children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        return sample


def side_by_side(run: Callable[[int], object], count: int) -> Sample:
    """Call `run` with each number below `count`, in threads; leave hanging ones behind."""
    singles = [math.inf] * count

    def work(number: int) -> None:
        started = time.perf_counter()
        try:
            run(number)
        except Exception as error:  # noqa: BLE001 - any failure counts as lost
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        else:
            singles[number] = time.perf_counter() - started

    started = time.perf_counter()
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, started + 1.5 * LONGEST_RUN - time.perf_counter()))
    batch = time.perf_counter() - started
    return Sample(math.inf if math.inf in singles else batch, tuple(singles))


def printed(executed: Path) -> str:
    """Return the printed text of an executed notebook; empty if it is missing or not complete."""
    try:
        cells = nbformat.read(executed, as_version=4).cells
    except (OSError, ValueError):
        return ""
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", ()))


@contextmanager
def make_bench(folder: Path, name: str, daemon: LikeDaemon) -> Iterator[Bench]:
    """Write the notebook called `name` and its script; yield the bench, with its limit started."""
    first, *others = NOTEBOOKS[name]
    cells = [WITNESS[0] + first, *others]
    cells[-1] += WITNESS[1]
    write_notebook(folder / f"{name}.ipynb", cells)
    source = "\n".join(cells)
    for text, instead in WITHOUT_KERNEL.items():
        source = source.replace(text, instead)
    (folder / f"{name}.py").write_text(source)
    command = [sys.executable, "-W", "ignore", "-c", IMPORTS + LIMIT.format(source=source)]
    limit = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    bench = Bench(name, folder, daemon, limit)
    try:
        bench.at_the_limit(1)
        yield bench
    finally:
        limit.kill()
        limit.wait()


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """Write a notebook of code cells for the usual kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


Measured = Mapping[str, Sequence[Sample]]
"""The samples of each way, by its name."""


def measure(bench: Bench, ways: Sequence[str], *, count: int, rounds: int) -> tuple[Measured, int]:
    """Let the ways take turns; return their samples, and the number of AutoFlow's kernels that were not forked."""
    samples: dict[str, list[Sample]] = {way: [] for way in ways}
    unforked = 0
    for _ in range(rounds):
        for way in random.sample(ways, len(ways)):
            samples[way].append(bench.sample(way, count))
            if way == "AutoFlow":
                unforked += bench.unforked(count)
    return samples, unforked


def median(samples: Sequence[Sample]) -> float:
    """Return the median seconds of a notebook."""
    return statistics.median(sample.each for sample in samples)


def print_table(title: str, measured: Measured) -> None:
    """Print the medians, the maxima, and the ratios to AutoFlow's."""
    own, limit = median(measured["AutoFlow"]), median(measured["limit"])
    heads = ("median ms", "max ms", "slowest ms", "x AutoFlow", "over limit ms", "lost")
    print(f"\n{title}\n{'':18}" + "".join(f"{head:>14}" for head in heads))
    for way, samples in measured.items():
        seconds = median(samples)
        slowest = max(single for sample in samples for single in sample.singles)
        times = seconds, max(sample.each for sample in samples), slowest
        row = "".join(f"{1000 * time:14.0f}" for time in times) + f"{seconds / own:14.1f}"
        lost = sum(sample.lost for sample in samples)
        print(f"{way:18}{row}{1000 * (seconds - limit):14.0f}{lost:14}", flush=True)


def table_goals(title: str, name: str, measured: Measured, *, alone: bool) -> list[Goal]:
    """Return the goals of the table."""
    own = median(measured["AutoFlow"])
    times = median(measured["papermill"]) / own
    goals = [Goal(f"{title}: papermill / AutoFlow", times, TIMES_PAPERMILL[name][0 if alone else 1], at_least=True)]
    if alone:
        goals.append(Goal(f"{title}: over the limit", own - median(measured["limit"]), OVER_LIMIT[name], unit="s"))
    return goals


def print_tail(bench: Bench, runs: int) -> list[Goal]:
    """Run the notebook `runs` times in each way with a kernel; print the ratio of the slowest to the median."""
    measured, unforked = measure(bench, list(bench.kernel_ways), count=1, rounds=runs)
    print(f"\n{bench.name}: {runs} runs, one after the other")
    for way, samples in measured.items():
        beyond = sum(sample.each > TAIL * median(samples) for sample in samples)
        slowest = max(sample.each for sample in samples) / median(samples)
        print(
            f"{way:18} median {1000 * median(samples):5.0f} ms, max {slowest:4.1f} x, beyond {TAIL:g} x: {beyond}",
            flush=True,
        )
    own = measured["AutoFlow"]
    slowest = max(sample.each for sample in own) / median(own)
    return [
        Goal(f"{bench.name}, {runs} runs: slowest / median", slowest, TAIL),
        Goal(f"{bench.name}, {runs} runs: kernels not forked", unforked, 0, unit=""),
    ]


def run_bench(bench: Bench, *, rounds: int, tail: int) -> list[Goal]:
    """Print all tables of a notebook; return its goals."""
    goals = []
    for count in (1, SIDE_BY_SIDE):
        title = f"{bench.name}, {'alone' if count == 1 else f'{count} side by side'}"
        measured, unforked = measure(bench, list(bench.ways), count=count, rounds=rounds)
        few = "" if rounds >= FEW_ROUNDS else f": too few, {FEW_ROUNDS} make a median"
        print_table(f"{title} ({rounds} rounds{few})", measured)
        goals += table_goals(title, bench.name, measured, alone=count == 1)
        goals.append(Goal(f"{title}: kernels not forked", unforked, 0, unit=""))
    return goals + (print_tail(bench, tail) if tail else [])


def main() -> int:
    """Print the tables and the goals."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="how often each way runs (default: 9)")
    parser.add_argument("--tail", type=int, default=40, help="among how many runs to look for slow ones (default: 40)")
    add_options(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    # Kernels inherit it from us in every way, and so does matplotlib in a script.
    os.environ.pop("MPLBACKEND", None)
    goals = []
    with (
        tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as folder,
        LikeDaemon.ready(Path(folder)) as daemon,
    ):
        for name in NOTEBOOKS:
            with make_bench(Path(folder), name, daemon) as bench:
                goals += run_bench(bench, rounds=options.rounds, tail=options.tail)
    return judge(goals, check=options.check, figures=options.figures)


if __name__ == "__main__":
    sys.exit(main())

"""How long a notebook takes: AutoFlow, with and without forked kernels, against papermill, a script, and the limit.

Usage: python benchmarks/notebooks.py [--rounds N] [--tail N] [--soak N]   (2>/dev/null: papermill's kernels talk)

The trivial notebook has three cells; the typical one imports pandas, matplotlib, scrapbook and flowclient, plots, and
glues a number. All ways run in turns, each round in another order, alone and 4 side by side; the medians count. The
limit is the same code in processes that are forked with everything imported.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import nbformat
import papermill
import psutil

from autoflow.errors import NotebookError
from autoflow.forked_kernels import ForkServer
from autoflow.notebooks import execute

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
SOAK_SIDE_BY_SIDE = 8
LONGEST_RUN = 120.0
"""Seconds; a notebook of the soak that takes longer hangs."""

IMPORTS = "import flowclient, io, matplotlib, os, pandas, scrapbook, sys, warnings\nmatplotlib.use('agg')\n"
SHOW = "plt.show()", "import io\nfigure.savefig(io.BytesIO(), format='png')"
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

Way = Callable[[int], object]
"""Runs the notebook so many times, side by side."""


@dataclass(frozen=True)
class Bench:
    """A notebook on disk, and the ways to run it."""

    folder: Path
    name: str
    fork_server: ForkServer
    limit: "subprocess.Popen[bytes]"

    @property
    def notebook(self) -> Path:
        """The notebook."""
        return self.folder / f"{self.name}.ipynb"

    def ways(self) -> dict[str, Way]:
        """Return every way there is, by its name."""
        return {
            "AutoFlow": partial(_side_by_side, self.autoflow),
            "ordinary kernels": partial(_side_by_side, partial(self.autoflow, forked=False)),
            "papermill": partial(_side_by_side, self.papermill),
            "script": partial(_side_by_side, self.script),
            "limit": self.at_the_limit,
        }

    def autoflow(self, number: int, *, forked: bool = True) -> None:
        """Run the notebook as AutoFlow does."""
        execute(
            self.notebook,
            self.folder / f"executed-{number}.ipynb",
            label=self.name,
            parameters={},
            environment=os.environ,
            fork_server=self.fork_server if forked else None,
        )

    def papermill(self, number: int) -> None:
        """Run the notebook with plain papermill."""
        papermill.execute_notebook(
            str(self.notebook), str(self.folder / f"executed-{number}.ipynb"), progress_bar=False, kernel_name="python3"
        )

    def script(self, number: int) -> None:
        """Run the notebook's code as a script."""
        del number
        command = [sys.executable, str(self.folder / f"{self.name}.py")]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "MPLBACKEND": "agg"})

    def at_the_limit(self, count: int) -> None:
        """Run the code in a process that has imported everything."""
        assert self.limit.stdin
        assert self.limit.stdout
        self.limit.stdin.write(f"{count}\n".encode())
        self.limit.stdin.flush()
        assert self.limit.stdout.read(1) == b"x"


def _side_by_side(run: Callable[[int], None], count: int) -> None:
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, range(count)))


def make_bench(folder: Path, name: str, fork_server: ForkServer) -> Bench:
    """Write the notebook called `name` and the script that it comes to, and start its limit."""
    cells = NOTEBOOKS[name]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / f"{name}.ipynb")
    source = "\n".join(cells).replace(*SHOW)
    (folder / f"{name}.py").write_text(source)
    program = IMPORTS + LIMIT.format(source=source)
    command = [sys.executable, "-W", "ignore", "-c", program]
    limit = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    bench = Bench(folder, name, fork_server, limit)
    bench.at_the_limit(1)
    return bench


def measure(ways: dict[str, Way], *, count: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds that each way took for each notebook, in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in random.sample(list(ways), len(ways)):
            started = time.perf_counter()
            ways[name](count)
            seconds[name].append((time.perf_counter() - started) / count)
    return seconds


def print_table(title: str, seconds: dict[str, list[float]]) -> None:
    """Print the medians, the worst, and how many times as long as AutoFlow's the others are."""
    own = statistics.median(seconds["AutoFlow"])
    limit = statistics.median(seconds["limit"])
    print(f"\n{title}\n{'':18}{'median ms':>10}{'max ms':>9}{'x AutoFlow':>12}{'over limit ms':>15}")
    for name, values in seconds.items():
        median = statistics.median(values)
        over = f"{1000 * (median - limit):15.0f}"
        print(f"{name:18}{1000 * median:10.0f}{1000 * max(values):9.0f}{median / own:12.1f}{over}")


def print_tail(bench: Bench, runs: int) -> None:
    """Run the notebook `runs` times, one after the other, and print how far the slowest are from the median."""
    print(f"\n{bench.name}: {runs} runs, one after the other")
    for name, way in list(bench.ways().items())[:3]:
        values = measure({name: way}, count=1, rounds=runs)[name]
        median = statistics.median(values)
        beyond = sum(value > 3 * median for value in values)
        print(f"{name:18} median {1000 * median:5.0f} ms, max {max(values) / median:4.1f} x, beyond 3 x: {beyond}")


def soak(bench: Bench, runs: int) -> int:
    """Run the notebook so many times, 8 side by side; print and return how many failed or hung."""
    failures: list[str] = []
    durations: list[float] = []

    def run(number: int) -> None:
        started = time.perf_counter()
        try:
            bench.autoflow(number % SOAK_SIDE_BY_SIDE + 1000 * (number // SOAK_SIDE_BY_SIDE % 2))
        except (NotebookError, OSError) as error:
            failures.append(f"{number}: {error}")
        durations.append(time.perf_counter() - started)

    this = psutil.Process()
    started, files = time.perf_counter(), this.num_fds()
    with ThreadPoolExecutor(SOAK_SIDE_BY_SIDE) as pool:
        list(pool.map(run, range(runs)))
    seconds = time.perf_counter() - started
    hung = sum(duration > LONGEST_RUN for duration in durations)
    print(
        f"\nsoak: {runs} notebooks, {SOAK_SIDE_BY_SIDE} side by side, in {seconds:.0f} s: {len(failures)} failed, "
        f"{hung} hung; slowest {max(durations):.1f} s; {this.num_fds() - files} files left open, "
        f"{len(this.children(recursive=True))} processes there"
    )
    print("\n".join(failures))
    return len(failures) + hung


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; return 1 if a soak found anything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="how often each way runs (default: 9)")
    parser.add_argument("--tail", type=int, default=0, help="look for slow ones among so many runs")
    parser.add_argument("--soak", type=int, default=0, help="only run so many trivial notebooks, 8 side by side")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, ForkServer() as server:
        server.warm_up(os.environ)
        assert server.wait_until_warm(60)
        benches = [make_bench(Path(folder), name, server) for name in NOTEBOOKS]
        try:
            if arguments.soak:
                return int(soak(benches[0], arguments.soak) > 0)
            for bench in benches:
                for count in (1, SIDE_BY_SIDE):
                    seconds = measure(bench.ways(), count=count, rounds=arguments.rounds)
                    print_table(f"{bench.name}, {'alone' if count == 1 else f'{count} side by side'}", seconds)
                if arguments.tail:
                    print_tail(bench, arguments.tail)
        finally:
            for bench in benches:
                bench.limit.kill()
                bench.limit.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

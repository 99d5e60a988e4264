"""What an idle AutoFlow takes, with a tick a minute and nothing due: ``python -m benchmarks.idle [--minutes N]``.

Memory and CPU time of the daemon and of all processes below it. PSS shares out what processes have in common; RSS
counts it for each of them. The process that kernels are forked from is there for a minute after the last run.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.chaos import ROOT
from benchmarks.memory import write_inputs
from examples.flowapi import ExampleFlowApi
from tests.postgres import free_port


@contextmanager
def idle_daemon(flowapi: ExampleFlowApi, folder: Path) -> Iterator[psutil.Process]:
    """Run AutoFlow where one date at most is due, and yield it once it has done that."""
    inputs, outputs = folder / "inputs", folder / "outputs"
    inputs.mkdir()
    write_inputs(inputs)
    workflows = inputs / "workflows.yml"
    often = workflows.read_text().replace("schedule: null", "schedule: '* * * * *'")
    workflows.write_text(often.replace("workflow_name: trivial", "workflow_name: trivial, earliest_date: 2016-01-12"))
    environ = os.environ | {
        "AUTOFLOW_INPUTS_DIR": str(inputs),
        "AUTOFLOW_OUTPUTS_DIR": str(outputs),
        "FLOWAPI_URL": flowapi.url,
        "FLOWAPI_TOKEN": flowapi.token(),
        "PREFECT_SERVER_API_PORT": str(free_port()),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "autoflow"], cwd=ROOT, env=environ, stderr=subprocess.DEVNULL
    ) as daemon:
        try:
            deadline = time.monotonic() + 120
            while not list(outputs.glob("notebooks/*.ipynb")):
                assert time.monotonic() < deadline, "no notebook was run in two minutes"
                time.sleep(0.5)
            yield psutil.Process(daemon.pid)
        finally:
            daemon.terminate()


def sample(daemon: psutil.Process) -> dict[str, tuple[float, float, float]]:
    """Return RSS and PSS in MB and CPU seconds so far of each process, by what it is."""
    found = {}
    for process in (daemon, *daemon.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(process.cmdline())
            kinds = {"prefect_server": "Prefect server", "kernel_server": "kernel server", "kernel_guard": "guard"}
            kind = next((kind for word, kind in kinds.items() if word in command), "other")
            memory, times = process.memory_full_info(), process.cpu_times()
            name = "daemon" if process == daemon else f"{kind} {process.pid}"
            found[name] = (memory.rss / 1e6, memory.pss / 1e6, times.user + times.system)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2, help="how long to look (default: 2)")
    seconds = 60 * parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder, ExampleFlowApi() as flowapi, idle_daemon(flowapi, Path(folder)) as it:
        time.sleep(5)
        before = sample(it)
        time.sleep(seconds)
        after = sample(it)
    print(f"{'':24}{'RSS MB':>8}{'PSS MB':>8}{'CPU %':>8}")
    total = [0.0, 0.0, 0.0]
    for name, (rss, pss, cpu) in after.items():
        percent = 100 * (cpu - before.get(name, (0, 0, 0))[2]) / seconds
        print(f"{name:24}{rss:8.0f}{pss:8.0f}{percent:8.1f}")
        total = [one + other for one, other in zip(total, (rss, pss, percent), strict=True)]
    print(f"{'all together':24}{total[0]:8.0f}{total[1]:8.0f}{total[2]:8.1f}")


if __name__ == "__main__":
    main()

"""How much memory AutoFlow's processes take over a long backfill: ``python -m benchmarks.memory``."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import nbformat

from benchmarks.chaos import ROOT, processes
from examples.flowapi import ExampleFlowApi
from tests.postgres import free_port

LONG_LIVED = ("daemon", "Prefect server")
"""The processes that last as long as the backfill; kernels come and go."""


def resident_megabytes(marker: str) -> dict[str, float]:
    """Return how much memory each long-lived process holds, in MB."""
    found: dict[str, float] = {}
    for pid, kind in processes(marker).items():
        if kind in LONG_LIVED:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            found[kind] = max(found.get(kind, 0), pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    return found


def environment(inputs: Path, outputs: Path, flowapi: ExampleFlowApi) -> dict[str, str]:
    """Return the environment for a daemon, with nothing in it that AutoFlow or Prefect would take from ours."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AUTOFLOW", "PREFECT"))},
        "AUTOFLOW_INPUTS_DIR": str(inputs),
        "AUTOFLOW_OUTPUTS_DIR": str(outputs),
        "FLOWAPI_URL": flowapi.url,
        "FLOWAPI_TOKEN": flowapi.token(),
        "PREFECT_SERVER_API_PORT": str(free_port()),
    }


def write_inputs(inputs: Path) -> None:
    """Write a workflow of one notebook that does next to nothing."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("1 + 1")]
    nbformat.write(notebook, inputs / "trivial.ipynb")
    (inputs / "workflows.yml").write_text(
        "workflows: [{name: trivial, notebooks: {trivial: {filename: trivial.ipynb}}}]\n"
        "available_dates_sensor: {schedule: null, workflows: [{workflow_name: trivial}]}\n"
    )


def backfill(
    environ: Mapping[str, str], outputs: Path, options: argparse.Namespace
) -> list[tuple[int, dict[str, float]]]:
    """Run the backfill; return how much memory there was after so many dates."""
    samples: list[tuple[int, dict[str, float]]] = []
    wanted = list(range(options.step, options.dates + 1, options.step))
    with subprocess.Popen(
        [sys.executable, "-m", "autoflow"], cwd=ROOT, env=environ, stderr=subprocess.DEVNULL
    ) as daemon:
        while daemon.poll() is None and wanted:
            time.sleep(0.05)
            done = sum(1 for _ in (outputs / "notebooks").glob("*.ipynb"))
            if done >= wanted[0]:
                # The last sample before the end, because there is nothing left to look at after it.
                samples.append((done, resident_megabytes(str(outputs))))
                wanted.pop(0)
                print(done, {kind: round(size) for kind, size in samples[-1][1].items()}, flush=True)
        daemon.wait()
    return samples


def main() -> None:
    """Measure; fail if a process has grown by more than three tenths since the first step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dates", type=int, default=1000)
    parser.add_argument("--step", type=int, default=100)
    options = parser.parse_args()
    days = [date(2016, 1, 1) + timedelta(days=number) for number in range(options.dates)]
    with tempfile.TemporaryDirectory() as folder, ExampleFlowApi(dates=days, subscribers=50) as flowapi:
        inputs, outputs = Path(folder) / "inputs", Path(folder) / "outputs"
        (outputs / "notebooks").mkdir(parents=True)
        inputs.mkdir()
        write_inputs(inputs)
        environ = environment(inputs, outputs, flowapi)
        started = time.monotonic()
        samples = backfill(environ, outputs, options)
    print(f"{options.dates} dates in {time.monotonic() - started:.0f} s")
    first, last = samples[0][1], samples[-1][1]
    grown = {kind: last[kind] / size for kind, size in first.items() if kind in last}
    for kind, ratio in grown.items():
        print(f"{kind:<16}{first[kind]:>8.0f} MB{last[kind]:>8.0f} MB{ratio:>7.2f}")
    if any(ratio > 1.3 for ratio in grown.values()):  # noqa: PLR2004 - what is allowed
        sys.exit("memory grows")


if __name__ == "__main__":
    main()

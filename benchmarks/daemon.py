"""A daemon to measure: its inputs, its environment and its processes."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil

from autoflow.orchestration.prefect_api import free_port
from examples.flowapi import ExampleFlowApi

ROOT = Path(__file__).resolve().parent.parent

STOP_SECONDS = 20.0
"""How many seconds a daemon may take to exit when stopped, before it is killed."""

KINDS = {
    "autoflow.orchestration.prefect_server": "Prefect server",
    "autoflow.kernels.warm_process": "kernel server",
    "autoflow.page.readable": "page",
    "kernels/guard.py": "guard",
}
"""Words in the command lines of processes below the daemon, and the names of these processes."""


def clean_environ() -> dict[str, str]:
    """Return our environment without the variables that AutoFlow, Prefect and matplotlib read."""
    theirs = ("AUTOFLOW", "PREFECT", "FLOWAPI", "MPLBACKEND")
    return {name: value for name, value in os.environ.items() if not name.startswith(theirs)}


def environment(inputs: Path, outputs: Path, flowapi: ExampleFlowApi) -> dict[str, str]:
    """Return the environment for a daemon, without variables of ours that AutoFlow or Prefect read."""
    return clean_environ() | {
        "AUTOFLOW_INPUTS_DIR": str(inputs),
        "AUTOFLOW_OUTPUTS_DIR": str(outputs),
        "FLOWAPI_URL": flowapi.url,
        "FLOWAPI_TOKEN": flowapi.token(),
        "PREFECT_SERVER_API_PORT": str(free_port()),
    }


def write_inputs(inputs: Path) -> None:
    """Write a workflow with one trivial notebook."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell("1 + 1")]
    nbformat.write(notebook, inputs / "trivial.ipynb")
    (inputs / "workflows.yml").write_text(
        "workflows: [{name: trivial, notebooks: {trivial: {filename: trivial.ipynb}}}]\n"
        "available_dates_sensor: {schedule: null, workflows: [{workflow_name: trivial}]}\n"
    )


@contextmanager
def running_daemon(environ: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a daemon during the block, and stop it afterwards, by force if necessary. Its stderr goes to `log`."""
    with log.open("ab") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "autoflow"], cwd=ROOT, env=environ, stderr=stderr)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"the daemon did not exit within {STOP_SECONDS:g} s; killing it", file=sys.stderr)
            process.kill()
            process.wait()


def end_of(log: Path) -> str:
    """Return the end of `log`."""
    return log.read_text(errors="replace")[-2000:]


def kind_of(process: psutil.Process) -> str:
    """Return the name of a process below a daemon; raise psutil's errors if it is gone.

    Forked kernels and their guards have the command line of the kernel server, whose children they are.
    """
    command = " ".join(process.cmdline())
    return next((kind for word, kind in KINDS.items() if word in command), "other")


def children_by_kind(daemon: psutil.Process) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the daemon's own children that are still running, with their names."""
    with contextlib.suppress(psutil.Error):
        for child in daemon.children():
            with contextlib.suppress(psutil.Error):
                yield kind_of(child), child

"""The environment that tests give to kernels, and the processes that they leave."""

import os

import psutil

LITTLE_PRELOADED = {"AUTOFLOW_PRELOAD": "json"}
"""The setting with which kernels are forked from a process that starts five times as fast as by default."""


def steady_environ() -> dict[str, str]:
    """Return the environment without what pytest changes for each test.

    A kernel is forked only if it has the environment of the process that it is forked from.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def processes_at_work() -> set[psutil.Process]:
    """Return the processes below this one, without warm processes: one ends late if a file of its modules changes."""
    this = psutil.Process()
    return {each for each in this.children(recursive=True) if not _is_warm_process_of(this, each)}


def _is_warm_process_of(this: psutil.Process, child: psutil.Process) -> bool:
    try:
        return child.ppid() == this.pid and any("warm_process" in word for word in child.cmdline())
    except psutil.NoSuchProcess:
        return True

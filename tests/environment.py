"""The environment that tests give to kernels, and the processes that they leave."""

import os

import psutil
import pytest


def steady_environ() -> dict[str, str]:
    """Return the environment without what pytest changes for each test.

    A kernel is forked only if it has the environment of the process that it is forked from.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


def processes_at_work(request: pytest.FixtureRequest) -> set[psutil.Process]:
    """Return the processes below this one, without the warm process, which a new one replaces if a file changes."""
    server = request.getfixturevalue("fork_server") if "fork_server" in request.fixturenames else None
    warm = server.pid if server else None
    return {process for process in psutil.Process().children(recursive=True) if process.pid != warm}

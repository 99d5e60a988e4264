"""The environment that tests give to kernels."""

import os


def steady_environ() -> dict[str, str]:
    """Return the environment without what pytest changes for each test.

    A kernel is forked only if it has the environment of the process that it is forked from.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}

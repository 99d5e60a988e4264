"""What the tests of this folder share: a process from which all their kernels are forked, which saves time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoflow.kernels.fork_server import ForkServer
from tests.conftest import Deployed

FORK_SERVER = ForkServer(["scrapbook"], idle_seconds=600)
"""Does nothing before the first kernel. Kernels with another environment than the first one are not forked."""

FORK_SERVER.keep_private(
    [
        "AUTOFLOW_INPUTS_DIR",
        "AUTOFLOW_OUTPUTS_DIR",
        "AUTOFLOW_MAX_PARALLEL_RUNS",
        "AUTOFLOW_NOTEBOOK_TIMEOUT",
        "FLOWAPI_URL",
    ]
)


@pytest.fixture(scope="session", autouse=True)
def _fork_server_ends() -> Iterator[None]:
    with FORK_SERVER:
        yield


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home folder for all kernels, so that they have the same environment."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def deployed(deployed: Deployed, home: Path) -> Deployed:
    """Return the same with the shared home folder."""
    return replace(deployed, environ={**deployed.environ, "HOME": str(home)})

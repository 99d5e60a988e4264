import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoflow.kernels.fork_server import ForkServer
from tests.environment import processes_at_work, steady_environ
from tests.notebooks.running import Runner
from tests.waiting import LONG, wait_for

WITH_BOTH_KINDS = {"test_execution"}
"""The modules whose tests depend on how a kernel starts and ends."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run these with both kinds of kernels, the others with the kind that AutoFlow is set to use."""
    if "fork_server" in metafunc.fixturenames:
        kinds = ["ordinary" if os.environ.get("AUTOFLOW_FORKED_KERNELS") == "false" else "forked"]
        if metafunc.module.__name__.rpartition(".")[2] in WITH_BOTH_KINDS:
            kinds = ["ordinary", "forked"]
        metafunc.parametrize("fork_server", kinds, indirect=True, scope="package")


@pytest.fixture(scope="package")
def fork_server(request: pytest.FixtureRequest) -> Iterator[ForkServer | None]:
    if request.param == "ordinary":
        yield None
        return
    with pytest.MonkeyPatch.context() as monkeypatch, ForkServer(idle_seconds=600) as server:
        monkeypatch.setattr("autoflow.kernels.fork_server.FORK_TIMEOUT", LONG)
        server.warm_up(steady_environ())
        assert server.wait_until_warm(LONG)
        yield server


def state_of_process() -> tuple[object, ...]:
    return Path.cwd(), steady_environ(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    assert tmp_path.exists()  # made before the folder for temporary files changes
    processes = processes_at_work()
    before = state_of_process()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield
        assert list(Path(folder).iterdir()) == []
    wait_for(lambda: processes_at_work() <= processes)
    monkeypatch.undo()
    assert state_of_process() == before


@pytest.fixture
def run(tmp_path: Path, fork_server: ForkServer | None) -> Runner:
    return Runner(tmp_path, fork_server)

"""The port on which a worker listens."""

import socket

import pytest

from autoflow.cli import main
from tests.cluster.conftest import Farm


def test_worker_listens_on_the_port_in_the_settings(farm: Farm) -> None:
    worker = farm.members[2]
    assert f"registered as tls://127.0.0.1:{worker.environ['AUTOFLOW_WORKER_PORT']} " in worker.text


@pytest.mark.usefixtures("log_as_before")
def test_worker_whose_port_is_taken_says_so(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["worker"], {**farm.environ_of("worker"), "AUTOFLOW_WORKER_PORT": port}) == 1
    problem = f"AUTOFLOW_WORKER_PORT: the worker cannot use port {port}: Address already in use"
    assert problem in capsys.readouterr().err

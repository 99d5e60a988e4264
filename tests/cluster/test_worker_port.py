"""The port on which a worker listens."""

import socket

from autoflow.orchestration.prefect_api import free_port
from tests.cluster.conftest import Farm
from tests.waiting import LONG


def test_worker_listens_on_the_port_in_the_settings(bare_farm: Farm) -> None:
    port = free_port()
    with bare_farm.worker(AUTOFLOW_WORKER_PORT=str(port)) as worker:
        assert f"registered as tls://127.0.0.1:{port} " in worker.text


def test_worker_whose_port_is_taken_says_so(bare_farm: Farm) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with bare_farm.member("worker", AUTOFLOW_WORKER_PORT=str(port)) as worker:
            assert worker.process.wait(LONG) == 1
    assert f"AUTOFLOW_WORKER_PORT: the worker cannot use port {port}: Address already in use" in worker.text

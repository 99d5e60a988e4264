"""Who gets into a cluster, and what its scheduler knows."""

import dataclasses
import datetime
import re
import signal
import socket
import ssl
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from autoflow.cli import main
from autoflow.cluster import inspected_cluster
from autoflow.cluster.authority import make_certificates
from autoflow.errors import ClusterError
from autoflow.runs.records import RunState
from autoflow.specs import NotebookSpec
from tests.cluster.conftest import Farm, Member, daemon_of, run_of
from tests.postgres import WORKERS_PASSWORD, Postgres
from tests.waiting import wait_for

CHUNK = 1 << 24


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the settings of someone with certificates of another CA."""
    folder = tmp_path_factory.mktemp("stranger")
    list(make_certificates(folder, datetime.datetime.now(datetime.UTC), days=30))
    return {"AUTOFLOW_DASK_CA": str(folder / "ca.pem"), "AUTOFLOW_DASK_CERT": str(folder / "worker.pem")}


def scheduler_of(farm: Farm) -> Member:
    return farm.members[0]


def ports_of(member: Member) -> Iterator[int]:
    """Yield the ports on which a process listens."""
    for connection in psutil.Process(member.process.pid).net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN:
            yield connection.laddr.port


def answer(port: int, certificate: Path | None) -> bytes:
    """Return what a port answers to a stranger, who speaks TLS if he has a certificate; empty if it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        if certificate is None:
            plain.sendall(bytes(64))
            with suppress(ConnectionResetError):
                return plain.recv(64)
            return b""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(certificate)
        with context.wrap_socket(plain) as encrypted:
            return encrypted.recv(64)


@pytest.mark.parametrize("verb", ["scheduler", "worker", "start"])
@pytest.mark.usefixtures("log_as_before")
def test_nothing_starts_beyond_loopback_without_certificates(
    farm: Farm, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for address, problem in (
        ("tcp://192.0.2.7:8786", "AUTOFLOW_DASK_SCHEDULER: 'tcp://192.0.2.7:8786' is not encrypted"),
        ("tls://192.0.2.7:8786", "AUTOFLOW_DASK_CA and AUTOFLOW_DASK_CERT are not set"),
    ):
        bare = {"AUTOFLOW_DASK_SCHEDULER": address, "AUTOFLOW_DASK_CA": "", "AUTOFLOW_DASK_CERT": ""}
        assert main([verb], {**farm.environ, **bare}) == 1
        printed = capsys.readouterr().err
        (line,) = [line for line in printed.splitlines() if "cannot start" in line or "AUTOFLOW_DASK" in line]
        assert problem in line
        assert "Traceback" not in printed


def test_strangers_get_no_answer_from_scheduler_and_workers(farm: Farm, stranger: dict[str, str]) -> None:
    settings = farm.settings()
    state = inspected_cluster(settings)
    assert state
    addresses = [state.scheduler, *(worker.address for worker in state.workers)]
    assert len(addresses) >= 3
    for address in addresses:
        port = int(address.rpartition(":")[2])
        assert answer(port, None) == b""
        with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"):
            answer(port, Path(stranger["AUTOFLOW_DASK_CERT"]))
        # Without any certificate.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
            pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"),
            context.wrap_socket(plain) as encrypted,
        ):
            encrypted.recv(64)


def test_daemon_and_worker_with_the_certificate_of_a_stranger_get_nowhere(farm: Farm, stranger: dict[str, str]) -> None:
    with pytest.raises(ClusterError, match="does not respond"):
        inspected_cluster(farm.settings(**stranger))
    before = inspected_cluster(farm.settings())
    ca, certificate = stranger["AUTOFLOW_DASK_CA"], stranger["AUTOFLOW_DASK_CERT"]
    with farm.member("worker", AUTOFLOW_DASK_CA=ca, AUTOFLOW_DASK_CERT=certificate) as worker:
        wait_for(lambda: "cannot register with the scheduler" in worker.text)
        assert "registered as" not in worker.text
        after = inspected_cluster(farm.settings())
    assert before
    assert after
    assert {each.address for each in after.workers} == {each.address for each in before.workers}


def memory_of(pid: int) -> Iterator[bytes]:
    """Yield the memory of a process in overlapping pieces."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for first, last in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) r", maps, re.MULTILINE):
            for start in range(int(first, 16), int(last, 16), CHUNK):
                memory.seek(start)
                try:
                    yield memory.read(min(CHUNK + 4096, int(last, 16) - start))
                except OSError:
                    break  # such as the kernel's own pages


def those_in(pieces: Iterable[bytes], texts: Iterable[str]) -> set[str]:
    wanted = {text: text.encode() for text in texts}
    return {text for piece in pieces for text, content in wanted.items() if content in piece}


def test_scheduler_learns_no_secret_from_the_runs_that_it_has_carried(farm: Farm, postgres: Postgres) -> None:
    secrets = {name: f"{name}-{uuid.uuid4().hex}" for name in ("password", "token", "notify", "parameter")}
    role = f"daemon_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.conninfo("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{secrets['password']}'")
    database = farm.environ["AUTOFLOW_DB_URI"].rpartition("@")[2]
    environ = {
        "AUTOFLOW_DB_URI": f"postgresql://{role}:{{}}@{database}",
        "AUTOFLOW_DB_PASSWORD": secrets["password"],
        "FLOWAPI_TOKEN": secrets["token"],
        "AUTOFLOW_NOTIFY_URLS": f"json://user:{secrets['notify']}@127.0.0.1:9",
    }
    keys = [(farm.certificates / f"{name}.pem").read_text().splitlines()[-3] for name in ("worker", "daemon")]
    notebook = NotebookSpec(
        label="n",
        path=farm.notebook("import os\nprint(unit, len(os.environ['FLOWAPI_TOKEN']))"),
        parameters={"unit": "unit"},
    )
    run = dataclasses.replace(run_of(notebook), parameters={"unit": secrets["parameter"]})
    with farm.worker(FLOWAPI_TOKEN=secrets["token"]) as worker, daemon_of(farm, workers=3, **environ) as daemon:
        assert daemon.run(run) is RunState.SUCCEEDED
        pid = scheduler_of(farm).process.pid
        hidden = [*(secrets[name] for name in ("password", "token", "notify")), WORKERS_PASSWORD, *keys]
        # What it carries is there, so it was searched.
        assert those_in(memory_of(pid), [*hidden, secrets["parameter"]]) == {secrets["parameter"]}
        assert those_in([Path(f"/proc/{pid}/environ").read_bytes()], hidden) == set()
        worker.signal(signal.SIGTERM)
    logs = "".join(member.text for member in farm.members)
    assert not [secret for secret in (*hidden, secrets["parameter"]) if secret in logs]


def test_http_of_scheduler_and_workers_says_that_they_are_alive_and_no_more(farm: Farm) -> None:
    state = inspected_cluster(farm.settings())
    assert state
    encrypted = {int(each.rpartition(":")[2]) for each in (state.scheduler, *(w.address for w in state.workers))}
    paths = (
        "info/main/workers.html",
        "json/counts.json",
        "json/identity.json",
        "metrics",
        "sitemap.json",
        "status",
        "",
    )
    for member in farm.members[:3]:
        others = set(ports_of(member)) - encrypted
        assert len(others) <= 1
        for port in others:
            answers = {path: httpx.get(f"http://127.0.0.1:{port}/{path}", timeout=20) for path in paths}
            assert {path for path, each in answers.items() if each.status_code != 404} == {"sitemap.json"}
            assert sorted(answers["sitemap.json"].json()["paths"]) == ["/health", "/sitemap.json"]
            assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=20).text == "ok"

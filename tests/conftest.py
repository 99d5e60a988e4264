"""What the tests share: a PostgreSQL, a FlowAPI, a Prefect server, and inputs folders to run.

Prefect reads its settings from the environment as it is imported, which is why that is prepared here, at the top.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psycopg
import pytest

from autoflow.prefect_api import PrefectServer, client_environment, server_environment
from autoflow.settings import Settings
from autoflow.stop_signal import Shutdown
from examples.flowapi import ExampleFlowApi

TOKEN_OF_NO_USE = "a.b.c-a-token-that-no-flowapi-takes"


def free_port() -> int:
    """Return a TCP port that nobody listens on at the moment."""
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


_PREFECT_PORT = free_port()
_PREFECT_HOME = Path(tempfile.mkdtemp(prefix="autoflow-tests-prefect-"))


def _prefect_settings() -> Settings:
    environ = {
        "AUTOFLOW_INPUTS_DIR": str(Path(__file__).resolve().parent.parent / "examples" / "inputs"),
        "AUTOFLOW_OUTPUTS_DIR": str(_PREFECT_HOME),
        "FLOWAPI_URL": "http://127.0.0.1:9",
        "FLOWAPI_TOKEN": TOKEN_OF_NO_USE,
        "PREFECT_HOME": str(_PREFECT_HOME),
    }
    return Settings.read(environ)


os.environ.update(client_environment(_prefect_settings(), f"http://127.0.0.1:{_PREFECT_PORT}/api"))


@pytest.fixture(scope="session")
def prefect_url() -> Iterator[str]:
    """Run AutoFlow's Prefect server while the session lasts; the URL of its API."""
    from autoflow.deployments import closing_prefect, do_without_heartbeats  # noqa: PLC0415 - it imports Prefect
    from autoflow.prefect_api import PrefectApi  # noqa: PLC0415

    environment = server_environment(_prefect_settings(), os.environ, _PREFECT_PORT)
    url = f"http://127.0.0.1:{_PREFECT_PORT}/api"
    do_without_heartbeats()
    with PrefectServer(environment, _PREFECT_HOME / "server.log") as server:
        PrefectApi(url, server).wait_until_ready(Shutdown())
        with closing_prefect():
            yield url
    shutil.rmtree(_PREFECT_HOME, ignore_errors=True)


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server of the tests' own, whose user `autoflow` may do everything."""

    port: int
    folder: Path
    user: str | None

    def uri(self, password: str = "autoflow") -> str:
        """Make a new, empty database and return its URI."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://autoflow:{password}@127.0.0.1:{self.port}/{name}"

    def set_password(self, password: str) -> None:
        """Give the user `autoflow` another password."""
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("ALTER USER autoflow PASSWORD {}").format(password))

    def _conninfo(self, database: str) -> str:
        return f"host={self.folder} port={self.port} user=autoflow dbname={database}"

    def control(self, *arguments: str) -> None:
        """Call pg_ctl, for instance to `stop` or `start` the server."""
        log = self.folder / "log"
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        command = [
            str(_postgres_program("pg_ctl")),
            "-D",
            str(self.folder / "data"),
            "-l",
            str(log),
            "-w",
            "-o",
            options,
        ]
        subprocess.run([*self.prefix, *command, *arguments], check=True, capture_output=True, cwd=self.folder)

    @property
    def prefix(self) -> Sequence[str]:
        """What to put before a command, so that PostgreSQL does not run as root, which it refuses."""
        return ("setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--") if self.user else ()


def _postgres_program(name: str) -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")) or [Path(str(shutil.which(name)))]
    return found[-1]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL on loopback while the session lasts, with passwords checked over TCP."""
    user = "postgres" if os.getuid() == 0 else None
    # Not pytest's own folder, which other users may not enter, and whose path is too long for a socket's.
    folder = Path(tempfile.mkdtemp(prefix="autoflow-pg-", dir="/tmp"))
    server = Postgres(port=free_port(), folder=folder, user=user)
    (folder / "password").write_text("autoflow")
    (folder / "log").touch()
    if user:
        account = pwd.getpwnam(user)
        for path in (folder, folder / "password", folder / "log"):
            os.chown(path, account.pw_uid, account.pw_gid)
    initdb = [str(_postgres_program("initdb")), "-D", str(folder / "data"), "-U", "autoflow", "--no-sync", "-E", "UTF8"]
    security = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={folder / 'password'}"]
    subprocess.run([*server.prefix, *initdb, *security], check=True, capture_output=True, cwd=folder)
    server.control("start")
    try:
        yield server
    finally:
        server.control("stop", "-m", "immediate")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def example_flowapi() -> Iterator[ExampleFlowApi]:
    """Run the example FlowAPI while the session lasts; tests that change it put it back, or start one of their own."""
    with ExampleFlowApi() as flowapi:
        yield flowapi


PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}


def write_notebook(
    path: Path, *cells: str, parameters: str | None = None, kernelspec: Mapping[str, str] | None = PYTHON
) -> Path:
    """Write a notebook with code `cells`; `parameters` is the source of its cell tagged so, if it is to have one."""
    notebook = nbformat.v4.new_notebook()
    if parameters is not None:
        notebook.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    notebook.cells += [nbformat.v4.new_code_cell(textwrap.dedent(cell).strip()) for cell in cells]
    if kernelspec is not None:
        notebook.metadata["kernelspec"] = dict(kernelspec)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


@dataclass(frozen=True)
class Deployed:
    """Folders as an operator makes them, and the environment that goes with them."""

    inputs: Path
    outputs: Path
    environ: Mapping[str, str]

    def settings(self, **environ: str) -> Settings:
        """Return the settings, with some of the environment changed."""
        return Settings.read({**self.environ, **environ})

    def write_workflows(self, text: str) -> None:
        """Write workflows.yml."""
        (self.inputs / "workflows.yml").write_text(textwrap.dedent(text), encoding="utf-8")

    def executed(self) -> list[Path]:
        """Return the executed notebooks, sorted by name."""
        return sorted((self.outputs / "notebooks").glob("*"))

    def reports(self) -> list[Path]:
        """Return the reports, sorted by name."""
        return sorted((self.outputs / "reports").glob("*"))


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    """Return empty folders, and an environment with nothing but what AutoFlow needs (and PATH)."""
    inputs, outputs = tmp_path / "inputs", tmp_path / "outputs"
    for folder in (inputs, outputs, outputs / "notebooks", outputs / "reports"):
        folder.mkdir()
    (inputs / "workflows.yml").touch()
    environ = {
        "AUTOFLOW_INPUTS_DIR": str(inputs),
        "AUTOFLOW_OUTPUTS_DIR": str(outputs),
        "FLOWAPI_URL": "http://127.0.0.1:9",
        "FLOWAPI_TOKEN": TOKEN_OF_NO_USE,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }
    return Deployed(inputs, outputs, environ)

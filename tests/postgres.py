"""A separate PostgreSQL server, for tests and benchmarks."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from autoflow.orchestration.prefect_api import free_port
from autoflow.settings import CONFIG_DIR
from tests.waiting import wait_for

WORKERS_PASSWORD = "a-password-for-the-role-of-workers"


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server for tests, whose user `autoflow` may do everything. It listens on `address`, too."""

    port: int
    folder: Path
    user: str | None
    address: str = "127.0.0.1"

    def uri(self, password: str = "autoflow") -> str:
        """Make a new, empty database and return its URI."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://autoflow:{password}@127.0.0.1:{self.port}/{name}"

    def set_password(self, password: str) -> None:
        """Give the user `autoflow` another password."""
        with psycopg.connect(self.conninfo("postgres"), autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("ALTER USER autoflow PASSWORD {}").format(password))

    def conninfo(self, database: str) -> str:
        """Return how to connect to a database past its password."""
        return f"host={self.folder} port={self.port} user=autoflow dbname={database}"

    def control(self, *arguments: str) -> None:
        """Call pg_ctl, for instance to `stop` or `start` the server."""
        log = self.folder / "log"
        options = f"-p {self.port} -k {self.folder} -c listen_addresses={self._addresses} -c fsync=off"
        # For benchmarks with hundreds of workers.
        options += " -c max_connections=400"
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
    def _addresses(self) -> str:
        return ",".join(sorted({"127.0.0.1", self.address}))

    @property
    def prefix(self) -> Sequence[str]:
        """What to put before a command, so that PostgreSQL does not run as root, which it refuses."""
        return ("setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups", "--") if self.user else ()


def _postgres_program(name: str) -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}")) or [Path(str(shutil.which(name)))]
    return found[-1]


@contextmanager
def running_postgres(address: str = "127.0.0.1") -> Iterator[Postgres]:
    """Run a PostgreSQL on loopback while the block lasts, with passwords checked over TCP.

    It listens on `address` as well, for hosts of the same network.
    """
    user = "postgres" if os.getuid() == 0 else None
    # Not pytest's own folder, which other users may not enter, and whose path is too long for a socket's.
    folder = Path(tempfile.mkdtemp(prefix="autoflow-pg-", dir="/tmp"))
    server = Postgres(port=free_port(), folder=folder, user=user, address=address)
    (folder / "password").write_text("autoflow")
    (folder / "log").touch()
    if user:
        account = pwd.getpwnam(user)
        for path in (folder, folder / "password", folder / "log"):
            os.chown(path, account.pw_uid, account.pw_gid)
    initdb = [str(_postgres_program("initdb")), "-D", str(folder / "data"), "-U", "autoflow", "--no-sync", "-E", "UTF8"]
    security = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={folder / 'password'}"]
    subprocess.run([*server.prefix, *initdb, *security], check=True, capture_output=True, cwd=folder)
    with (folder / "data" / "pg_hba.conf").open("a") as access:
        access.write("host all all samenet scram-sha-256\n")
    server.control("start")
    try:
        yield server
    finally:
        server.control("stop", "-m", "immediate")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_pgbouncer(server: Postgres) -> Iterator[int]:
    """Run a PgBouncer in transaction mode before `server`, with two connections to it; yield its port."""
    folder = Path(tempfile.mkdtemp(prefix="autoflow-bouncer-", dir="/tmp"))
    port = free_port()
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "plain",
        "auth_file": folder / "users",
        "pool_mode": "transaction",
        "default_pool_size": 2,
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    databases = f"* = host=127.0.0.1 port={server.port}"
    (folder / "bouncer.ini").write_text("\n".join(["[databases]", databases, "[pgbouncer]", *lines]) + "\n")
    (folder / "users").write_text('"autoflow" "autoflow"\n')
    if server.user:
        account = pwd.getpwnam(server.user)
        for path in (folder, *folder.iterdir()):
            os.chown(path, account.pw_uid, account.pw_gid)
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    command = [*server.prefix, str(program), "-q", str(folder / "bouncer.ini")]
    with (folder / "log").open("w") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as bouncer:
        try:
            wait_for(lambda: is_listening(port))
            yield port
        finally:
            bouncer.terminate()
    shutil.rmtree(folder, ignore_errors=True)


def is_listening(port: int) -> bool:
    """Return whether something listens on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def make_role(uri: str, folder: Path, password: str) -> "subprocess.CompletedProcess[str]":
    """Make the role of workers in a database, as an operator does."""
    file = folder / "password"
    file.write_text(password)
    environ = os.environ | {"AUTOFLOW_WORKER_DB_PASSWORD_FILE": str(file)}
    command = ["psql", "--no-psqlrc", f"--dbname={uri}", f"--file={CONFIG_DIR / 'worker-role.sql'}"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

"""A cluster on one machine, for benchmarks, each part of it on a host of its own, which can be cut off.

As root, hosts are network namespaces on a bridge. Otherwise they share loopback, and each has a proxy before whatever
it connects to. Nothing of it is left at the end, even if the benchmark is killed.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import urlsplit

from autoflow.cluster.authority import make_certificates
from autoflow.model.opening import open_run_store
from autoflow.orchestration.prefect_api import free_port
from autoflow.settings import Settings
from benchmarks.daemon import ROOT, STOP_SECONDS, clean_environ
from examples.flowapi import ExampleFlowApi
from tests.lives import HOST
from tests.postgres import WORKERS_PASSWORD, make_role, running_postgres
from tests.proxies import Proxy
from tests.waiting import wait_for

DATABASE, SCHEDULER, FLOWAPI = "database", "scheduler", "flowapi"

HUB = "10.77.0.1"
"""The address of the host with the database and FlowAPI."""

CLONE_NEWNET = 0x40000000


class Network(Protocol):
    """The hosts, by name; the database and FlowAPI are on one host, the scheduler on that with its name."""

    @property
    def listens_on(self) -> str:
        """The address for the database and FlowAPI to listen on."""

    @property
    def what(self) -> str:
        """What each host has, in words."""

    def add(self, host: str) -> None:
        """Add a host."""

    def serve(self, service: str, port: int) -> None:
        """Have a service listen on a port of its host."""

    def has(self, service: str) -> bool:
        """Return whether there is such a service."""

    def reach(self, service: str, *, host: str) -> str:
        """Return the address and port at which a host reaches a service."""

    def command(self, host: str) -> Sequence[str]:
        """Return what to put before a command so that it runs on a host."""

    def cut(self, host: str, service: str | None = None) -> None:
        """Let nothing pass between a host and a service, or all others."""

    def join(self, host: str) -> None:
        """Let everything pass again."""


class Namespaces:
    """Hosts as network namespaces. This process enters that of the database and FlowAPI until the end of the block.

    A namespace is that of a small process, and ends with the last process in it.
    """

    listens_on = HUB
    what = "a network namespace"

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        """Make the host of the database, and enter it."""
        before = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._stack.callback(os.close, before)
        self._hold("hub")
        self._ip("hub", "link", "add", "br0", "type", "bridge")
        self._ip("hub", "addr", "add", f"{HUB}/24", "dev", "br0")
        self._ip("hub", "link", "set", "br0", "up")
        with open(f"/proc/{self._holders['hub'].pid}/ns/net") as hub:
            _enter(hub.fileno())
        self._stack.callback(_enter, before)
        return self

    def __exit__(self, *_: object) -> None:
        """Return to the namespace of before, and let go of all others."""
        self._stack.close()

    def add(self, host: str) -> None:
        """Make its namespace, and plug it into the bridge."""
        self._hold(host)
        number = len(self._holders) - 1
        hub, own = (str(self._holders[name].pid) for name in ("hub", host))
        link = ["link", "add", self._port_of(host), "netns", hub, "type", "veth", "peer", "name", "eth0", "netns", own]
        subprocess.run(["ip", *link], check=True)
        self._ip("hub", "link", "set", self._port_of(host), "master", "br0", "up")
        self._ip(host, "addr", "add", f"{self._address(number)}/24", "dev", "eth0")
        self._ip(host, "link", "set", "eth0", "up")

    def serve(self, service: str, port: int) -> None:
        """Note the port."""
        self._ports[service] = port

    def has(self, service: str) -> bool:
        """Return whether its port is noted."""
        return service in self._ports

    def reach(self, service: str, *, host: str) -> str:
        """Return the address of its host."""
        del host
        return f"{self._address_of(service)}:{self._ports[service]}"

    def command(self, host: str) -> Sequence[str]:
        """Return how to enter its namespace."""
        return ["nsenter", f"--net=/proc/{self._holders[host].pid}/ns/net", "--"]

    def cut(self, host: str, service: str | None = None) -> None:
        """Take its link down, or lead what is for the service nowhere."""
        if service is None:
            self._ip("hub", "link", "set", self._port_of(host), "down")
        else:
            self._ip(host, "route", "replace", "blackhole", f"{self._address_of(service)}/32")

    def join(self, host: str) -> None:
        """Undo every cut."""
        self._ip("hub", "link", "set", self._port_of(host), "up")
        for service in (DATABASE, SCHEDULER):
            command = ["ip", "route", "del", "blackhole", f"{self._address_of(service)}/32"]
            subprocess.run([*self.command(host), *command], check=False, stderr=subprocess.DEVNULL)

    def _address_of(self, service: str) -> str:
        return self._address([*self._holders].index(SCHEDULER)) if service == SCHEDULER else HUB

    @staticmethod
    def _address(number: int) -> str:
        return f"10.77.0.{10 + number}"

    def _port_of(self, host: str) -> str:
        return f"v{[*self._holders].index(host)}"

    def _hold(self, host: str) -> None:
        """Make a namespace that lasts until the block or this process ends."""
        command = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo && exec cat"]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._stack.callback(holder.communicate)
        assert holder.stdout
        assert holder.stdout.readline() == b"\n", "there are no network namespaces here"
        self._holders[host] = holder

    def _ip(self, host: str, *arguments: str) -> None:
        subprocess.run([*self.command(host), "ip", *arguments], check=True)


class Loopback:
    """Hosts that share loopback: each has proxies before the services."""

    listens_on = "127.0.0.1"
    what = "proxies on loopback"

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._ports: dict[str, int] = {}
        self._proxies: dict[tuple[str, str], Proxy] = {}

    def __enter__(self) -> Self:
        """Do nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all proxies."""
        self._stack.close()

    def add(self, host: str) -> None:
        """Do nothing: its proxies are made when they are asked for."""

    def serve(self, service: str, port: int) -> None:
        """Note the port."""
        self._ports[service] = port

    def has(self, service: str) -> bool:
        """Return whether its port is noted."""
        return service in self._ports

    def reach(self, service: str, *, host: str) -> str:
        """Return the port of a proxy, which is made if necessary."""
        # A scheduler listens on what it is given.
        if host == service:
            return f"127.0.0.1:{self._ports[service]}"
        if (host, service) not in self._proxies:
            self._proxies[host, service] = self._stack.enter_context(Proxy(self._ports[service]))
        return f"127.0.0.1:{self._proxies[host, service].port}"

    def command(self, host: str) -> Sequence[str]:
        """Return nothing: all share one namespace."""
        del host
        return []

    def cut(self, host: str, service: str | None = None) -> None:
        """Stall its proxies."""
        for proxy in self._between(host, service):
            proxy.stall()

    def join(self, host: str) -> None:
        """Undo every cut."""
        for proxy in self._between(host, None):
            proxy.resume()

    def _between(self, host: str, service: str | None) -> Iterator[Proxy]:
        for (theirs, ours), proxy in self._proxies.items():
            if (theirs == host and service in {ours, None}) or ours == host:
                yield proxy


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


def can_use_namespaces() -> bool:
    """Return whether this process may make network namespaces."""
    with suppress(OSError):
        return not subprocess.run(["unshare", "--net", "ip", "link"], capture_output=True, check=False).returncode
    return False


@dataclass
class Part:
    """A process of the cluster with the name of its host; it runs from `start` to `end`."""

    host: str
    command: Sequence[str]
    environ: Mapping[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> None:
        """Start it, unless it runs; append to its log."""
        if not self.is_running:
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self.command, cwd=ROOT, env=self.environ, stdout=log, stderr=log, start_new_session=True
                )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.process:
            self.process.send_signal(number)

    def end(self, seconds: float = STOP_SECONDS) -> None:
        """Have it end; kill it if that takes too long."""
        if self.process is None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class ClusterHosts:
    """A cluster that runs: a scheduler and workers, to which daemons can be added. Its database is at `uri`."""

    network: Network
    folder: Path
    environ: Mapping[str, str]
    uri: str
    scheduler: Part
    workers: Sequence[Part]
    stack: ExitStack = field(repr=False)

    @property
    def inputs(self) -> Path:
        """The inputs folder."""
        return self.folder / "inputs"

    @property
    def outputs(self) -> Path:
        """The outputs folder."""
        return self.folder / "outputs"

    def daemon_environ(self, host: str) -> Mapping[str, str]:
        """Return the environment of a daemon on a host."""
        database = self.uri.rpartition("/")[2]
        own = {
            "AUTOFLOW_DB_URI": f"postgresql://autoflow:autoflow@{self.network.reach(DATABASE, host=host)}/{database}",
            "PREFECT_HOME": str(self.folder / f"prefect-{host}"),
            "PREFECT_SERVER_API_PORT": str(free_port()),
        }
        return _environ_of(self.network, self.folder, host, "daemon", self.environ) | own

    def daemon(
        self, number: int = 0, *, flowapi: ExampleFlowApi | None = None, environ: Mapping[str, str] | None = None
    ) -> Part:
        """Return a daemon on a new host, which does not run yet, and is ended at the end of the block.

        `environ` has variables that only it gets. If it has a `flowapi` of its own, that listens on the address of the
        network.
        """
        host = f"daemon{number}"
        self.network.add(host)
        own = {**self.daemon_environ(host), **(environ or {})}
        if flowapi:
            self.network.serve(FLOWAPI, int(flowapi.url.rpartition(":")[2]))
            own["FLOWAPI_URL"] = f"http://{self.network.reach(FLOWAPI, host=host)}"
            own["FLOWAPI_TOKEN"] = flowapi.token()
        part = _part(self.network, host, [], own, self.folder)
        self.stack.callback(part.end)
        return part


def _environ_of(network: Network, folder: Path, host: str, role: str, environ: Mapping[str, str]) -> dict[str, str]:
    certificates = folder / "certificates"
    return clean_environ() | {
        "AUTOFLOW_INPUTS_DIR": str(folder / "inputs"),
        "AUTOFLOW_OUTPUTS_DIR": str(folder / "outputs"),
        "AUTOFLOW_DASK_SCHEDULER": f"tls://{network.reach(SCHEDULER, host=host)}",
        "AUTOFLOW_DASK_CA": str(certificates / "ca.pem"),
        "AUTOFLOW_DASK_CERT": str(certificates / f"{role}.pem"),
        HOST: host,
        "FLOWAPI_URL": f"http://{network.reach(FLOWAPI, host=host)}" if network.has(FLOWAPI) else "http://127.0.0.1:9",
        "FLOWAPI_TOKEN": "none",
        **environ,
    }


def _part(network: Network, host: str, verb: Sequence[str], environ: Mapping[str, str], folder: Path) -> Part:
    command = [*network.command(host), "setpriv", "--pdeathsig=KILL", "--", sys.executable, "-m", "autoflow", *verb]
    return Part(host, command, environ, folder / f"{host}.log")


@contextmanager
def running_cluster(
    folder: Path,
    *,
    workers: int,
    environ: Mapping[str, str],
    namespaces: bool | None = None,
    dates: Sequence[date] = (),
) -> Iterator[ClusterHosts]:
    """Run a database, a scheduler and workers for the duration of the block, from when all are ready.

    All of them, and daemons, get `environ`, for instance AUTOFLOW_WORKER_SLOTS. The inputs folder is in `folder`, and
    has an empty workflows.yml. Without `namespaces`, they are used where that is possible. With `dates`, all get the
    address of a FlowAPI that has them.
    """
    if namespaces is None:
        namespaces = can_use_namespaces()
    for name in ("inputs", "outputs/notebooks", "outputs/reports"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "inputs" / "workflows.yml").touch()
    list(make_certificates(folder / "certificates", datetime.now(UTC), days=30))
    with ExitStack() as stack:
        network = stack.enter_context(Namespaces()) if namespaces else stack.enter_context(Loopback())
        postgres = stack.enter_context(running_postgres(network.listens_on))
        uri = postgres.uri()
        network.serve(DATABASE, postgres.port)
        if dates:
            flowapi = stack.enter_context(ExampleFlowApi(dates, host=network.listens_on, executing_seconds=0.5))
            network.serve(FLOWAPI, urlsplit(flowapi.url).port or 0)
            environ = {**environ, "FLOWAPI_TOKEN": flowapi.token()}
        network.serve(SCHEDULER, free_port())
        hosts = [SCHEDULER, *(f"worker{number}" for number in range(workers))]
        for host in hosts:
            network.add(host)
        with open_run_store(Settings.read(_environ_of(network, folder, SCHEDULER, "daemon", {"AUTOFLOW_DB_URI": uri}))):
            pass
        made = make_role(uri, folder, WORKERS_PASSWORD)
        assert made.returncode == 0, made.stderr
        database = uri.rpartition("/")[2]
        parts = [_part_of(network, folder, host, database, environ) for host in hosts]
        cluster = ClusterHosts(network, folder, environ, uri, parts[0], parts[1:], stack)
        for part, ready in zip(parts, ["is ready", *(["registered as"] * workers)], strict=True):
            stack.callback(part.end)
            start(part, ready)
        yield cluster


def start(part: Part, ready: str) -> None:
    """Start a part, and wait until its log says that it is ready."""
    part.start()
    wait_for(lambda: ready in part.text or not part.is_running)
    assert part.is_running, part.text


def _part_of(network: Network, folder: Path, host: str, database: str, environ: Mapping[str, str]) -> Part:
    role = "scheduler" if host == SCHEDULER else "worker"
    own = _environ_of(network, folder, host, role, environ)
    if role == "worker":
        address = network.reach(DATABASE, host=host)
        own["AUTOFLOW_DB_URI"] = f"postgresql://autoflow_worker:{WORKERS_PASSWORD}@{address}/{database}"
    return _part(network, host, [role], own, folder)

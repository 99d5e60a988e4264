"""Faults of workers, daemons, the scheduler and the database, judged by a log that the kernels write.

Everything reaches the scheduler and the database through proxies on loopback, which can stall as a cut network does.
"""

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from autoflow.errors import RunStoreError
from autoflow.parser import read_workflows
from autoflow.runs.records import RunState
from autoflow.runs.run import WorkflowRun
from autoflow.system.log import logger
from examples.flowapi import ExampleFlowApi
from tests.cluster.conftest import DATE, ROOT, Daemon, Farm, Member, daemon_of, running_farm
from tests.conftest import write_notebook
from tests.disks import FILLER, fill, small_disk
from tests.lives import HOST, Life, code_of_life, complaints, read_lives, visible_files
from tests.postgres import WORKERS_PASSWORD, Postgres
from tests.proxies import Proxy
from tests.waiting import LONG, wait_for

WORKERS = ("worker_killed", "worker_stopped", "worker_without_scheduler", "worker_without_database", "worker_cut_off")

DAEMONS = (
    "daemon_killed",
    "daemon_stopped",
    "daemon_without_scheduler",
    "daemon_without_database",
    "daemon_cut_off",
    "alone_stopped",
)
"""The last one is an AutoFlow without a cluster."""

PAUSE = 0.5
"""How often the log of the kernels is read, and how often stand-bys try to take a run over, in seconds."""

OTHERS = ("scheduler_stopped", "scheduler_killed", "database_cut_off")


@dataclass
class Host:
    """A process that reaches the scheduler and the database by a way of its own."""

    name: str
    scheduler: Proxy
    database: Proxy
    environ: Mapping[str, str]
    member: Member | None = None

    def harm(self) -> None:
        """Do to it what its name says."""
        assert self.member
        match self.name.partition("_")[2]:
            case "killed":
                self.member.kill()
            case "stopped":
                self.member.signal(signal.SIGSTOP)
            case "without_scheduler":
                self.scheduler.stall()
            case "without_database":
                self.database.stall()
            case "cut_off":
                self.scheduler.stall()
                self.database.stall()

    def heal(self) -> None:
        """Let it continue."""
        if self.member:
            self.member.signal(signal.SIGCONT)
        self.scheduler.resume()
        self.database.resume()


@dataclass
class Trouble:
    """A cluster in trouble, with the notebooks of its workflows, one for each fault."""

    farm: Farm
    stack: ExitStack
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        """The folder with the log of the kernels."""
        return self.farm.folder / "lives"

    def write_workflows(self, *names: str) -> None:
        """Write a workflow with a notebook and a report for each name."""
        workflows = []
        self.log.mkdir()
        for name in names:
            code = code_of_life(
                self.log, run=repr(name), goes_on=f"not pathlib.Path({str(self.gate(name))!r}).exists()"
            )
            write_notebook(self.farm.inputs / f"{name}.ipynb", code)
            notebook = {"filename": f"{name}.ipynb", "output": {"format": "html"}}
            workflows.append({"name": name, "notebooks": {"n": notebook}})
        sensor = {"schedule": None, "workflows": [{"workflow_name": name} for name in names]}
        # JSON is YAML.
        content = json.dumps({"workflows": workflows, "available_dates_sensor": sensor})
        (self.farm.inputs / "workflows.yml").write_text(content)

    def gate(self, name: str) -> Path:
        """The file for which the kernels of a workflow wait."""
        return self.farm.inputs / f"go-{name}"

    def lives(self, name: str) -> list[Life]:
        """Return the attempts at a workflow so far."""
        return read_lives(self.log / name)

    def host(self, name: str) -> Host:
        """Add a host, which runs nothing yet."""
        environ = self.farm.environ
        ports = urlsplit(environ["AUTOFLOW_DASK_SCHEDULER"]).port, urlsplit(environ["AUTOFLOW_DB_URI"]).port
        scheduler, database = (self.stack.enter_context(Proxy(port)) for port in ports if port)
        path = urlsplit(environ["AUTOFLOW_DB_URI"]).path
        own = {
            HOST: name,
            "AUTOFLOW_DASK_SCHEDULER": f"tls://127.0.0.1:{scheduler.port}",
            "AUTOFLOW_DB_URI": f"postgresql://autoflow:autoflow@127.0.0.1:{database.port}{path}",
        }
        self.hosts[name] = Host(name, scheduler, database, own)
        return self.hosts[name]

    def worker(self, name: str, slots: int, **environ: str) -> Host:
        """Start a worker on a host of its own; return before it is ready."""
        host = self.host(name)
        uri = host.environ["AUTOFLOW_DB_URI"].replace("//autoflow:autoflow@", f"//autoflow_worker:{WORKERS_PASSWORD}@")
        host.environ = {**host.environ, "AUTOFLOW_DB_URI": uri, "AUTOFLOW_WORKER_SLOTS": str(slots), **environ}
        host.member = self.stack.enter_context(self.farm.member("worker", program=ROOT, **host.environ))
        return host

    def daemon(self, name: str, environ: Mapping[str, str]) -> Host:
        """Start an `autoflow run` of the workflow `name` on a host of its own."""
        host = self.host(name)
        own = {**self.farm.environ, **host.environ, **environ}
        if name.startswith("alone_"):
            del own["AUTOFLOW_DASK_SCHEDULER"], own["AUTOFLOW_DASK_CA"], own["AUTOFLOW_DASK_CERT"]
        log = self.farm.folder / f"{name}.log"
        with log.open("wb") as file:
            command = [sys.executable, "-m", "autoflow", "run", name, "--date", DATE.isoformat()]
            process = subprocess.Popen(command, cwd=ROOT, env=own, stdout=file, stderr=file)
        host.member = Member(process, log, own)
        self.stack.callback(host.member.kill)
        return host

    def terminate(self) -> None:
        """Have all end at the same time."""
        for host in self.hosts.values():
            if host.member:
                host.member.signal(signal.SIGCONT)
                host.member.process.terminate()

    def run_of(self, name: str) -> WorkflowRun:
        """Return a run of a workflow, which a user has requested."""
        file = read_workflows(self.farm.settings())
        (workflow,) = [each for each in file.workflows if each.name == name]
        return WorkflowRun(workflow=workflow, parameters={}, reference_date=DATE, date_ranges=())


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Trouble]:
    """Run a cluster with a worker for each fault; they start at the same time."""
    with running_farm(tmp_path_factory.mktemp("trouble"), postgres) as farm, ExitStack() as stack:
        trouble = Trouble(farm, stack)
        trouble.write_workflows(*WORKERS, *DAEMONS, *OTHERS, "disk_full")
        hosts = [trouble.worker(name, slots=1) for name in WORKERS]
        stack.callback(trouble.terminate)
        wait_for(lambda: all(host.member and "registered as" in host.member.text for host in hosts))
        yield trouble


@contextmanager
def observing(trouble: Trouble) -> Iterator[Daemon]:
    """Run a daemon, in this process, on a host of its own."""
    host = trouble.hosts.get("observer") or trouble.host("observer")
    with daemon_of(trouble.farm, workers=1, **host.environ) as daemon:
        yield daemon


def run_until_done(daemon: Daemon, run: WorkflowRun) -> None:
    """Run a workflow as a stand-by does: as soon as it is no longer running elsewhere."""
    while not daemon.shutdown.is_closing:
        try:
            if daemon.store.runs(workflow=run.key.workflow, state=RunState.SUCCEEDED):
                return
            daemon.store.give_up_crashed()
            state = daemon.run(run)
        except RunStoreError as error:
            logger.warning("%s", error)
            state = None
        if state is None:
            daemon.shutdown.wait_until_closing(PAUSE)


@contextmanager
def standing_by(daemon: Daemon, runs: Iterable[WorkflowRun]) -> Iterator[None]:
    """Run workflows until all are done, as a stand-by does; wait for that at the end of the block."""
    threads = [threading.Thread(target=run_until_done, args=(daemon, run)) for run in runs]
    for thread in threads:
        thread.start()
    try:
        yield
    except BaseException:
        daemon.shutdown.close_at_once("the test has failed")
        raise
    finally:
        for thread in threads:
            thread.join(LONG)


def check(trouble: Trouble, daemon: Daemon, names: Iterable[str]) -> None:
    """Check that the strict rule was kept, and each run has succeeded once; each attempt has outputs once at most."""
    assert complaints(trouble.log, trouble.farm.outputs) == []
    for name in names:
        whole = [life for life in trouble.lives(name) if life.is_whole]
        attempts = daemon.store.runs(workflow=name)
        # Interrupted: the database was back before the claim had expired, so the daemon could record the stop.
        assert {attempt.state for attempt in attempts[1:]} <= {RunState.CRASHED, RunState.INTERRUPTED}
        assert attempts[0].state is RunState.SUCCEEDED
        for second, first in itertools.pairwise(attempts):
            if first.state is RunState.CRASHED:
                assert second.started_at - first.heartbeat_at >= daemon.store.crashed_after
        files = visible_files(trouble.farm.outputs, f"{name}__")
        # An attempt that is stopped in time leaves the cells that have run. On a busy machine, one may lose its claim
        # for other reasons, even after its end.
        assert whole
        assert 1 <= sum(file.suffix == ".ipynb" for file in files) <= len(trouble.lives(name))


def test_faults_of_workers_and_daemons(trouble: Trouble, example_flowapi: ExampleFlowApi) -> None:
    environ = {"FLOWAPI_URL": example_flowapi.url, "FLOWAPI_TOKEN": example_flowapi.token()}
    taken_over = {*WORKERS, *DAEMONS} - {"daemon_without_scheduler"}
    returning = [trouble.hosts[name] for name in WORKERS if name not in {"worker_killed", "worker_without_database"}]
    with observing(trouble) as daemon:
        with standing_by(daemon, map(trouble.run_of, WORKERS)):
            wait_for(lambda: all(map(trouble.lives, WORKERS)), pause=PAUSE)
            trouble.worker("steady", slots=20)
            daemons = [trouble.daemon(name, environ) for name in DAEMONS]
            wait_for(lambda: all(map(trouble.lives, DAEMONS)), pause=PAUSE)
            with standing_by(daemon, map(trouble.run_of, DAEMONS)):
                for name in (*WORKERS, *DAEMONS):
                    trouble.hosts[name].harm()
                wait_for(lambda: all(len(trouble.lives(name)) > 1 for name in taken_over), pause=PAUSE)
                for name in (*WORKERS, *DAEMONS):
                    trouble.hosts[name].heal()
                wait_for(lambda: all(map(has_returned, returning)), pause=PAUSE)
                for name in (*WORKERS, *DAEMONS):
                    trouble.gate(name).touch()
        wait_for(lambda: all(host.member and host.member.process.poll() is not None for host in daemons))
        check(trouble, daemon, (*WORKERS, *DAEMONS))


def has_returned(host: Host) -> bool:
    """Return whether a worker has registered again."""
    return host.member is not None and host.member.text.count("registered as") > 1


def is_gone(life: Life) -> bool:
    """Return whether nothing is left of the kernel of an attempt."""
    return not psutil.pid_exists(life.pid)


def test_faults_of_the_scheduler_and_the_database(trouble: Trouble) -> None:
    scheduler = trouble.farm.members[0]
    with observing(trouble) as daemon:
        with standing_by(daemon, [trouble.run_of("scheduler_stopped")]):
            wait_for(lambda: trouble.lives("scheduler_stopped"))
            scheduler.signal(signal.SIGSTOP)
            wait_for(lambda: not daemon.cluster.state().is_connected)
            scheduler.signal(signal.SIGCONT)
            wait_for(lambda: daemon.cluster.state().is_connected)
            trouble.gate("scheduler_stopped").touch()
        with standing_by(daemon, map(trouble.run_of, ("scheduler_killed", "database_cut_off"))):
            wait_for(lambda: trouble.lives("scheduler_killed") and trouble.lives("database_cut_off"))
            scheduler.kill()
            wait_for(lambda: is_gone(trouble.lives("scheduler_killed")[0]))
            trouble.stack.enter_context(trouble.farm.member("scheduler"))
            wait_for(lambda: len(trouble.lives("database_cut_off")) > 1)
            trouble.gate("scheduler_killed").touch()
            wait_for(lambda: daemon.store.runs(workflow="scheduler_killed", state=RunState.SUCCEEDED))
            for host in trouble.hosts.values():
                host.database.stall()
            wait_for(lambda: is_gone(trouble.lives("database_cut_off")[1]))
            for host in trouble.hosts.values():
                host.database.resume()
            wait_for(lambda: len(trouble.lives("database_cut_off")) > 2)
            trouble.gate("database_cut_off").touch()
        check(trouble, daemon, OTHERS)


def test_worker_whose_disk_is_full_gets_no_orders_until_it_has_room(trouble: Trouble, tmp_path: Path) -> None:
    with small_disk(tmp_path, "size=40m"), observing(trouble) as daemon:
        fill(tmp_path, 100_000)
        worker = trouble.worker("full", slots=50, TMPDIR=str(tmp_path)).member
        assert worker

        def refused() -> list[str | None]:
            ours = f"pid {worker.process.pid}"
            return [each.refused for each in daemon.cluster.workers() if each.name.endswith(ours)]

        wait_for(refused)
        trouble.gate("disk_full").touch()
        reasons = refused()
        run_until_done(daemon, trouble.run_of("disk_full"))
        (tmp_path / FILLER).unlink()
        wait_for(lambda: refused() == [None])
        check(trouble, daemon, ["disk_full"])
        worker.process.terminate()
        worker.process.wait(LONG)

    assert reasons[0]
    assert f"the disk of {tmp_path} is full" in reasons[0]
    assert [life.host for life in trouble.lives("disk_full")] != ["full"]

"""A cluster of real processes on loopback, which the tests of this folder share: PostgreSQL, scheduler, two workers."""

import datetime
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autoflow.cluster.authority import make_certificates
from autoflow.cluster.client import Cluster
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.opening import open_run_store
from autoflow.model.store import RunStore
from autoflow.orchestration.prefect_api import free_port
from autoflow.runs.records import RunRecord, RunState
from autoflow.runs.run import WorkflowRun
from autoflow.settings import Settings
from autoflow.specs import NotebookSpec, OutputSpec, ReportFormat, WorkflowSpec
from autoflow.system.stop_signal import Shutdown
from autoflow.workflows.runner import WorkflowRunner
from tests.conftest import TOKEN_OF_NO_USE, write_notebook
from tests.environment import LITTLE_PRELOADED
from tests.postgres import WORKERS_PASSWORD, Postgres, make_role
from tests.waiting import LONG, wait_for

HEARTBEAT_TIMEOUT = 9.0
"""As short as a busy machine allows: leases end after 6 s, and Dask gives up a silent worker after 5 s."""

DATE = datetime.date(2016, 1, 7)

ROOT = Path(__file__).resolve().parents[2]


@dataclass(eq=False)
class Member:
    """A process of the cluster, with its log and its environment."""

    process: "subprocess.Popen[bytes]"
    log: Path
    environ: Mapping[str, str]

    @property
    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text()

    def kill(self) -> None:
        """Kill it hard."""
        self.process.kill()
        self.process.wait(LONG)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)


@dataclass(frozen=True)
class Farm:
    """The folders and the environment of a cluster, and ways to start its members."""

    folder: Path
    environ: Mapping[str, str]
    members: list[Member] = field(default_factory=list)

    @property
    def inputs(self) -> Path:
        """The inputs folder."""
        return self.folder / "inputs"

    @property
    def outputs(self) -> Path:
        """The outputs folder."""
        return self.folder / "outputs"

    @property
    def shared_environ(self) -> Mapping[str, str]:
        """The environment without what the scheduler does not need."""
        names = ("AUTOFLOW_DASK_SCHEDULER", "AUTOFLOW_HEARTBEAT_TIMEOUT", "PATH", "HOME")
        return {name: self.environ[name] for name in names}

    def settings(self, **environ: str) -> Settings:
        """Return the settings of a daemon, with some of the environment changed."""
        return Settings.read({**self.environ, **environ})

    @property
    def certificates(self) -> Path:
        """The folder of the cluster's certificates."""
        return self.folder / "certificates"

    def environ_of(self, verb: str) -> Mapping[str, str]:
        """Return the environment of a scheduler or a worker: each has its certificate, and no more than it needs."""
        own = {"AUTOFLOW_DASK_CERT": str(self.certificates / f"{verb}.pem")}
        if verb == "worker":
            host = self.environ["AUTOFLOW_DB_URI"].rpartition("@")[2]
            return {**self.environ, **own, "AUTOFLOW_DB_URI": f"postgresql://autoflow_worker:{WORKERS_PASSWORD}@{host}"}
        common = ("PATH", "HOME", "AUTOFLOW_DASK_SCHEDULER", "AUTOFLOW_DASK_CA", "AUTOFLOW_HEARTBEAT_TIMEOUT")
        return {name: self.environ[name] for name in common} | own

    @contextmanager
    def member(self, verb: str, *, program: Path = ROOT, **environ: str) -> Iterator[Member]:
        """Run `autoflow scheduler` or `autoflow worker` for the duration of the block."""
        log = self.folder / f"{verb}-{len(self.members)}.log"
        own = {**self.environ_of(verb), **environ}
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "autoflow", verb],
                cwd=program,
                env=own,
                stdout=file,
                stderr=file,
            )
        self.members.append(Member(process, log, own))
        try:
            yield self.members[-1]
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(LONG)

    @contextmanager
    def worker(self, *, program: Path = ROOT, **environ: str) -> Iterator[Member]:
        """Run a worker for the duration of the block, from when it is registered."""
        with self.member("worker", program=program, **environ) as worker:
            wait_for(lambda: "registered as" in worker.text or worker.process.poll() is not None)
            assert worker.process.poll() is None, worker.text
            yield worker

    def notebook(self, *cells: str, name: str | None = None) -> Path:
        """Write a notebook with code `cells` into the inputs folder."""
        return write_notebook(self.inputs / (name or f"{uuid.uuid4().hex}.ipynb"), *cells)


@contextmanager
def running_farm(folder: Path, postgres: Postgres) -> Iterator[Farm]:
    """Run the scheduler of a cluster without workers for the duration of the block."""
    inputs, outputs = folder / "inputs", folder / "outputs"
    for path in (inputs, outputs, outputs / "notebooks", outputs / "reports"):
        path.mkdir(parents=True)
    (inputs / "workflows.yml").touch()
    environ = {
        "AUTOFLOW_INPUTS_DIR": str(inputs),
        "AUTOFLOW_OUTPUTS_DIR": str(outputs),
        "AUTOFLOW_DB_URI": postgres.uri(),
        "AUTOFLOW_DASK_SCHEDULER": f"tls://127.0.0.1:{free_port()}",
        "AUTOFLOW_DASK_CA": str(folder / "certificates" / "ca.pem"),
        "AUTOFLOW_DASK_CERT": str(folder / "certificates" / "daemon.pem"),
        "AUTOFLOW_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT),
        "AUTOFLOW_WORKER_SLOTS": "2",
        "AUTOFLOW_SHUTDOWN_GRACE": "2",
        **LITTLE_PRELOADED,
        "FLOWAPI_URL": "http://127.0.0.1:9",
        "FLOWAPI_TOKEN": TOKEN_OF_NO_USE,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
    }
    farm = Farm(folder, environ)
    list(make_certificates(farm.certificates, datetime.datetime.now(datetime.UTC), days=30))
    with open_run_store(farm.settings()):
        pass
    made = make_role(environ["AUTOFLOW_DB_URI"], folder, WORKERS_PASSWORD)
    assert made.returncode == 0, made.stderr
    with farm.member("scheduler") as scheduler:
        wait_for(lambda: "is ready" in scheduler.text or scheduler.process.poll() is not None)
        assert scheduler.process.poll() is None, scheduler.text
        yield farm


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Farm]:
    """Run a cluster with two workers, the second with a port in its settings, while the session lasts."""
    with (
        running_farm(tmp_path_factory.mktemp("farm"), postgres) as farm,
        farm.worker(),
        farm.worker(AUTOFLOW_WORKER_PORT=str(free_port())),
    ):
        yield farm


@pytest.fixture(scope="session")
def bare_farm(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Farm]:
    """Run a cluster without workers while the session lasts, for tests that start workers of their own."""
    with running_farm(tmp_path_factory.mktemp("bare"), postgres) as farm:
        yield farm


@pytest.fixture
def own_farm(tmp_path: Path, postgres: Postgres) -> Iterator[Farm]:
    """Run a cluster without workers for one test, which may do everything with it."""
    with running_farm(tmp_path / "farm", postgres) as farm:
        yield farm


@dataclass(frozen=True)
class Daemon:
    """The part of a daemon that runs workflows on a cluster."""

    runner: WorkflowRunner
    store: RunStore
    cluster: Cluster
    shutdown: Shutdown

    def run(self, run: WorkflowRun) -> RunState | None:
        """Run a workflow to its end."""
        return self.runner.run(run, shutdown=self.shutdown)

    def last(self, run: WorkflowRun) -> RunRecord:
        """Return the newest attempt at a run."""
        return self.store.runs(workflow=run.key.workflow, limit=1)[0]


@contextmanager
def daemon_of(farm: Farm, *, workers: int = 0, **environ: str) -> Iterator[Daemon]:
    """Run the part of a daemon that runs workflows, from when it sees so many usable workers without orders."""
    settings = farm.settings(**environ)
    with ExitStack() as stack:
        crashed_after = datetime.timedelta(seconds=settings.heartbeat_timeout)
        store = stack.enter_context(closing(RunStore(settings.db_uri, crashed_after=crashed_after)))
        heartbeat = stack.enter_context(Heartbeat(store))
        cluster = stack.enter_context(Cluster(settings))
        shutdown = Shutdown()
        runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat, cluster=cluster)
        wait_for(lambda: sum(each.is_usable and not each.used for each in cluster.workers()) >= workers)
        yield Daemon(runner, store, cluster, shutdown)


@contextmanager
def meanwhile(daemon: Daemon, run: WorkflowRun) -> Iterator[list[RunState | None]]:
    """Run a workflow in another thread for the duration of the block; the list gets its state."""
    states: list[RunState | None] = []
    thread = threading.Thread(target=lambda: states.append(daemon.run(run)))
    thread.start()
    try:
        yield states
    finally:
        thread.join(LONG)


def run_of(*notebooks: NotebookSpec | Path, formats: tuple[ReportFormat, ...] = ()) -> WorkflowRun:
    """Return a run of a new workflow with these notebooks, which a user has requested."""
    output = OutputSpec(formats=formats) if formats else None
    specs = tuple(
        NotebookSpec(label=f"n{number}", path=each, output=output) if isinstance(each, Path) else each
        for number, each in enumerate(notebooks)
    )
    workflow = WorkflowSpec(name=f"w{uuid.uuid4().hex[:12]}", notebooks=specs)
    return WorkflowRun(workflow=workflow, parameters={}, reference_date=DATE, date_ranges=())

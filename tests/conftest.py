"""What the tests share: a PostgreSQL, a FlowAPI, a Prefect server, and inputs folders to run.

Prefect reads its settings from the environment when it is imported, so the environment is prepared here, at the top.
"""

import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import certifi
import hypothesis
import nbformat
import pytest

from autoflow.orchestration.prefect_api import client_environment, free_port, server_environment
from autoflow.orchestration.server_process import PrefectServer
from autoflow.settings import Settings
from autoflow.system.log import logger
from autoflow.system.stop_signal import Shutdown
from examples.flowapi import ExampleFlowApi
from tests.environment import LITTLE_PRELOADED
from tests.postgres import Postgres, running_postgres
from tests.prefect_database import migrated_database
from tests.receiver import Receiver, receiving

TOKEN_OF_NO_USE = "a.b.c-a-token-that-no-flowapi-takes"


FOLDER = Path(__file__).resolve().parent

SLOWEST = (
    "test_faults.py",
    "test_acceptance.py",
    "orchestration/test_prefect_api.py",
    "notebooks/test_execution.py",
    "system/test_home.py",
    "kernels/test_fork_server.py",
    "kernels/test_kernel.py",
    "reports/test_limits.py",
    "notebooks/test_memory.py",
    "test_moved_outputs.py",
    "reports/test_templates.py",
    "workflows/test_dispatcher.py",
    "workflows/test_stopped_runs.py",
    "workflows/test_watch.py",
    "runs/test_simulated_year.py",
    "orchestration/test_own_pages.py",
    "cli/test_backfill.py",
    "reports/test_programs.py",
    "reports/test_safety.py",
    "reports/test_spans.py",
    "notebooks/test_outputs.py",
    "workflows/test_resume.py",
    "test_standby.py",
    "test_flowkit.py",
    "test_tutorial.py",
    "test_metrics.py",
    "test_example_notebooks.py",
)
"""The files that take longest. They come first, so that no worker is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the files that take longest come first, the rest as before."""
    ranks = {name: rank for rank, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: ranks.get(item.path.relative_to(FOLDER).as_posix(), len(ranks)))


def pytest_collection_finish() -> None:
    """Spare the garbage collector the tests and modules, which stay to the end: it takes a fifth of the time else."""
    gc.collect()
    gc.freeze()


# A busy machine is no reason to fail.
hypothesis.settings.register_profile(
    "any speed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any speed")

# A shell ignores it for what it runs in the background, and so would all processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

_PREFECT_PORT = free_port()
_PREFECT_HOME = Path(tempfile.mkdtemp(prefix="autoflow-tests-prefect-"))


def _one_certificate(file: Path) -> Path:
    """Write the first of the certificates that HTTP clients trust to `file`; return it."""
    first, end, _ = certifi.contents().partition("-----END CERTIFICATE-----\n")
    file.write_text(first + end, encoding="utf-8")
    return file


# Each HTTP client loads all trusted certificates, which takes longer than a request. Tests only reach this machine.
os.environ["SSL_CERT_FILE"] = str(_one_certificate(_PREFECT_HOME / "certificate.pem"))


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


def pytest_unconfigure() -> None:
    """Remove what was made as this module was imported, in the process that has the workers run the tests."""
    shutil.rmtree(_PREFECT_HOME, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _no_home_is_left() -> Iterator[None]:
    """Remove it in the workers, which end without the above."""
    yield
    shutil.rmtree(_PREFECT_HOME, ignore_errors=True)


@pytest.fixture
def measuring(request: pytest.FixtureRequest) -> Sequence[str]:
    """Return the options of a Python that measures the coverage of a module and its end, if that of tests is measured.

    The file is found by its name, as if another worker of xdist had written it.
    """
    if not (folder := os.environ.get("SLIPCOVER_COVERAGE_DIR")):
        return ()
    return ("-m", "slipcover", "--json", "--out", f"{folder}/coverage-gw-{request.node.name[:50]}.json")


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a database of Prefect's to copy, once for all workers."""
    folder = tmp_path_factory.getbasetemp()
    return migrated_database(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture(scope="session")
def prefect_url(prefect_database: Path) -> Iterator[str]:
    """Run AutoFlow's Prefect server while the session lasts; the URL of its API."""
    from autoflow.orchestration import prefect_client_internals  # noqa: PLC0415 - it imports Prefect
    from autoflow.orchestration.prefect_api import PrefectApi  # noqa: PLC0415

    environment = server_environment(_prefect_settings(), os.environ, _PREFECT_PORT)
    url = f"http://127.0.0.1:{_PREFECT_PORT}/api"
    prefect_client_internals.disable_heartbeats()
    shutil.copy(prefect_database, _PREFECT_HOME)
    with PrefectServer(environment, _PREFECT_HOME / "server.log") as server:
        PrefectApi(url, server).wait_until_ready(Shutdown())
        with prefect_client_internals.prefect_queues_flushed():
            yield url


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL on loopback while the session lasts."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def example_flowapi() -> Iterator[ExampleFlowApi]:
    """Run the example FlowAPI while the session lasts; tests that change it restore it, or start another one."""
    with ExampleFlowApi() as flowapi:
        yield flowapi


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Receive AutoFlow's messages."""
    with receiving() as receiver:
        yield receiver


PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}


def write_notebook(
    path: Path,
    *cells: str,
    parameters: str | None = None,
    markdown: str | None = None,
    kernelspec: Mapping[str, str] | None = PYTHON,
) -> Path:
    """Write a notebook with code `cells`, after a cell with `markdown` if there is some.

    `parameters` is the source of its cell tagged so, if it is to have one.
    """
    notebook = nbformat.v4.new_notebook()
    if markdown is not None:
        notebook.cells.append(nbformat.v4.new_markdown_cell(markdown))
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
        return sorted((self.outputs / "notebooks").glob("*.ipynb"))

    def reports(self) -> list[Path]:
        """Return the reports, sorted by name."""
        return sorted(path for path in (self.outputs / "reports").iterdir() if path.is_file())


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    """Return empty folders, and an environment with nothing but what AutoFlow needs (and PATH).

    AUTOFLOW_FORKED_KERNELS is handed on: the tests have to pass with forked kernels and without. Nothing large is
    preloaded for them: to import pandas and matplotlib takes longer than most tests. An empty AUTOFLOW_PRELOAD is the
    default again.
    """
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
        **LITTLE_PRELOADED,
        **{name: value for name, value in os.environ.items() if name == "AUTOFLOW_FORKED_KERNELS"},
    }
    return Deployed(inputs, outputs, environ)


@pytest.fixture
def migrated_prefect(deployed: Deployed, prefect_database: Path) -> None:
    """Give the Prefect server of `deployed` its database, as if this were not its first start."""
    home = deployed.settings().prefect_home
    home.mkdir(parents=True)
    shutil.copy(prefect_database, home)


@pytest.fixture
def prefect_running(prefect_url: str) -> Mapping[str, str]:
    """Return the settings with which AutoFlow, in this process, uses the Prefect server of the tests."""
    return {"PREFECT_API_URL": prefect_url, "PREFECT_HOME": os.environ["PREFECT_HOME"]}


@pytest.fixture
def log_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what AutoFlow's own main changes in its process."""
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    before = (logger.handlers, logger.filters, logger.level, logger.propagate)
    monkeypatch.setattr(logging.getLogger(), "handlers", logging.getLogger().handlers)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    yield
    logger.handlers, logger.filters, logger.propagate = before[0], before[1], before[3]
    logger.setLevel(before[2])


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Return the lines that AutoFlow logs."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Lines()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)

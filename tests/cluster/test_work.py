"""What a notebook gets where it is executed: its own secrets, and none of those of others."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from autoflow.cluster.work import ThisMachine, Work
from autoflow.errors import NotebookError
from autoflow.kernels.fork_server import ForkServer
from autoflow.system.stop_signal import StopSignal
from tests.conftest import Deployed, write_notebook
from tests.waiting import LONG

LOOKS = """
import os, pathlib
def has(place):
    return b"the key of the map" in place.read_bytes()
value = os.environ.get("MAP_KEY")
print("variable:", value is not None, "inherited:", has(pathlib.Path("/proc/self/environ")), "value:", value)
"""


@pytest.fixture(params=["ordinary", "forked"])
def fork_server(request: pytest.FixtureRequest) -> Iterator[ForkServer | None]:
    if request.param == "ordinary":
        yield None
        return
    with pytest.MonkeyPatch.context() as monkeypatch, ForkServer(["json"]) as server:
        monkeypatch.setattr("autoflow.kernels.fork_server.FORK_TIMEOUT", LONG)
        yield server


def work_of(notebook: Path, stem: str, *, secrets: tuple[str, ...] = (), hidden: tuple[str, ...] = ()) -> Work:
    return Work(
        label="n",
        notebook=notebook,
        sources={},
        values={},
        upstream={},
        stem=stem,
        timeout=LONG,
        report_timeout=LONG,
        secrets=secrets,
        hidden=hidden,
    )


def test_only_a_notebook_that_lists_a_secret_gets_it(deployed: Deployed, fork_server: ForkServer | None) -> None:
    settings = deployed.settings(MAP_KEY="the key of the map")
    settings.notebooks_dir.mkdir(parents=True, exist_ok=True)
    notebook = write_notebook(deployed.inputs / "n.ipynb", LOOKS)
    machine = ThisMachine(settings, fork_server)
    if fork_server:
        # As if the file had not listed it when AutoFlow started.
        fork_server.warm_up(settings.kernel_environ)
        assert fork_server.wait_until_warm(LONG)

    def printed(work: Work) -> str:
        result = machine.carry_out(work, stop=StopSignal())
        assert result.error is None
        assert result.outputs
        (output,) = nbformat.read(result.outputs.executed, as_version=4).cells[0].outputs
        return str(output.text)

    assert printed(work_of(notebook, "other", hidden=("MAP_KEY",))) == "variable: False inherited: False value: None\n"
    own = printed(work_of(notebook, "own", secrets=("MAP_KEY",)))
    assert own.startswith("variable: True")
    assert "the key of the map" not in own
    # After the one that has it, too.
    assert printed(work_of(notebook, "again", hidden=("MAP_KEY",))) == "variable: False inherited: False value: None\n"


def test_notebook_whose_secret_is_not_set_fails_with_its_name(deployed: Deployed) -> None:
    notebook = write_notebook(deployed.inputs / "n.ipynb", "1")
    result = ThisMachine(deployed.settings()).carry_out(work_of(notebook, "n", secrets=("MAP_KEY",)), stop=StopSignal())
    assert isinstance(result.error, NotebookError)
    assert (result.error.cell, result.error.error_class) == (None, "MissingSecret")
    assert "MAP_KEY" in str(result.error)

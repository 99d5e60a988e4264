"""Run notebooks as the daemon does, in real kernels."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import nbformat

from autoflow.errors import NotebookError, RunSkipped, RunStopped
from autoflow.kernels.fork_server import ForkServer
from autoflow.notebooks.execution import Means, Task, execute
from tests.conftest import write_notebook
from tests.environment import steady_environ
from tests.waiting import LONG

SECRET = 'tok.en-"with"\\<odd> characters'

_OF_MEANS = {each.name for each in fields(Means)}


@dataclass
class Ran:
    """The result of running a notebook."""

    executed: Path
    error: NotebookError | RunSkipped | RunStopped | None

    @property
    def notebook(self) -> nbformat.NotebookNode:
        notebook: nbformat.NotebookNode = nbformat.read(self.executed, as_version=4)
        nbformat.validate(notebook)
        return notebook

    @property
    def states(self) -> list[str]:
        return [cell.metadata.papermill.status for cell in self.notebook.cells]

    def printed(self, index: int = 0) -> str:
        return "".join(output.text for output in self.notebook.cells[index].outputs if "text" in output)

    def failure(self) -> tuple[int | None, str, str]:
        assert isinstance(self.error, NotebookError)
        return self.error.cell, self.error.error_class, self.error.error_message


@dataclass
class Runner:
    """Runs notebooks in threads, as the daemon does."""

    folder: Path
    fork_server: ForkServer | None

    def __call__(self, *cells: str, parameters: str | None = None, **arguments: Any) -> Ran:
        return self.run(
            write_notebook(self.folder / "in" / "notebook.ipynb", *cells, parameters=parameters), **arguments
        )

    def run(self, path: Path, *, values: dict[str, Any] | None = None, **arguments: Any) -> Ran:
        executed = self.folder / "executed.ipynb"
        means = {name: arguments.pop(name) for name in _OF_MEANS & arguments.keys()}
        task = Task(label="flows", parameters=values or {}, environment=steady_environ(), **arguments)

        def run() -> NotebookError | RunSkipped | RunStopped | None:
            try:
                execute(path, executed, task, Means(fork_server=self.fork_server, **means))
            except (NotebookError, RunSkipped, RunStopped) as error:
                return error
            return None

        with ThreadPoolExecutor(1) as pool:
            return Ran(executed, pool.submit(run).result(2 * LONG))

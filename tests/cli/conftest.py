"""Verbs of the command line, run in this process against a FlowAPI, kernels and a database."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from autoflow.cli import main
from autoflow.model.store import RunStore
from autoflow.runs.records import RunKey, RunState
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook

FAILS_WHILE_TOLD = "import pathlib\nif pathlib.Path('fail').exists():\n    1 / 0"
"""The source of the workflow's notebook, which fails while there is a file called `fail` in the inputs folder."""


@pytest.fixture(autouse=True)
def _log_as_before(log_as_before: None) -> None:
    """Put back what verbs change in the log of this process."""


@dataclass(frozen=True)
class Cli:
    """Runs verbs with settings from `environ`."""

    environ: Mapping[str, str]
    deployed: Deployed
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> int:
        self.capsys.readouterr()
        return main(arguments, self.environ)

    def json(self, *arguments: str, code: int = 0) -> Any:
        assert self(*arguments, "--json") == code, self.capsys.readouterr().err
        return json.loads(self.capsys.readouterr().out)

    def fails(self, *arguments: str, code: int = 1) -> str:
        assert self(*arguments) == code
        printed = self.capsys.readouterr()
        assert "Traceback" not in printed.err
        return printed.err

    def store(self) -> "closing[RunStore]":
        store = RunStore(f"sqlite:///{self.deployed.outputs}/autoflow.db")
        store.migrate()
        return closing(store)

    def with_environ(self, **environ: str) -> "Cli":
        """Return the same with some of the environment changed."""
        return Cli({**self.environ, **environ}, self.deployed, self.capsys)

    def printed(self) -> str:
        """Return what the last verb has printed to stdout."""
        return self.capsys.readouterr().out

    def execute_sql(self, statement: str, parameters: Iterable[str] = ()) -> None:
        """Change something in the database of runs that no verb can."""
        with closing(sqlite3.connect(self.deployed.outputs / "autoflow.db")) as connection:
            connection.execute(statement, tuple(parameters))
            connection.commit()

    def record_failure(self, key: RunKey) -> int:
        """Record a run that failed; return its ID."""
        with self.store() as store:
            claim = store.claim(key)
            assert claim
            store.finish(claim, RunState.FAILED)
        return claim.id


@pytest.fixture
def cli(deployed: Deployed, example_flowapi: ExampleFlowApi, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Return verbs; the workflow runs from the ninth of January on, and needs the day before."""
    write_notebook(deployed.inputs / "n.ipynb", FAILS_WHILE_TOLD, parameters="level = 1")
    deployed.write_workflows("""
        workflows:
          - name: simple
            notebooks: {n: {filename: n.ipynb, parameters: {level: level}}}
        available_dates_sensor:
          schedule: null
          workflows:
            - workflow_name: simple
              parameters: {level: 2}
              earliest_date: 2016-01-09
              date_stencil: [[-1, 0]]
              max_attempts: 1
    """)
    environ = {
        **deployed.environ,
        "FLOWAPI_URL": example_flowapi.url,
        "FLOWAPI_TOKEN": example_flowapi.token(),
    }
    return Cli(environ, deployed, capsys)


@pytest.fixture
def running_cli(cli: Cli) -> Cli:
    """Return verbs that run notebooks; Prefect does not show these runs."""
    return cli.with_environ(AUTOFLOW_MAX_PARALLEL_RUNS="2")

"""An outputs folder that was moved: AutoFlow continues there, with all links right and nothing done twice."""

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alembic.command
import nbformat
import pytest
import sqlalchemy as sa

from autoflow.cli import main
from autoflow.model.database import alembic_config
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook
from tests.pages import files_of
from tests.test_old_outputs import restore

if TYPE_CHECKING:
    from tests.postgres import Postgres

BEFORE = Path("/mounts/outputs")
"""Where the outputs folder of the previous version was, in a container: there is no such folder on this machine."""


@dataclass(frozen=True)
class AutoFlow:
    """AutoFlow in this process, with an outputs folder that can be moved."""

    deployed: Deployed
    environ: Mapping[str, str]
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run the daemon once, or a verb; return what it prints. It logs no problem."""
        self.capsys.readouterr()
        assert main(arguments, self.environ) == code
        printed = self.capsys.readouterr()
        # The token is for a day, and the database of the previous version has a run that crashed.
        lines = [line for line in printed.err.splitlines() if not re.search("FLOWAPI_TOKEN|1 run crashed", line)]
        assert not [line for line in lines if re.search("WARNING|cannot|could not|missing|no such", line)]
        return printed.out

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))

    @property
    def outputs(self) -> Path:
        return Path(self.environ["AUTOFLOW_OUTPUTS_DIR"])

    def moved(self, to: Path, **environ: str) -> "AutoFlow":
        """Move the outputs folder; return an AutoFlow that uses it there."""
        to.parent.mkdir(parents=True, exist_ok=True)
        self.outputs.rename(to)
        environ = {"AUTOFLOW_OUTPUTS_DIR": str(to), **environ}
        return replace(self, environ={**self.environ, **environ})

    def runs(self) -> list[tuple[str, str, int, str]]:
        """Return what the command line lists, oldest first."""
        listed = self.json("runs", "--limit", "100")
        return [(run["workflow"], run["reference_date"], run["attempt"], run["state"]) for run in reversed(listed)]

    def page_links(self) -> set[Path]:
        """Return the files that the page leads to, those in its calendars included."""
        return files_of(self.outputs)


@pytest.fixture
def autoflow(
    deployed: Deployed,
    example_flowapi: ExampleFlowApi,
    prefect_running: Mapping[str, str],
    log_as_before: None,
    capsys: pytest.CaptureFixture[str],
) -> AutoFlow:
    del log_as_before
    environ = {**deployed.environ, "FLOWAPI_URL": example_flowapi.url, "FLOWAPI_TOKEN": example_flowapi.token()}
    return AutoFlow(deployed, {**environ, **prefect_running}, capsys)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """Return the settings for a database of runs: the file in the outputs folder, or an empty one on a server."""
    if request.param == "sqlite":
        return {}
    postgres: Postgres = request.getfixturevalue("postgres")
    return {"AUTOFLOW_DB_URI": postgres.uri()}


def copy_to_postgres(file: Path, uri: str) -> None:
    """Put the runs of a database of the previous version into one on a server, and remove the file."""
    with closing(sqlite3.connect(file)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM runs ORDER BY id")]
    file.unlink()
    engine = sa.create_engine(uri.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0002")
        # The server counts the IDs itself, and arrives at the same.
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in rows[0] if name != "id"]
        connection.execute(
            sa.insert(sa.table("runs", *columns)),
            [{column.name: row[column.name] for column in columns} for row in rows],
        )
    engine.dispose()


def test_outputs_folder_of_the_version_before_goes_on_at_another_place(
    autoflow: AutoFlow, database: Mapping[str, str]
) -> None:
    files = restore(autoflow.deployed, written_in=BEFORE)
    if database:
        copy_to_postgres(autoflow.outputs / "autoflow.db", database["AUTOFLOW_DB_URI"])
    autoflow = replace(autoflow, environ={**autoflow.environ, **database})

    autoflow()

    runs = autoflow.runs()
    assert runs[:6] == [
        ("flows", "2016-01-10", 1, "superseded"),
        ("flows", "2016-01-11", 1, "succeeded"),
        ("checks", "2016-01-11", 1, "failed"),
        ("flows", "2016-01-12", 1, "succeeded"),
        ("checks", "2016-01-12", 1, "crashed"),
        ("flows", "2016-01-10", 2, "succeeded"),
    ]
    assert sorted(runs[6:]) == [("checks", "2016-01-11", 2, "succeeded"), ("checks", "2016-01-12", 2, "succeeded")]

    outputs = {str(path) for run in autoflow.json("runs") for path in _paths(run["outputs"])}
    assert {str(file) for file in files} < outputs
    assert all(Path(path).is_file() for path in outputs)
    shown = autoflow("runs", "show", "2")
    assert f"    {files[2]}\n    {files[3]}\n" in shown
    assert autoflow.json("runs", "show", "2")["outputs"] == {
        "counts": {"notebook": str(files[2]), "reports": [str(files[3])]}
    }

    links = autoflow.page_links()
    assert all(link.is_file() for link in links)
    # The run that was superseded, and the failed one that has succeeded since, are not on the page.
    on_page = files[2:4] + files[5:]
    assert {file.resolve() for file in on_page} < links
    assert {file.with_suffix(".html").resolve() for file in on_page if file.suffix == ".ipynb"} < links

    assert autoflow.json("prune", "--older-than", "30")["files"] == len(files)
    assert not [file for file in files if file.exists()]
    assert len(autoflow.deployed.executed()) == 2
    autoflow()
    assert autoflow.runs() == runs
    assert all(link.is_file() for link in autoflow.page_links())
    assert str(BEFORE) not in (autoflow.outputs / "index.html").read_text(encoding="utf-8")


def _paths(outputs: Mapping[str, Any]) -> Iterator[str]:
    for files in outputs.values():
        yield from (files["notebook"], *files["reports"])


@pytest.mark.parametrize(
    ("database", "is_outside"),
    [("sqlite", True), ("postgresql", False)],
    indirect=["database"],
    ids=["SQLite in the outputs folder, notebooks outside", "PostgreSQL, notebooks in the outputs folder"],
)
def test_outputs_folder_is_moved_between_an_attempt_and_the_next(
    autoflow: AutoFlow, database: Mapping[str, str], tmp_path: Path, is_outside: bool
) -> None:
    inputs = autoflow.deployed.inputs
    write_notebook(inputs / "first.ipynb", "print(reference_date)", parameters="reference_date = None")
    write_notebook(
        inputs / "second.ipynb",
        "import pathlib\nprint(pathlib.Path(first).resolve(), pathlib.Path(first).is_file())",
        "assert not pathlib.Path('fail').exists()",
        parameters="first = None",
    )
    autoflow.deployed.write_workflows("""
        workflows:
          - name: chain
            notebooks:
              first: {filename: first.ipynb, parameters: {reference_date: reference_date}}
              second: {filename: second.ipynb, parameters: {first: first}, output: {format: html}}
        available_dates_sensor:
          schedule: null
          workflows: [{workflow_name: chain, earliest_date: 2016-01-11}]
    """)
    notebooks = {"PREFECT__OUTPUTS__NOTEBOOKS_DIR": str(tmp_path / "executed")} if is_outside else {}
    old = replace(autoflow, environ={**autoflow.environ, **database, **notebooks})
    (inputs / "fail").touch()
    old(code=1)
    dates = ["2016-01-11", "2016-01-12"]
    assert sorted(old.runs()) == [("chain", date, 1, "failed") for date in dates]
    names = {Path(path).name for run in old.json("runs") for path in _paths(run["outputs"])}

    (inputs / "fail").unlink()
    if is_outside:
        (tmp_path / "executed").rename(tmp_path / "executed elsewhere")
        notebooks = {"PREFECT__OUTPUTS__NOTEBOOKS_DIR": str(tmp_path / "executed elsewhere")}
    new = old.moved(tmp_path / "another machine" / "out", **notebooks)
    new_folders = {new.outputs, tmp_path / "executed elsewhere"}
    found = [Path(path) for run in new.json("runs") for path in _paths(run["outputs"])]
    assert {path.name for path in found} == names
    assert all(path.is_file() and new_folders & {*path.parents} for path in found)
    assert new.json("runs", "show", "1")["failed_source"] == "assert not pathlib.Path('fail').exists()"

    new("retry", "--failed")
    new()
    assert sorted(new.runs()[2:]) == [("chain", date, 2, "succeeded") for date in dates]
    for run in new.json("runs")[:2]:
        outputs = run["outputs"]
        printed = nbformat.read(outputs["second"]["notebook"], as_version=4).cells[-2].outputs[0].text
        assert printed == f"{Path(outputs['first']['notebook']).resolve()} True\n"
    links = new.page_links()
    assert len(links) == len(dates) * 5
    assert all(link.is_file() for link in links)
    assert str(old.outputs) not in (new.outputs / "index.html").read_text(encoding="utf-8")
    assert not old.outputs.exists()
    assert not (tmp_path / "executed").exists()

    back = new.moved(old.outputs)
    back()
    assert all(link.is_file() for link in back.page_links())
    assert len(back.runs()) == 4

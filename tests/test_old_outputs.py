"""An outputs folder of an older version of AutoFlow still works: finished dates stay done, and stay on the page."""

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from autoflow.cli import main
from autoflow.model.store import RunStore
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook

DUMP = Path(__file__).with_name("old_outputs.sql")


def restore(deployed: Deployed, *, written_in: Path | None = None) -> list[Path]:
    """Make the outputs folder, and the inputs folder that belongs to it; return the files that are in it.

    The folder was at `written_in`, or where it is now, when the database was written.
    """
    sql = DUMP.read_text(encoding="utf-8")
    with closing(sqlite3.connect(deployed.outputs / "autoflow.db")) as connection:
        connection.executescript(sql.replace("{outputs}", str(written_in or deployed.outputs)))
    files = [deployed.outputs / name for name in re.findall(r'"\{outputs\}/([^"]+)"', sql)]
    for file in files:
        if file.suffix == ".ipynb":
            write_notebook(file)
        else:
            file.touch()
    parameters = "reference_date = None\nunit = None"
    write_notebook(deployed.inputs / "counts.ipynb", "print(reference_date, unit)", parameters=parameters)
    write_notebook(deployed.inputs / "check.ipynb", "print(reference_date)", parameters="reference_date = None")
    deployed.write_workflows("""
        workflows:
          - name: flows
            notebooks:
              counts:
                filename: counts.ipynb
                parameters: {reference_date: reference_date, unit: unit}
                output: {format: html}
          - name: checks
            notebooks: {check: {filename: check.ipynb, parameters: {reference_date: reference_date}}}
        available_dates_sensor:
          schedule: null
          workflows:
            - {workflow_name: flows, parameters: {unit: admin2}, earliest_date: 2016-01-10}
            - {workflow_name: checks, earliest_date: 2016-01-11}
    """)
    return files


@pytest.mark.usefixtures("log_as_before")
def test_old_outputs_folder_works_with_no_run_done_twice_and_old_runs_on_the_page(
    deployed: Deployed, example_flowapi: ExampleFlowApi, prefect_running: Mapping[str, str]
) -> None:
    files = restore(deployed)
    with closing(RunStore(deployed.settings().db_uri)) as store:
        store.migrate()
        old = store.runs()
    environ = {**deployed.environ, "FLOWAPI_URL": example_flowapi.url, "FLOWAPI_TOKEN": example_flowapi.token()}

    assert main([], {**environ, **prefect_running}) == 0

    with closing(RunStore(deployed.settings().db_uri)) as store:
        runs = store.runs()
    found = [(str(run.key), run.attempt, str(run.state)) for run in reversed(runs)]
    assert found[:6] == [
        ("flows 2016-01-10", 1, "superseded"),
        ("flows 2016-01-11", 1, "succeeded"),
        ("checks 2016-01-11", 1, "failed"),
        ("flows 2016-01-12", 1, "succeeded"),
        ("checks 2016-01-12", 1, "crashed"),
        ("flows 2016-01-10", 2, "succeeded"),
    ]
    assert sorted(found[6:]) == [("checks 2016-01-11", 2, "succeeded"), ("checks 2016-01-12", 2, "succeeded")]
    assert [run for run in runs if run in old] == [run for run in old if run.id != 5]
    assert all(file.exists() for file in files)

    page = "".join(path.read_text(encoding="utf-8") for path in (deployed.outputs / "page").glob("*/*.js"))
    # The calendars name a date's outputs by the time of its run.
    times = {file.stem.rpartition("__")[2] for file in files if file.suffix == ".html"}
    superseded = next(file.stem.rpartition("__")[2] for file in files if "flows__counts__2016-01-10" in file.name)
    assert len(times) == 4
    assert {time for time in times if f'"{time}"' not in page} == {superseded}

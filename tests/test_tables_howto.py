"""The how-to about tables: its code runs as it stands there, one notebook after the other."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from autoflow.cli import main
from autoflow.model.opening import open_run_store
from examples.flowapi import ExampleFlowApi
from tests.conftest import Deployed, write_notebook

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "tables.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.usefixtures("log_as_before")
def test_code_of_the_page_passes_a_table_on_and_keeps_another(
    deployed: Deployed, example_flowapi: ExampleFlowApi, prefect_running: Mapping[str, str]
) -> None:
    (workflows,) = blocks("yaml")
    write, read, share = blocks("python")
    sensor = {"schedule": None, "workflows": [{"workflow_name": "flows"}]}
    deployed.write_workflows(workflows + yaml.safe_dump({"available_dates_sensor": sensor}))
    folders = 'run_dir = "."\nshared_dir = "."'
    write_notebook(deployed.inputs / "fetch.ipynb", write, share, "len(regions)", parameters=folders)
    write_notebook(deployed.inputs / "report.ipynb", read, parameters='fetch = ""\nrun_dir = "."')
    environ = {
        **deployed.environ,
        **prefect_running,
        "FLOWAPI_URL": example_flowapi.url,
        "FLOWAPI_TOKEN": example_flowapi.token(),
    }
    assert main(["backfill", "flows", "--from", "2016-01-03", "--to", "2016-01-04"], environ) == 0

    with open_run_store(deployed.settings()) as store:
        runs = store.runs()
    assert len({run.run_dir for run in runs}) == 2
    for run in runs:
        assert len(pd.read_parquet(deployed.outputs / str(run.run_dir) / "flows.parquet")) == 3
        report = nbformat.read(run.outputs["report"]["notebook"], as_version=4)
        assert "165" in textwrap.dedent(report.cells[-1].outputs[0]["data"]["text/plain"])
    (shared,) = (deployed.outputs / "shared_dirs").iterdir()
    assert [path.name for path in shared.iterdir()] == ["regions.parquet"]

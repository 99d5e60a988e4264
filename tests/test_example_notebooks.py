"""The example's workflow: what workflows.yml says, and its notebooks, run against the example FlowAPI."""

import datetime
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest

from autoflow.dates.availability import Availability
from autoflow.kernels.fork_server import ForkServer
from autoflow.notebooks.execution import Means, Task, execute
from autoflow.page.readable import readable_html
from autoflow.parser import parse_workflows_file
from autoflow.reports import ReportContext, convert
from autoflow.runs.plan import make_plan
from autoflow.runs.statuses import DateStatus
from autoflow.settings import CONFIG_DIR
from autoflow.specs import NotebookSpec, ReportFormat, TriggerSpec
from examples.flowapi import ExampleFlowApi, first_dates
from examples.run import LOST_DAY
from tests.environment import steady_environ
from tests.waiting import LONG

INPUTS = Path(__file__).parents[1] / "examples" / "inputs"
NOTEBOOKS = ("run_flows.ipynb", "flows_report.ipynb")


@pytest.fixture(scope="module")
def trigger() -> TriggerSpec:
    workflows_file = parse_workflows_file(INPUTS / "workflows.yml")
    trigger, *_ = workflows_file.sensor.triggers
    assert workflows_file.sensor.schedule is None
    return trigger


@dataclass(frozen=True)
class Executed:
    """What the cells of an executed notebook show, by the cell's id."""

    path: Path

    @property
    def outputs(self) -> dict[str, list[Any]]:
        notebook = nbformat.read(self.path, as_version=4)
        return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}

    def shown(self, cell: str, media_type: str) -> list[str]:
        return [output.data[media_type] for output in self.outputs[cell] if media_type in output.get("data", {})]

    def markdown(self, cell: str) -> str:
        return "\n".join(self.shown(cell, "text/markdown")).replace("\N{NO-BREAK SPACE}", " ")

    def streams(self) -> list[str]:
        return [
            output.text for outputs in self.outputs.values() for output in outputs if output.output_type == "stream"
        ]

    def scrap(self, name: str) -> str:
        (scrap,) = (
            shown
            for shown in self.shown("glue", "application/scrapbook.scrap.text+json")
            if shown["name"] == name  # type: ignore[index]
        )
        return str(scrap["data"])  # type: ignore[index]


@dataclass(frozen=True)
class Analyst:
    """Runs both notebooks of the workflow for a date, one after the other."""

    api: ExampleFlowApi
    trigger: TriggerSpec
    folder: Path
    fork_server: ForkServer

    def execute(self, reference_date: datetime.date, **changed: Any) -> tuple[Executed, Executed]:
        values: dict[str, Any] = {
            **self.trigger.parameters,
            "flowapi_url": self.api.url,
            "reference_date": str(reference_date),
            "date_ranges": [interval.as_strings() for interval in self.trigger.date_stencil.resolve(reference_date)],
            **changed,
        }
        for notebook in self.trigger.workflow.notebooks:
            executed = self.folder / notebook.path.name
            given = {name: values[source] for name, source in notebook.parameters.items()}
            self._execute(notebook, executed, given)
            values[notebook.label] = str(executed)
        return Executed(self.folder / NOTEBOOKS[0]), Executed(self.folder / NOTEBOOKS[1])

    def execute_one(self, reference_date: datetime.date, missing_dates: list[str]) -> Executed:
        """Run the only notebook of a workflow."""
        (notebook,) = self.trigger.workflow.notebooks
        executed = self.folder / notebook.path.name
        values: dict[str, Any] = {
            **self.trigger.parameters,
            "flowapi_url": self.api.url,
            "date_ranges": [interval.as_strings() for interval in self.trigger.date_stencil.resolve(reference_date)],
            "missing_dates": missing_dates,
        }
        self._execute(notebook, executed, {name: values[source] for name, source in notebook.parameters.items()})
        return Executed(executed)

    def _execute(self, notebook: NotebookSpec, executed: Path, parameters: Mapping[str, Any]) -> None:
        environment = {**steady_environ(), "FLOWAPI_TOKEN": self.api.token()}
        task = Task(label=notebook.label, parameters=parameters, environment=environment)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(execute, notebook.path, executed, task, Means(fork_server=self.fork_server)).result(LONG)


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    with ForkServer(idle_seconds=LONG) as server:
        yield server


@pytest.fixture(scope="module")
def api() -> Iterator[ExampleFlowApi]:
    with ExampleFlowApi() as running:
        yield running


@pytest.fixture(scope="module")
def executed(
    api: ExampleFlowApi, trigger: TriggerSpec, tmp_path_factory: pytest.TempPathFactory, fork_server: ForkServer
) -> tuple[Executed, Executed]:
    return Analyst(api, trigger, tmp_path_factory.mktemp("executed"), fork_server).execute(datetime.date(2016, 1, 12))


@pytest.fixture(scope="module")
def run_flows(executed: tuple[Executed, Executed]) -> Executed:
    return executed[0]


@pytest.fixture(scope="module")
def report(executed: tuple[Executed, Executed]) -> Executed:
    return executed[1]


def flows_of(api: ExampleFlowApi, query_id: str) -> dict[tuple[str, str], int]:
    answer = httpx.get(f"{api.url}/api/0/get/{query_id}", headers={"Authorization": f"Bearer {api.token()}"})
    return {(row["pcod_from"], row["pcod_to"]): row["value"] for row in answer.json()["query_result"]}


def test_workflow_reports_as_pdf(trigger: TriggerSpec) -> None:
    run_flows, report = trigger.workflow.notebooks
    assert trigger.workflow.name == "flows_above_normal"
    assert run_flows.output is None
    assert report.output is not None
    assert report.output.formats == (ReportFormat.PDF,)
    assert trigger.workflow.dependencies(report) == {"run_flows"}
    assert set(trigger.parameters) == trigger.workflow.parameter_names


def test_four_of_the_examples_dates_are_due(trigger: TriggerSpec) -> None:
    dates = [day for day in first_dates(12) if day != LOST_DAY]
    assert trigger.earliest_date is not None
    due = [
        date for date in dates if date >= trigger.earliest_date and trigger.date_stencil.is_available(date, set(dates))
    ]
    assert due == [datetime.date(2016, 1, day) for day in (9, 10, 11, 12)]


@pytest.mark.parametrize("name", [*NOTEBOOKS, "week_report.ipynb"])
def test_notebooks_are_stored_without_outputs(name: str) -> None:
    notebook = nbformat.read(INPUTS / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert [cell.id for cell in code if "parameters" in cell.metadata.get("tags", [])] == ["parameters"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.parametrize("name", [*NOTEBOOKS, "week_report.ipynb"])
def test_notebooks_connect_as_the_readme_tells(name: str) -> None:
    source = "\n".join(cell.source for cell in nbformat.read(INPUTS / name, as_version=4).cells)
    assert "import flowclient\n" in source
    assert "from get_secret_or_env_var import environ\n" in source
    assert 'conn = flowclient.connect(url=flowapi_url, token=environ["FLOWAPI_TOKEN"])' in source


def test_run_flows_glues_the_ids_of_two_queries_that_are_in_cache(api: ExampleFlowApi, run_flows: Executed) -> None:
    ids = {run_flows.scrap("usual_flows_id"), run_flows.scrap("flows_id")}
    assert len(ids) == 2
    assert all(flows_of(api, query_id) for query_id in ids)
    assert [path for method, path in api.requests if method == "POST"][:2] == ["/api/0/run"] * 2


def test_notebooks_print_nothing_and_emit_no_warnings(run_flows: Executed, report: Executed) -> None:
    assert run_flows.streams() == []
    assert report.streams() == []


def test_report_names_the_largest_flow_above_normal(api: ExampleFlowApi, run_flows: Executed, report: Executed) -> None:
    usual = flows_of(api, run_flows.scrap("usual_flows_id"))
    now = flows_of(api, run_flows.scrap("flows_id"))
    above = {pair: value - usual.get(pair, 15) for pair, value in now.items() if pair[0] != pair[1]}
    above = {pair: increase for pair, increase in above.items() if increase >= 20}
    (start, end), _ = max(above.items(), key=lambda flow: flow[1])
    summary = report.markdown("summary")
    assert summary.startswith("**Tuesday 12 January 2016**, compared with Tuesday 5 January 2016")
    assert f"{len(above)} flows were above normal by 20 subscribers or more" in summary
    assert f"together, {sum(above.values())} subscribers more than usual" in summary
    assert f"from **{start}** to **{end}**, of {now[start, end]} subscribers" in summary


def test_report_has_a_table_of_all_flows_above_normal(report: Executed) -> None:
    (table,) = report.shown("flows-table", "text/html")
    summary = re.search(r"(\d+) flows were above", report.markdown("summary"))
    assert summary is not None
    assert table.count("<tr") == 1 + int(summary[1])
    for heading in ("From", "To", "Usual day", "Reference date", "Above normal"):
        assert f"<th>{heading}</th>" in table


def test_report_names_the_regions_that_gained_and_lost_people(report: Executed) -> None:
    (table,) = report.shown("regions-table", "text/html")
    rows = re.findall(r"<td>(VM \d \d\d)</td>.*?<td>([+-][\d,]+)</td>", table, re.DOTALL)
    changes = [int(change.replace(",", "")) for _, change in rows]
    assert changes == sorted(changes)
    assert changes[0] < 0 < changes[-1]
    assert f"Region **{rows[0][0]}** lost the most people: {-changes[0]} subscribers" in report.markdown("summary")
    assert f"Region **{rows[-1][0]}** gained the most: {changes[-1]} subscribers" in report.markdown("summary")


@pytest.mark.parametrize("cell", ["flows-map", "regions-map"])
def test_report_has_a_map_with_a_caption(report: Executed, cell: str) -> None:
    assert len(report.shown(cell, "image/png")) == 1
    assert "Tuesday 12 January 2016" in report.markdown(cell)


def test_report_explains_its_method(report: Executed) -> None:
    method = report.markdown("method")
    assert "Friday 1 January 2016" in method
    assert "below 16 subscribers is unknown" in method


def test_reports_and_readable_html_are_complete(run_flows: Executed, report: Executed, tmp_path: Path) -> None:
    context = ReportContext(workflow="flows_above_normal", dates="2016-01-12")
    template = CONFIG_DIR / "asciidoc_extended.tpl"
    for executed in (run_flows, report):
        made = tmp_path / f"{executed.path.stem}.html"
        convert(
            executed.path, made, report_format=ReportFormat.HTML, context=context, template=template, inputs_dir=INPUTS
        )
        readable = readable_html(json.loads(executed.path.read_text(encoding="utf-8")), title="T")

        shown = made.read_text(encoding="utf-8")
        assert not re.search(r"not complete|not shown|plain text only|more (characters|marks|lines|columns)", shown)
        assert "(truncated)" not in readable


def test_report_explains_that_all_numbers_are_too_small(
    trigger: TriggerSpec, tmp_path: Path, fork_server: ForkServer
) -> None:
    with ExampleFlowApi(subscribers=40) as api:
        _, report = Analyst(api, trigger, tmp_path, fork_server).execute(datetime.date(2016, 1, 12))
    assert "No flow between two regions was above normal" in report.markdown("summary")
    assert report.shown("flows-map", "image/png") == []
    assert report.shown("regions-map", "image/png") == []
    assert "FlowKit gives no number for any region" in report.markdown("regions-map")
    assert "No region gained or lost" in report.markdown("regions-table")
    assert report.streams() == []


def test_report_of_an_ordinary_day_has_no_flows_to_draw(
    api: ExampleFlowApi, trigger: TriggerSpec, tmp_path: Path, fork_server: ForkServer
) -> None:
    _, report = Analyst(api, trigger, tmp_path, fork_server).execute(datetime.date(2016, 1, 9), min_increase=5000)
    assert report.markdown("flows-map") == "There is no flow above normal to draw."
    assert report.outputs["flows-table"] == []
    assert len(report.shown("regions-map", "image/png")) == 1
    assert report.streams() == []


SUNDAY = datetime.date(2016, 1, 10)


def test_week_is_due_for_each_region_although_the_day_of_the_cyclone_is_missing() -> None:
    _, east, west = parse_workflows_file(INPUTS / "workflows.yml").sensor.triggers
    assert [(each.label, each.shown_title) for each in (east, west)] == [
        ("east", "A week in the east"),
        ("west", "A week in the west"),
    ]
    days = Availability.of(day for day in first_dates(12) if day != LOST_DAY)
    now = datetime.datetime(2026, 1, 1)
    for plan in make_plan([east, west], days, {}, now):
        found = {each.date: (each.status, each.missing) for each in plan.dates}
        assert found[SUNDAY] == (DateStatus.DUE, (LOST_DAY,))
        assert [each.date for each in plan.dates if each.status is DateStatus.DUE] == [SUNDAY]


def test_report_of_a_week_shows_people_in_the_region_and_the_missing_day(
    api: ExampleFlowApi, tmp_path: Path, fork_server: ForkServer
) -> None:
    _, east, _ = parse_workflows_file(INPUTS / "workflows.yml").sensor.triggers
    report = Analyst(api, east, tmp_path, fork_server).execute_one(SUNDAY, [str(LOST_DAY)])
    summary = report.markdown("summary")
    assert summary.startswith("**The east of Velmara, Monday 4 January to Sunday 10 January 2016.**")
    assert summary.endswith("There is no data for Friday 8 January.")
    (table,) = report.shown("table", "text/html")
    days = re.findall(r"<th>(\w+day \d+ January)</th>\s*<td>([\d,]+|no data)</td>", table)
    counts = dict(days)
    assert len(days) == 7
    assert counts["Friday 8 January"] == "no data"
    assert int(counts["Sunday 10 January"].replace(",", "")) < int(counts["Thursday 7 January"].replace(",", ""))
    assert len(report.shown("chart", "image/png")) == 1
    assert report.streams() == []

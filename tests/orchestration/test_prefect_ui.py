"""What AutoFlow shows in Prefect's UI, and how it reacts to users there, through the API that the UI uses."""

import datetime
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import prefect.runtime.flow_run
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Cancelling

from autoflow.dates.availability import Availability
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.orchestration.cancellation import Cancellations
from autoflow.orchestration.deployments import Deployment
from autoflow.parser import read_workflows
from autoflow.runs.plan import due_work
from autoflow.runs.records import RunState
from autoflow.runs.run import WorkflowRun
from autoflow.sensor import make_available_dates_sensor, make_run_workflow
from autoflow.settings import Settings
from autoflow.system.stop_signal import Shutdown
from autoflow.workflows.connection import connected
from autoflow.workflows.dispatcher import Dispatcher
from autoflow.workflows.runner import WorkflowRunner
from autoflow.workflows.tick import Sensor
from examples.flowapi import ExampleFlowApi
from tests.conftest import TOKEN_OF_NO_USE, Deployed, write_notebook
from tests.test_acceptance import processes_with
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("prefect_url")

DATE = datetime.date(2016, 1, 12)
GOES_ON = "open('started', 'w').close()\nimport os, time\nwhile not os.path.exists('go'): time.sleep(0.05)"
WAITS = "open('started', 'w').close()\nimport time; time.sleep(600)"


@dataclass(frozen=True)
class Working:
    settings: Settings
    store: RunStore
    runner: WorkflowRunner
    dispatcher: Dispatcher


@contextmanager
def working(deployed: Deployed, name: str, **environ: str) -> Iterator[Working]:
    """Deploy one workflow called `name`, which runs n.ipynb."""
    deployed.write_workflows(f"""
        workflows: [{{name: {name}, notebooks: {{n: {{filename: n.ipynb}}}}}}]
        available_dates_sensor: {{schedule: null, workflows: [{{workflow_name: {name}, earliest_date: 2016-01-12}}]}}
    """)
    settings = deployed.settings(**environ)
    store = RunStore(settings.db_uri)
    store.migrate()
    with Heartbeat(store) as heartbeat, Cancellations() as cancellations:
        runner = WorkflowRunner(settings=settings, store=store, heartbeat=heartbeat, cancellations=cancellations)
        with connected(runner), Dispatcher(runner, shutdown=Shutdown()) as dispatcher:
            yield Working(settings, store, runner, dispatcher)
    store.close()


def the_run(settings: Settings) -> WorkflowRun:
    workflow = read_workflows(settings).workflows[0]
    return WorkflowRun(workflow=workflow, parameters={}, reference_date=DATE, date_ranges=())


def flow_runs(**conditions: Any) -> list[Any]:
    with get_client(sync_client=True) as client:
        return list(client.read_flow_runs(**conditions))


def flow_run_of(name: str) -> Any:
    (found,) = flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[name])))
    return found


def artifact(flow_run_id: UUID) -> str:
    with get_client(sync_client=True) as client:
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        (found,) = [each for each in client.read_artifacts(artifact_filter=of_run) if each.type == "markdown"]
    return str(found.data)


def cancel_when_started(deployed: Deployed, find: Callable[[], UUID], state: State[Any]) -> threading.Thread:
    """Set the state of a run, as Prefect's UI does, once its notebook has started."""

    def wait_and_cancel() -> None:
        wait_for((deployed.inputs / "started").exists)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(find(), state, force=True)

    thread = threading.Thread(target=wait_and_cancel)
    thread.start()
    return thread


@pytest.mark.parametrize("state", [Cancelling(), Cancelled()], ids=["cancelling", "cancelled"])
def test_a_run_that_is_cancelled_in_prefect_ends_within_seconds_and_is_not_due(
    deployed: Deployed, state: State[Any]
) -> None:
    name = f"waits-{state.name}"
    write_notebook(deployed.inputs / "n.ipynb", WAITS)
    with working(deployed, name) as work:
        canceller = cancel_when_started(deployed, lambda: UUID(str(flow_run_of(name).id)), state)
        ended = work.runner.run(the_run(work.settings), shutdown=Shutdown())
        canceller.join()
        histories = work.store.histories()
        triggers = read_workflows(work.settings).sensor.triggers
        assert due_work(triggers, Availability.of({DATE}), histories, datetime.datetime(2100, 1, 1)).total == 0
        (record,) = work.store.runs()

    assert ended is RunState.CANCELLED
    assert record.state is RunState.CANCELLED
    assert record.error
    assert record.error.message == "it was cancelled in Prefect"
    assert flow_run_of(name).state.type.value == "CANCELLED"
    assert processes_with(str(deployed.outputs)) == []


def test_a_requested_run_whose_dates_are_not_available_is_not_run(
    deployed: Deployed, example_flowapi: ExampleFlowApi
) -> None:
    write_notebook(deployed.inputs / "n.ipynb", "1")
    environ = {"FLOWAPI_URL": example_flowapi.url, "FLOWAPI_TOKEN": example_flowapi.token()}
    with working(deployed, "early", **environ) as work:
        flow = make_run_workflow(work.runner, work.dispatcher, workflows=["early"], shutdown=Shutdown())
        state: Any = flow("early", datetime.date(2016, 1, 13), return_state=True)
        assert work.store.runs() == []

    assert state.type.value == "FAILED"
    assert state.message.startswith("early 2016-01-13 cannot run: FlowAPI has no data for 2016-01-13")


def test_a_requested_run_with_a_secret_is_refused_and_prefect_forgets_the_secret(deployed: Deployed) -> None:
    write_notebook(deployed.inputs / "n.ipynb", "1")
    with working(deployed, "asks", FLOWAPI_TOKEN="a-token-that-somebody-pasted") as work:
        flow = make_run_workflow(work.runner, work.dispatcher, workflows=["asks"], shutdown=Shutdown())
        parameters = {"value": {"nested": ["Bearer a-token-that-somebody-pasted"]}, "other": 1}
        state: Any = flow("asks", DATE, parameters, return_state=True)
        assert work.store.runs() == []
    (found,) = [each for each in flow_runs() if each.name == f"asks {DATE}"]

    assert state.type.value == "FAILED"
    assert state.message.startswith("parameter 'value': it contains the token")
    assert found.parameters["parameters"] == {"value": "[secret]", "other": 1}
    assert "somebody-pasted" not in found.model_dump_json()


def test_cancelling_a_requested_run_cancels_the_workflows_run(
    deployed: Deployed, example_flowapi: ExampleFlowApi
) -> None:
    write_notebook(deployed.inputs / "n.ipynb", WAITS)
    environ = {"FLOWAPI_URL": example_flowapi.url, "FLOWAPI_TOKEN": example_flowapi.token()}
    with working(deployed, "requested", **environ) as work:
        shutdown = Shutdown()
        flow = make_run_workflow(work.runner, work.dispatcher, workflows=["requested"], shutdown=shutdown)

        def outer() -> UUID:
            (found,) = [each for each in flow_runs() if each.name == "requested 2016-01-12" and not each.tags]
            return UUID(str(found.id))

        canceller = cancel_when_started(deployed, outer, Cancelling())
        state: Any = flow("requested", DATE, return_state=True)
        canceller.join()
        (record,) = work.store.runs()

    assert record.state is RunState.CANCELLED
    assert state.type.value == "CANCELLED"


def test_cancelling_a_tick_starts_nothing_until_the_next_one_and_what_runs_goes_on(deployed: Deployed) -> None:
    write_notebook(deployed.inputs / "n.ipynb", GOES_ON)
    name = "ticks"
    with (
        ExampleFlowApi() as flowapi,
        working(
            deployed, name, FLOWAPI_URL=flowapi.url, FLOWAPI_TOKEN=flowapi.token(), AUTOFLOW_MAX_PARALLEL_RUNS="1"
        ) as work,
    ):
        sensor = Sensor(settings=work.settings, store=work.store, dispatcher=work.dispatcher, wait=lambda _: False)
        cancellations = work.runner.cancellations

        def tick(done: Callable[[object], None]) -> Any:
            flow = make_available_dates_sensor(sensor, cancellations=cancellations, shutdown=Shutdown(), done=done)
            return flow(return_state=True)

        def cancel(_tick: object) -> None:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(UUID(prefect.runtime.flow_run.id), Cancelling(), force=True)
            cancellations.check()

        tick(lambda _: None)
        wait_for((deployed.inputs / "started").exists)
        flowapi.add_date("2016-01-13")
        state = tick(cancel)
        (deployed.inputs / "go").touch()
        assert work.dispatcher.drain()
        assert [(str(run.key), run.state) for run in work.store.runs()] == [(f"{name} 2016-01-12", RunState.SUCCEEDED)]
        tick(lambda _: None)
        assert work.dispatcher.drain()
        assert len(work.store.runs()) == 2

    assert state.type.value == "CANCELLED"


def test_a_run_has_tags_and_links_to_its_outputs(deployed: Deployed) -> None:
    write_notebook(deployed.inputs / "n.ipynb", "1")
    with working(deployed, "linked", AUTOFLOW_REPORT_URL_BASE="https://reports.example.org/a") as work:
        assert work.runner.run(the_run(work.settings), shutdown=Shutdown()) is RunState.SUCCEEDED

    flow_run = flow_run_of("linked")
    assert set(flow_run.tags) == {"linked", "2016-01-12"}
    (notebook,) = deployed.executed()
    assert f"(<https://reports.example.org/a/notebooks/{notebook.name}>)" in artifact(flow_run.id)


def test_a_failed_run_shows_the_notebook_the_cell_and_its_source_without_secrets(deployed: Deployed) -> None:
    source = "import os\n# ```\nraise ValueError('bad ' + os.environ['FLOWAPI_TOKEN'])"
    write_notebook(deployed.inputs / "n.ipynb", "1", source)
    with working(deployed, "failing") as work:
        assert work.runner.run(the_run(work.settings), shutdown=Shutdown()) is RunState.FAILED

    markdown = artifact(flow_run_of("failing").id)
    assert "### Failed in n, cell 2" in markdown
    assert "ValueError: bad [secret]" in markdown
    assert f"````python\n{source}\n````" in markdown
    assert f"`notebooks/{deployed.executed()[0].name}`" in markdown
    assert "relative to the outputs folder" in markdown
    assert str(deployed.outputs) not in markdown
    assert TOKEN_OF_NO_USE not in markdown


def test_the_form_to_run_a_workflow_offers_names_a_date_and_parameters(deployed: Deployed) -> None:
    with working(deployed, "offered") as work:
        flow = make_run_workflow(work.runner, work.dispatcher, workflows=["a", "b"], shutdown=Shutdown())
        deployment = Deployment(flow, name="form", description="A form.")
        deployment.apply()
    with get_client(sync_client=True) as client:
        schema = client.read_deployment(deployment.id).parameter_openapi_schema
        client.delete_deployment(deployment.id)

    assert schema
    properties = schema["properties"]
    assert properties["workflow"]["enum"] == ["a", "b"]
    assert properties["reference_date"]["format"] == "date"
    assert (properties["parameters"]["type"], properties["parameters"]["default"]) == ("object", {})
    assert schema["required"] == ["workflow", "reference_date"]
    assert "workflows.yml" in properties["workflow"]["description"]


def test_a_requested_run_has_the_parameters_in_workflows_yml_where_the_form_gives_none(
    deployed: Deployed, example_flowapi: ExampleFlowApi
) -> None:
    write_notebook(deployed.inputs / "n.ipynb", "1", parameters="x = 0\ny = 0")
    with working(deployed, "merged", FLOWAPI_URL=example_flowapi.url, FLOWAPI_TOKEN=example_flowapi.token()) as work:
        deployed.write_workflows("""
            workflows: [{name: merged, notebooks: {n: {filename: n.ipynb, parameters: {x: x, y: y}}}}]
            available_dates_sensor: {schedule: null, workflows: [{workflow_name: merged, parameters: {x: 1, y: 2}}]}
        """)
        flow = make_run_workflow(work.runner, work.dispatcher, workflows=["merged"], shutdown=Shutdown())
        state: Any = flow("merged", DATE, {"y": 5}, return_state=True)
        (record,) = work.store.runs()

    assert state.type.value == "COMPLETED"
    assert record.key.parameters == '{"x":1,"y":5}'

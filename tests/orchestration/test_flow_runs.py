"""Runs of flows on a real Prefect server."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import prefect
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from autoflow.orchestration.flow_runs import FlowRuns

pytestmark = pytest.mark.usefixtures("prefect_url")


def the_run(flow_run_id: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run_id)


def test_run_has_its_name_tags_parameters_and_final_state() -> None:
    seen = []

    @prefect.flow(name="named", persist_result=False)
    def named(number: int) -> str:
        context = FlowRunContext.get()
        assert context
        assert context.flow_run
        seen.append(context.flow_run.id)
        return "done" * number

    with FlowRuns() as flow_runs:
        state = flow_runs.run(named, {"number": 2}, name="its {name}", tags=["one", "two"])

    flow_run = the_run(seen[0])
    assert state.is_completed()
    assert flow_run.state
    assert flow_run.state.is_completed()
    assert (flow_run.name, sorted(flow_run.tags), flow_run.parameters) == ("its {name}", ["one", "two"], {"number": 2})


def test_run_that_fails_is_reported_as_failed_and_calls_its_hooks() -> None:
    called = []

    @prefect.flow(name="fails", persist_result=False)
    def fails() -> None:
        raise ValueError("no")

    fails.on_running_hooks.append(lambda _flow, flow_run, _state: called.append(flow_run.id))
    state = FlowRuns().run(fails, {}, name="fails", tags=[])
    flow_run = the_run(called[0])
    assert state.is_failed()
    assert flow_run.state
    assert flow_run.state.is_failed()


def test_run_within_another_run_has_no_parent() -> None:
    inner_ids = []

    @prefect.flow(name="inner", persist_result=False)
    def inner() -> None:
        context = FlowRunContext.get()
        assert context
        assert context.flow_run
        inner_ids.append(context.flow_run.id)

    @prefect.flow(name="outer", persist_result=False)
    def outer() -> None:
        assert FlowRuns().run(inner, {}, name="inner", tags=[]).is_completed()

    outer()
    assert the_run(inner_ids[0]).parent_task_run_id is None


def test_flow_that_was_deleted_in_prefect_still_runs() -> None:
    @prefect.flow(name="deleted", persist_result=False)
    def deleted() -> None:
        pass

    with FlowRuns() as flow_runs, get_client(sync_client=True) as client:
        assert flow_runs.run(deleted, {}, name="before", tags=[]).is_completed()
        client.delete_flow(client.read_flow_by_name("deleted").id)
        assert flow_runs.run(deleted, {}, name="after", tags=[]).is_completed()


def test_many_threads_run_flows_side_by_side_over_one_client() -> None:
    @prefect.flow(name="many", persist_result=False)
    def many(number: int) -> int:
        return number

    with FlowRuns() as flow_runs, ThreadPoolExecutor(8) as pool:
        states = list(pool.map(lambda n: flow_runs.run(many, {"number": n}, name=f"run {n}", tags=[]), range(24)))
    assert [state.is_completed() for state in states] == [True] * 24

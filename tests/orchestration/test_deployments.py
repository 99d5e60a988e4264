"""Deployments on a real Prefect server: each scheduled run is run once, and later if Prefect fails before it starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import prefect
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun

from autoflow.orchestration.deployments import Deployment, DeploymentRunner
from tests.waiting import LONG

pytestmark = pytest.mark.usefixtures("prefect_url")


class FlowBeforeWhichPrefectFails(prefect.Flow[[], None]):
    """A flow for which the Prefect API fails when a run is about to start, `failures_left` times."""

    failures_left = 0

    @property
    def version(self) -> str:
        if self.failures_left:
            self.failures_left -= 1
            raise httpx.ConnectError("gone")
        return "1"

    @version.setter
    def version(self, value: str | None) -> None:
        pass


@contextmanager
def deployed(flow: "prefect.Flow[..., Any]", *, exclusive: bool = False) -> Iterator[Deployment]:
    deployment = Deployment(flow, name="test", description="A test.", exclusive=exclusive)
    deployment.apply()
    yield deployment
    with get_client(sync_client=True) as client:
        client.delete_deployment(deployment.id)


def runs_of(deployment: Deployment) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        of_deployment = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment.id]))
        return client.read_flow_runs(flow_run_filter=of_deployment)


def poll(runner: DeploymentRunner, *, times: int = 1) -> None:
    """Have the runner look for runs, and wait for those that it begins."""
    for _ in range(times):
        runner.poll()
        assert runner.join(LONG)


def test_scheduled_run_is_run_once() -> None:
    ran = []

    @prefect.flow(name="once", persist_result=False)
    def once() -> None:
        ran.append(1)

    with deployed(once) as deployment, DeploymentRunner([deployment]) as runner:
        deployment.run_soon()
        poll(runner, times=2)
        [flow_run] = runs_of(deployment)
    assert ran == [1]
    assert flow_run.state
    assert flow_run.state.is_completed()


def test_run_that_prefect_failed_to_start_is_run_later() -> None:
    ran = []
    flow = FlowBeforeWhichPrefectFails(lambda: ran.append(1), name="later", persist_result=False)
    with deployed(flow) as deployment, DeploymentRunner([deployment]) as runner:
        flow.failures_left = 1
        deployment.run_soon()
        poll(runner)
        assert ran == []
        poll(runner, times=2)  # the first poll schedules it again, the second starts it
        [flow_run] = runs_of(deployment)
    assert ran == [1]
    assert flow_run.state
    assert flow_run.state.is_completed()


def test_only_the_newest_of_several_late_exclusive_runs_is_run() -> None:
    ran = []

    @prefect.flow(name="exclusive", persist_result=False)
    def exclusive() -> None:
        ran.append(1)

    with deployed(exclusive, exclusive=True) as deployment, DeploymentRunner([deployment]) as runner:
        for _ in range(3):
            deployment.run_soon()
        poll(runner)
        states = sorted(str(flow_run.state_type) for flow_run in runs_of(deployment))
    assert ran == [1]
    assert states == ["StateType.CANCELLED", "StateType.CANCELLED", "StateType.COMPLETED"]

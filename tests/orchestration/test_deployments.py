"""Deployments on a real Prefect server: each scheduled run is run once, and later if Prefect fails before it starts."""

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import prefect
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Scheduled

from autoflow.orchestration.deployments import TICK_NAME, Deployment, DeploymentRunner
from autoflow.utils import ClockWatch
from tests.waiting import LONG, wait_for

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


def test_what_was_scheduled_while_the_clock_was_ahead_is_scheduled_anew_when_it_is_set_back() -> None:
    @prefect.flow(name="ahead", persist_result=False)
    def ahead() -> None:
        pass

    seconds_ahead = [3600.0]
    watch = ClockWatch(lambda: seconds_ahead[-1])
    with (
        deployed(ahead) as deployment,
        DeploymentRunner([deployment], clock_watch=watch) as runner,
        get_client(sync_client=True) as client,
    ):
        deployment.apply(cron="0 0 * * *")
        wait_for(lambda: len(runs_of(deployment)) >= 3)
        in_a_year: State[Any] = Scheduled(
            scheduled_time=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
        )
        by_hand = client.create_flow_run_from_deployment(deployment.id, state=in_a_year).id
        scheduled = {each.id for each in runs_of(deployment)}
        runner.poll()
        assert {each.id for each in runs_of(deployment)} >= scheduled
        seconds_ahead.append(0.0)
        runner.poll()
        assert {each.id for each in runs_of(deployment)} & scheduled == {by_hand}


def test_ticks_that_prefect_has_scheduled_have_a_proper_name() -> None:
    @prefect.flow(name="ticks-by-name", persist_result=False)
    def nothing() -> None:
        pass

    deployment = Deployment(nothing, name="test", description="A test.")
    deployment.apply(cron="0 0 1 1 *")
    with DeploymentRunner([deployment], tick=deployment) as runner, get_client(sync_client=True) as client:
        wait_for(lambda: runs_of(deployment))
        runner.poll()
        names = {flow_run.name for flow_run in runs_of(deployment)}
        deployment.run_soon()
        names |= {flow_run.name for flow_run in runs_of(deployment)}
        client.delete_deployment(deployment.id)
    assert names == {TICK_NAME}


def test_deployment_is_paused_if_it_or_its_schedule_is_paused_in_prefect() -> None:
    @prefect.flow(name="paused", persist_result=False)
    def nothing() -> None:
        pass

    deployment = Deployment(nothing, name="test", description="A test.")
    deployment.apply(cron="0 0 1 1 *")
    with DeploymentRunner([deployment]) as runner, get_client(sync_client=True) as client:
        found = [runner.is_paused(deployment), deployment.is_paused()]
        client.pause_deployment(deployment.id)
        found += [runner.is_paused(deployment), deployment.is_paused()]
        client.resume_deployment(deployment.id)
        schedule = client.read_deployment(deployment.id).schedules[0]
        client.update_deployment_schedule(deployment.id, schedule.id, active=False)
        found += [runner.is_paused(deployment), deployment.is_paused()]
        client.delete_deployment(deployment.id)
        assert runner.is_paused(deployment) is None
    assert found == [False, False, True, True, True, True]

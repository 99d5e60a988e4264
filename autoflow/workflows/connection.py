"""Connects runs with Prefect: it shows them, and they end when they are cancelled there. This imports Prefect."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from autoflow.orchestration.cancelled import CancelledFlowRuns
from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.orchestration.flow_runs import FlowRuns
from autoflow.orchestration.prefect_client_internals import disable_heartbeats, line_sender, prefect_queues_flushed
from autoflow.orchestration.progress import ProgressBars
from autoflow.system.log import logger
from autoflow.utils import first_line
from autoflow.workflows.flow import flow_of
from autoflow.workflows.progress import ProgressWatch
from autoflow.workflows.runner import WorkflowRunner
from autoflow.workflows.shown_runs import ShownRun

LAST_WAIT = 5.0
"""How long Prefect has for the ends of the last runs, in seconds."""


@contextmanager
def connected(runner: WorkflowRunner, progress: ProgressWatch | None = None) -> Iterator[None]:
    """Connect `runner` with the Prefect API in Prefect's settings, which responds, for the duration of the block.

    The end of the block waits a few seconds until Prefect knows how the last runs have ended.
    """
    disable_heartbeats()
    with (
        prefect_queues_flushed(),
        FlowRuns() as flow_runs,
        CancelledFlowRuns() as cancelled,
        ProgressBars() as bars,
    ):
        runner.cancellations.ask_with(cancelled.among)
        runner.shown_runs.connect(functools.partial(_show, flow_runs))
        if progress:
            progress.show_with(bars.show)
        try:
            yield
        finally:
            runner.shown_runs.join(LAST_WAIT)


def _show(flow_runs: FlowRuns, shown: ShownRun) -> None:
    """Run the flow of `shown`, which waits for its notebooks; if Prefect fails, the run is not affected."""

    def started(flow: object, flow_run: FlowRun, state: object) -> None:  # noqa: ARG001 - Prefect's hook
        shown.started(UUID(str(flow_run.id)))
        shown.execution.lines.send_with(line_sender(flow_run.id))

    flow = flow_of(shown.execution)
    flow.on_running(started)
    run = shown.execution.run
    try:
        flow_runs.run(flow, shown.parameters, name=str(run), tags=shown.tags)
    except PREFECT_FAILURES as error:
        logger.warning("Prefect does not show %s to its end, as its API failed: %s", run, first_line(error))

"""What runs workflows, put together with all that keeps its claims, hears of cancellations and tells of its runs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from autoflow.kernels.fork_server import ForkServer
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.notify import Notifier
from autoflow.orchestration.cancellation import Cancellations
from autoflow.orchestration.flow_runs import FlowRuns
from autoflow.orchestration.prefect_client_internals import disable_heartbeats, prefect_queues_flushed
from autoflow.page.writer import PageWriter
from autoflow.parser import read_workflows
from autoflow.settings import Settings
from autoflow.workflows.runner import WorkflowRunner


@dataclass(frozen=True)
class Assembly:
    """A runner, and what follows its runs."""

    runner: WorkflowRunner
    notifier: Notifier
    page: PageWriter


@contextmanager
def assembled(settings: Settings, store: RunStore, *, fork_server: ForkServer | None) -> Iterator[Assembly]:
    """Yield a runner with its followers, whose threads end with the block; Prefect's API answers in it.

    Kernels start sooner if there is a `fork_server`.

    Raises
    ------
    WorkflowsFileError
        If something is wrong in workflows.yml.

    """
    disable_heartbeats()
    with (
        Notifier(settings) as notifier,
        PageWriter(settings, store) as page,
        Heartbeat(store) as heartbeat,
        prefect_queues_flushed(),
        FlowRuns() as flow_runs,
        Cancellations() as cancellations,
    ):
        page.follow(read_workflows(settings).sensor.triggers)
        runner = WorkflowRunner(
            settings=settings,
            store=store,
            heartbeat=heartbeat,
            cancellations=cancellations,
            slots=threading.Semaphore(settings.max_parallel_runs),
            followers=(notifier.run_ended, page.run_ended),
            fork_server=fork_server,
            flow_runs=flow_runs,
        )
        yield Assembly(runner, notifier, page)

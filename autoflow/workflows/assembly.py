"""Puts the runner together with its heartbeat, cancellations, notifier and page."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from autoflow.cluster import cluster_of
from autoflow.kernels.fork_server import ForkServer
from autoflow.messages.entries import EntryWatch
from autoflow.messages.notifier import Notifier
from autoflow.model.heartbeat import Heartbeat
from autoflow.model.store import RunStore
from autoflow.orchestration.cancellation import Cancellations
from autoflow.orchestration.flow_runs import FlowRuns
from autoflow.orchestration.prefect_client_internals import disable_heartbeats, prefect_queues_flushed
from autoflow.page.writer import PageWriter
from autoflow.runs.run import EndedRun
from autoflow.settings import Settings
from autoflow.specs import SensorSpec
from autoflow.workflows.progress import ProgressWatch
from autoflow.workflows.runner import WorkflowRunner
from autoflow.workflows.stuck_watch import StuckWatch


@dataclass(frozen=True)
class Assembly:
    """A runner, the followers of its runs, and the watches for stuck runs and for entries, which are not running."""

    runner: WorkflowRunner
    notifier: Notifier
    page: PageWriter
    stuck_watch: StuckWatch
    entries: EntryWatch


@contextmanager
def assembled(
    settings: Settings,
    store: RunStore,
    *,
    sensor: SensorSpec,
    fork_server: ForkServer | None,
    followers: Sequence[Callable[[EndedRun], None]] = (),
) -> Iterator[Assembly]:
    """Yield a runner with its followers, whose threads end with the block; the Prefect API has to respond.

    The page shows the entries of `sensor`. Kernels start faster with a `fork_server`. `followers` are
    called after every run, too.
    """
    disable_heartbeats()
    with (
        Notifier(settings, store) as notifier,
        PageWriter(settings, store) as page,
        Heartbeat(store) as heartbeat,
        StuckWatch(store, followers=[notifier.runs_are_stuck]) as stuck_watch,
        prefect_queues_flushed(),
        FlowRuns() as flow_runs,
        Cancellations() as cancellations,
        ProgressWatch(store, settings.outputs_dir, followers=[page.refresh]),
        cluster_of(settings) as cluster,
    ):
        entries = EntryWatch(settings, store, notifier)
        page.follow(sensor.triggers, sensor.cdr_types)
        notifier.follow(sensor.triggers)
        runner = WorkflowRunner(
            settings=settings,
            store=store,
            heartbeat=heartbeat,
            cancellations=cancellations,
            followers=(notifier.run_ended, page.run_ended, entries.run_ended, *followers),
            fork_server=fork_server,
            flow_runs=flow_runs,
            cluster=cluster,
        )
        yield Assembly(runner, notifier, page, stuck_watch, entries)

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
from autoflow.page.writer import PageWriter
from autoflow.runs.run import EndedRun
from autoflow.settings import Settings
from autoflow.specs import SensorSpec
from autoflow.workflows.progress import ProgressWatch
from autoflow.workflows.runner import WorkflowRunner
from autoflow.workflows.shown_runs import ShownRuns
from autoflow.workflows.stuck_watch import StuckWatch


@dataclass(frozen=True)
class Assembly:
    """A runner, the followers of its runs, and the watches for stuck runs and for entries, which are not running."""

    runner: WorkflowRunner
    notifier: Notifier
    page: PageWriter
    stuck_watch: StuckWatch
    entries: EntryWatch
    progress: ProgressWatch


@contextmanager
def assembled(
    settings: Settings,
    store: RunStore,
    *,
    sensor: SensorSpec,
    fork_server: ForkServer | None,
    is_prefect_expected: bool = False,
    followers: Sequence[Callable[[EndedRun], None]] = (),
) -> Iterator[Assembly]:
    """Yield a runner with its followers, whose threads end with the block. They do not need Prefect.

    The page shows the entries of `sensor`. Kernels start faster with a `fork_server`. With `is_prefect_expected`, runs
    are shown in Prefect even if they begin before it is connected. `followers` are called after every run, too.
    """
    with (
        Notifier(settings, store) as notifier,
        PageWriter(settings, store) as page,
        Heartbeat(store) as heartbeat,
        StuckWatch(store, followers=[notifier.runs_are_stuck]) as stuck_watch,
        Cancellations() as cancellations,
        ProgressWatch(store, settings.outputs_dir, followers=[page.refresh]) as progress,
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
            shown_runs=ShownRuns(is_expected=is_prefect_expected),
            cluster=cluster,
        )
        yield Assembly(runner, notifier, page, stuck_watch, entries, progress)

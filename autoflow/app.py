"""AutoFlow from its start to its end: as a daemon, or for a verb that runs workflows or needs Prefect.

Prefect takes a second to import, and reads its settings from the environment when it is. So this is where the
environment is prepared, and what imports Prefect is imported within functions, here and in `service`.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime

from autoflow.cluster import check_certificates
from autoflow.errors import (
    AutoflowError,
    ExitCode,
    ReportError,
    RunStoreError,
    SettingsError,
    WorkflowsFileError,
)
from autoflow.kernels.fork_server import warm_fork_server
from autoflow.kernels.kernel import remove_abandoned_kernel_folders
from autoflow.messages.notifier import Notifier
from autoflow.metrics import serving_metrics
from autoflow.model.opening import open_run_store, used_run_store
from autoflow.model.store import RunStore
from autoflow.notebooks.live_files import remove_abandoned_live_folders
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.prefect_api import client_environment, prefect_api, present_api_url, shared_prefect_api
from autoflow.parser import read_workflows
from autoflow.reports import missing_fonts, missing_tools, remove_abandoned_report_folders
from autoflow.runs.attention import Attention, Need, failed_start
from autoflow.runs.records import utc_now
from autoflow.service import LONGEST_TELLING, Resources, serve
from autoflow.settings import Settings
from autoflow.specs import SensorSpec, WorkflowsFile
from autoflow.system.log import log_ends_of_threads, logger
from autoflow.system.stop_signal import Shutdown, closing_on_signals
from autoflow.utils import remove_unfinished
from autoflow.workflows.assembly import Assembly, assembled
from autoflow.workflows.runner import WorkflowRunner


def main(settings: Settings, *, once: bool = False) -> ExitCode:
    """Run the daemon until a signal stops it or, if the schedule is null or with `once`, until nothing is due.

    Return success after SIGTERM too; return failure if a run failed and there is no schedule.

    Raises
    ------
    AutoflowError
        If AutoFlow cannot start.

    """
    try:
        return _run(settings, once=once)
    except AutoflowError as error:
        _notify_of_failed_start(settings, error)
        raise


def _notify_of_failed_start(settings: Settings, error: AutoflowError) -> None:
    """Send a message, once, that AutoFlow cannot start."""
    need = Need.WORKFLOWS_FILE if isinstance(error, WorkflowsFileError) else Need.START
    need = Need.DATABASE if isinstance(error, RunStoreError) else need
    condition = failed_start(need, str(error), DaemonFiles(home=settings.prefect_home).facts(), utc_now())
    with suppress(SettingsError), ExitStack() as stack:
        store = stack.enter_context(used_run_store(settings))
        stack.enter_context(Notifier(settings, store)).attend(Attention(conditions=(condition,)))


def _run(settings: Settings, *, once: bool) -> ExitCode:
    log_ends_of_threads()
    shutdown = Shutdown()
    with closing_on_signals(shutdown) as interrupted:
        workflows = _checked_workflows(settings)
        make_folders(settings)
        files = DaemonFiles(home=settings.prefect_home)
        with (
            serving_metrics(settings) as metrics,
            open_run_store(settings) as store,
            # Kernels warm up while the Prefect server starts.
            warm_fork_server(settings) as fork_server,
            prefect_api(settings, os.environ) as api,
            files.starting(),
        ):
            logger.info("starting; Prefect's UI is at %s", api.url.removesuffix("/api"))
            resources = Resources(store=store, api=api, fork_server=fork_server, metrics=metrics)
            success = serve(settings, workflows, resources, once=once, shutdown=shutdown)
    logger.info("stopped")
    return ExitCode.INTERRUPTED if interrupted else ExitCode.SUCCESS if success else ExitCode.FAILURE


def _checked_workflows(settings: Settings) -> WorkflowsFile:
    """Return the contents of workflows.yml; log warnings about it and about settings, and check what they need."""
    for warning in settings.warnings:
        logger.warning("%s", warning)
    check_certificates(settings)
    workflows = read_workflows(settings)
    for finding in workflows.findings:
        logger.warning("%s", finding.text)
    check_tools(workflows)
    return workflows


def check_tools(workflows: WorkflowsFile) -> None:
    """Raise ReportError if a workflow makes reports and a program that makes them is missing."""
    if not any(notebook.output for workflow in workflows.workflows for notebook in workflow.notebooks):
        return
    if missing := missing_tools():
        raise ReportError("\n".join(missing))
    for line in missing_fonts():
        logger.warning("%s", line)


def make_folders(settings: Settings) -> None:
    """Make the folders for outputs; remove what killed processes have left; raise AutoflowError if there are none."""
    remove_abandoned_kernel_folders()
    remove_abandoned_report_folders()
    remove_abandoned_live_folders(settings.outputs_dir)
    with suppress(OSError):
        remove_unfinished(settings.prefect_home)
    for folder in (settings.outputs_dir, settings.notebooks_dir, settings.reports_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_unfinished(folder)
        except OSError as error:
            raise AutoflowError(
                f"cannot make the outputs folder {folder}: {error.strerror}; check AUTOFLOW_OUTPUTS_DIR"
            ) from error


@contextmanager
def foreground_runner(
    settings: Settings, store: RunStore, *, sensor: SensorSpec, notebooks: int
) -> Iterator[WorkflowRunner]:
    """Yield a runner for a verb that waits for its runs; a daemon may be running as well.

    `sensor` is that in workflows.yml, and the runs have so many `notebooks` together. Prefect shows the runs if its API
    responds: that of a daemon, or a given one.
    """
    make_folders(settings)
    url = present_api_url(settings)
    with (
        warm_fork_server(settings, kernels=notebooks) as fork_server,
        assembled(
            settings, store, sensor=sensor, fork_server=fork_server, is_prefect_expected=url is not None
        ) as assembly,
        _shown_in_prefect(settings, url, assembly),
    ):
        yield assembly.runner


@contextmanager
def _shown_in_prefect(settings: Settings, url: str | None, assembly: Assembly) -> Iterator[None]:
    """Show the runs of the block in Prefect if it has an API at `url`; the block does not wait for that."""
    if url is None:
        yield
        return
    is_over = threading.Event()
    os.environ.update(client_environment(settings, url))

    def connect() -> None:
        # This imports Prefect, for which the environment has been prepared.
        from autoflow.workflows.connection import connected  # noqa: PLC0415 - see above

        with connected(assembly.runner, assembly.progress):
            is_over.wait()

    thread = threading.Thread(target=connect, name="prefect", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(LONGEST_TELLING)


def prune_prefect(settings: Settings, flow_run_ids: Sequence[str], *, before: datetime) -> int:
    """Delete these flow runs and AutoFlow's own that ended before `before` (UTC); return how many there were."""
    with shared_prefect_api(settings, os.environ) as api:
        # This imports Prefect.
        from autoflow.orchestration.history import delete_flow_runs  # noqa: PLC0415 - see above

        api.wait_until_ready(Shutdown())
        return delete_flow_runs(flow_run_ids, before=before)

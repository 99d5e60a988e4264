"""What AutoFlow does, from its start to its end."""

import datetime
import os

from autoflow.errors import AutoflowError, ReportError
from autoflow.kernels.fork_server import warm_fork_server
from autoflow.kernels.kernel import remove_unused_folders
from autoflow.log import log_ends_of_threads, logger
from autoflow.model.output_paths import OutputFolders
from autoflow.model.store import RunStore
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.prefect_api import prefect_api
from autoflow.parser import read_workflows
from autoflow.reports import missing_fonts, missing_tools
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile
from autoflow.stop_signal import Shutdown, closing_on_signals
from autoflow.utils import remove_unfinished

SUCCESS, FAILURE, INTERRUPTED = 0, 1, 130
"""What `main` returns: all is well; something failed; somebody pressed Ctrl-C."""


def main(settings: Settings, *, once: bool = False) -> int:
    """Run AutoFlow until it is told to end or, where the schedule is null or with `once`, until nothing is due.

    Returns
    -------
    int
        The exit code: `SUCCESS` also after SIGTERM, `FAILURE` if a run failed and there was no schedule.

    Raises
    ------
    AutoflowError
        If AutoFlow cannot start.

    """
    log_ends_of_threads()
    shutdown = Shutdown()
    with closing_on_signals(shutdown) as interrupted:
        workflows = read_workflows(settings)
        check_tools(workflows)
        make_folders(settings)
        remove_unused_folders()
        store = RunStore(
            settings.db_uri,
            folders=OutputFolders.of(settings),
            crashed_after=datetime.timedelta(seconds=settings.heartbeat_timeout),
        )
        store.migrate()
        files = DaemonFiles(home=settings.prefect_home)
        # Kernels warm up while the Prefect server starts.
        with warm_fork_server(settings) as fork_server, prefect_api(settings, os.environ) as api, files.starting():
            logger.info("starting; Prefect's UI is at %s", api.url.removesuffix("/api"))
            # Only now: Prefect reads its settings from the environment as it is imported, while the server starts.
            from autoflow.service import serve  # noqa: PLC0415

            if not api.wait_until_ready(shutdown):
                return INTERRUPTED if interrupted else SUCCESS
            with files.published(api.url):
                success = serve(settings, workflows, once=once, store=store, shutdown=shutdown, fork_server=fork_server)
        store.close()
    logger.info("stopped")
    if interrupted:
        return INTERRUPTED
    return SUCCESS if success else FAILURE


def check_tools(workflows: WorkflowsFile) -> None:
    """Raise ReportError if a workflow makes reports and a program that this needs is missing."""
    if not any(notebook.output for workflow in workflows.workflows for notebook in workflow.notebooks):
        return
    if missing := missing_tools():
        raise ReportError("\n".join(missing))
    for line in missing_fonts():
        logger.warning("%s", line)


def make_folders(settings: Settings) -> None:
    """Make the folders for outputs, or tidy them up; raise AutoflowError if they cannot be made."""
    for folder in (settings.outputs_dir, settings.notebooks_dir, settings.reports_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            remove_unfinished(folder)
        except OSError as error:
            raise AutoflowError(
                f"the outputs folder {folder} cannot be made: {error.strerror}; check AUTOFLOW_OUTPUTS_DIR"
            ) from error

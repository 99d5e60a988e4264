"""`autoflow worker`: execute notebooks for a daemon on another machine."""

import click

from autoflow.app import make_folders
from autoflow.cli.session import Session, pass_session
from autoflow.cluster import run_worker
from autoflow.errors import ExitCode
from autoflow.system.log import log_ends_of_threads, logger
from autoflow.system.stop_signal import Shutdown, closing_on_signals


@click.command
@pass_session
def worker(session: Session) -> ExitCode:
    """Execute notebooks for the daemon, as a worker of the cluster with the scheduler in AUTOFLOW_DASK_SCHEDULER.

    It runs until SIGTERM or Ctrl-C. After SIGTERM, it takes no new notebooks, and those in progress have
    AUTOFLOW_SHUTDOWN_GRACE seconds to end.

    \b
    Example: AUTOFLOW_WORKER_SLOTS=4 autoflow worker
    """
    settings = session.settings
    session.log_as_set(settings)
    log_ends_of_threads()
    make_folders(settings)
    shutdown = Shutdown()
    with closing_on_signals(shutdown) as interrupted:
        run_worker(settings, shutdown)
    logger.info("stopped")
    return ExitCode.INTERRUPTED if interrupted else ExitCode.SUCCESS

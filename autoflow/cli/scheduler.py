"""`autoflow scheduler`: run the scheduler of a cluster."""

import click

from autoflow.cli.session import Session, pass_session
from autoflow.cluster import run_scheduler
from autoflow.errors import ExitCode
from autoflow.system.stop_signal import Shutdown, closing_on_signals


@click.command
@pass_session
def scheduler(session: Session) -> ExitCode:
    """Run the scheduler of a cluster, at the address in AUTOFLOW_DASK_SCHEDULER, until SIGTERM or Ctrl-C.

    \b
    Example: AUTOFLOW_DASK_SCHEDULER=tcp://127.0.0.1:8786 autoflow scheduler
    """
    settings = session.scheduler_settings
    session.log_as_set(settings)
    shutdown = Shutdown()
    with closing_on_signals(shutdown) as interrupted:
        run_scheduler(settings, shutdown)
    return ExitCode.INTERRUPTED if interrupted else ExitCode.SUCCESS

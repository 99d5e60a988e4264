"""`autoflow start`: run the daemon."""

import click

from autoflow import app
from autoflow.cli.session import Session, pass_session
from autoflow.errors import ExitCode
from autoflow.system.log import set_up_logging


@click.command
@click.option("--once", is_flag=True, help="Ignore the schedule: run until nothing is due, then exit.")
@pass_session
def start(session: Session, *, once: bool) -> ExitCode:
    """Start the daemon, which runs what is due, now and on the schedule in workflows.yml.

    It runs until SIGTERM or Ctrl-C. If the schedule is null, it exits as soon as nothing is due.

    \b
    Example: autoflow start --once
    """
    session.invocation.is_daemon = True
    settings = session.settings
    as_json = session.invocation.logs_json = settings.log_format == "json"
    set_up_logging(settings.log_level, lambda: settings.secrets, as_json=as_json)
    try:
        return app.main(settings, once=once)
    except KeyboardInterrupt:
        # Before AutoFlow handles Ctrl-C itself. Click would print an empty line.
        return ExitCode.INTERRUPTED

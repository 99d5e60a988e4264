"""`autoflow start`: run the daemon."""

import click

from autoflow import app
from autoflow.cli.session import Session, pass_session
from autoflow.errors import ExitCode


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
    session.log_as_set(session.settings)
    try:
        return app.main(settings, once=once)
    except KeyboardInterrupt:
        # Before AutoFlow handles Ctrl-C itself. Click would print an empty line.
        return ExitCode.INTERRUPTED

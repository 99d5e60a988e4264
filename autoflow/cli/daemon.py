"""The verb that starts the daemon."""

import click

from autoflow import app
from autoflow.cli.session import Session, pass_session
from autoflow.log import set_up_logging


@click.command(short_help="Start the daemon.")
@click.option("--once", is_flag=True, help="Look for new dates until nothing is due, then end, whatever the schedule.")
@pass_session
def start(session: Session, *, once: bool) -> int:
    """Start AutoFlow: run what is due, now and on the schedule of workflows.yml.

    It runs until SIGTERM or Ctrl-C or, if the schedule is null, until nothing is due.

    \b
    Example: autoflow start --once
    """
    return run_daemon(session, once=once)


def run_daemon(session: Session, *, once: bool) -> int:
    """Run the daemon; return its exit code."""
    session.is_daemon = True
    settings = session.settings
    set_up_logging(settings.log_level, lambda: settings.secrets)
    # Here rather than above, so that wrong settings are told at once: it brings in the libraries for notebooks.

    try:
        return app.main(settings, once=once)
    except KeyboardInterrupt:
        # Before AutoFlow looks after Ctrl-C itself; click would print an empty line.
        return 130

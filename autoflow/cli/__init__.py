"""The command line, and the one place where errors become messages and exit codes."""

import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence

import click

from autoflow import __version__
from autoflow.cli.session import Session, pass_session
from autoflow.errors import AutoflowError, SettingsError
from autoflow.utils import redact

SUCCESS, FAILURE, USAGE, BUG, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: all is well; something failed or is wrong; wrong usage; AutoFlow has a bug; Ctrl-C."""


VERBS = {
    "backfill": ("backfill", "Run a workflow for a range of dates."),
    "health": ("health", "Check that the daemon is healthy."),
    "plan": ("plan", "Show what would be run now, and why not the rest."),
    "prune": ("prune", "Delete old outputs and history."),
    "retry": ("retry", "Make runs that failed due again."),
    "run": ("run", "Run a workflow for one date, now."),
    "runs": ("runs", "List the runs so far; show one."),
    "start": ("daemon", "Start the daemon."),
    "validate": ("validate", "Check all that AutoFlow needs."),
}
"""Each verb, with the module in this package that has it and what it does, for the list in the help."""


class LazyGroup(click.Group):
    """A group that imports a verb's module when the verb is asked for, so that `--help` is quick."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names of the verbs."""
        return list(VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Return the verb called `name`; None if there is none."""
        if name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"autoflow.cli.{VERBS[name][0]}"), name)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@pass_session
@click.pass_context
def autoflow(context: click.Context, /, session: Session) -> int | None:  # noqa: ARG001 - verbs take it
    """Run workflows of Jupyter notebooks for each new date of data that FlowAPI has.

    Without a verb, start the daemon. Environment variables (see docs/reference/settings.md) and the workflows.yml
    in the inputs folder define what it does.

    \b
    Exit codes: 0 good, 1 something failed or is wrong, 2 wrong usage, 3 a bug, 130 Ctrl-C.
    """
    if context.invoked_subcommand is None:
        start = autoflow.get_command(context, "start")
        assert start  # noqa: S101 - it is in VERBS
        code: int = context.invoke(start, once=False)
        return code
    return None


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Do what `arguments` ask for, by default those of the process, as its `environ`; return the exit code."""
    session = Session(environ)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _check_text(arguments)
        return autoflow.main(arguments, "autoflow", standalone_mode=False, obj=session) or SUCCESS
    except click.ClickException as error:
        error.show()
        return USAGE if isinstance(error, click.UsageError) else FAILURE
    except SettingsError as error:
        _say("AutoFlow cannot start: its settings are not right", error, session.secrets)
    except AutoflowError as error:
        _say("AutoFlow cannot start" if session.is_daemon else "Error", error, session.secrets)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception:  # noqa: BLE001 - the error boundary
        sys.stderr.write(
            redact(traceback.format_exc(), session.secrets) + "AutoFlow has a bug; please report the lines above.\n"
        )
        return BUG
    return FAILURE


def _check_text(arguments: Sequence[str]) -> None:
    """Raise UsageError if an argument has bytes that are no text, which Python keeps as what no text has."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise click.UsageError(f"{argument!r} is not text in UTF-8") from error


def _say(what: str, error: AutoflowError, secrets: tuple[str, ...]) -> None:
    lines = redact(str(error), secrets).splitlines() or [type(error).__name__]
    text = f"{what}: {lines[0]}" if len(lines) == 1 else "\n".join([f"{what}:", *lines])
    sys.stderr.write(text + "\n")

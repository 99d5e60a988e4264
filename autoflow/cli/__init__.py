"""The command line, and the one place where errors become messages and exit codes."""

import sys
import traceback
from collections.abc import Mapping, Sequence

import click

from autoflow import __version__
from autoflow.cli import act, daemon, look
from autoflow.cli.session import Session, pass_session
from autoflow.errors import AutoflowError, SettingsError
from autoflow.utils import redact

SUCCESS, FAILURE, USAGE, BUG, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: all is well; something failed or is wrong; wrong usage; AutoFlow has a bug; Ctrl-C."""


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@pass_session
@click.pass_context
def autoflow(context: click.Context, /, session: Session) -> int | None:
    """Run workflows of Jupyter notebooks for each new date of data that FlowAPI has.

    Without a verb: start, the daemon. What it is to do is in the environment (see README.md, Settings) and in the
    workflows.yml of the inputs folder.

    \b
    Exit codes: 0 good, 1 something failed or is wrong, 2 wrong usage, 3 a bug, 130 Ctrl-C.
    """  # noqa: D301 - \b is click's mark for lines that are not to be wrapped
    if context.invoked_subcommand is None:
        return daemon.run_daemon(session, once=False)
    return None


for _verb in (
    daemon.start,
    look.validate,
    look.plan,
    act.run,
    act.backfill,
    look.runs,
    act.retry,
    act.prune,
    look.health,
):
    autoflow.add_command(_verb)


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

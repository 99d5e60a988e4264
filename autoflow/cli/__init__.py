"""The command line, and the one place where errors become messages and exit codes."""

import gc
import importlib
import keyword
import os
import sys
import traceback
from collections.abc import Mapping, Sequence

import click

from autoflow import __version__
from autoflow.cli.invocation import Invocation
from autoflow.errors import AutoflowError, ExitCode, SettingsError
from autoflow.system.home import prepare_home
from autoflow.system.log import logger, set_up_logging
from autoflow.utils import redact

VERBS = {
    "backfill": ("backfill", "Run a workflow for a range of dates."),
    "cancel": ("cancel", "End a run that is in progress."),
    "cluster": ("cluster", "Prepare a cluster of several machines."),
    "forget": ("forget", "Delete a run with its outputs."),
    "health": ("health", "Check whether the daemon is healthy."),
    "init": ("init", "Make a folder with a first workflow."),
    "notify": ("notify", "Send a test message."),
    "plan": ("plan", "Show which dates are due, and why others are not."),
    "prune": ("prune", "Delete old outputs and history."),
    "retry": ("retry", "Make failed runs due again."),
    "run": ("run", "Run a workflow for one date, now."),
    "runs": ("runs", "List runs, or show one."),
    "scheduler": ("scheduler", "Run the scheduler of a cluster."),
    "schema": ("schema", "Print a JSON Schema of workflows.yml."),
    "start": ("daemon", "Start the daemon."),
    "try": ("try_notebook", "Execute one notebook, and record nothing."),
    "validate": ("validate", "Check everything that AutoFlow needs."),
    "why": ("why", "Say why a date is done, due, or neither."),
    "worker": ("worker", "Execute notebooks for a daemon on another machine."),
}
"""Each verb, with its module in this package and its summary for the help."""


class LazyGroup(click.Group):
    """A group that imports a verb's module when the verb is used, so that `--help` is quick."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names of the verbs."""
        return list(VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Return the verb called `name`; None if there is none."""
        if name not in VERBS:
            return None
        module = importlib.import_module(f"autoflow.cli.{VERBS[name][0]}")
        if not gc.isenabled():
            # `__main__` has paused collections for the imports. What they have made lasts as long as the process.
            gc.freeze()
            gc.enable()
        command: click.Command = getattr(module, f"{name}_" if keyword.iskeyword(name) else name)
        return command

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])


@click.group(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def autoflow(context: click.Context, /) -> int | None:
    """Run workflows of Jupyter notebooks for each new date of data in FlowAPI.

    Without a command, AutoFlow starts the daemon. It reads its settings from the environment (see
    docs/reference/settings.md), and what to run from workflows.yml in the inputs folder.

    \b
    Exit codes: 0 success, 1 failure, 2 wrong usage, 3 a bug in AutoFlow,
    130 interrupted by Ctrl-C.
    """
    if context.invoked_subcommand is None:
        start = autoflow.get_command(context, "start")
        assert start  # noqa: S101 - it is in VERBS
        code: int = context.invoke(start, once=False)
        return code
    return None


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run the verb in `arguments`, by default those of the process; return the exit code.

    Settings are read from `environ`, by default from docker secrets and the environment of the process.
    """
    invocation = Invocation(environ=environ)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _check_text(arguments)
        # Before verbs import the libraries that look for a home, and may warn.
        prepare_home(os.environ)
        set_up_logging("WARNING", tuple)
        return autoflow.main(arguments, "autoflow", standalone_mode=False, obj=invocation) or ExitCode.SUCCESS
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE if isinstance(error, click.UsageError) else ExitCode.FAILURE
    except SettingsError as error:
        _print_error("AutoFlow cannot start, because settings are missing or invalid", error, invocation.secrets)
    except AutoflowError as error:
        what = "AutoFlow cannot start" if invocation.is_daemon else "Error"
        if invocation.logs_json:
            logger.critical("%s: %s", what, error)
        else:
            _print_error(what, error, invocation.secrets)
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except Exception:  # noqa: BLE001 - the error boundary
        if invocation.logs_json:
            logger.exception("AutoFlow has a bug; please report this line")
            return ExitCode.BUG
        report = redact(traceback.format_exc(), invocation.secrets)
        sys.stderr.write(f"{report}AutoFlow has a bug; please report the lines above.\n")
        return ExitCode.BUG
    return ExitCode.FAILURE


def _check_text(arguments: Sequence[str]) -> None:
    """Raise UsageError if an argument is not valid UTF-8; Python keeps the bytes of such an argument as surrogates."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise click.UsageError(f"{argument!r} is not valid UTF-8") from error


def _print_error(what: str, error: AutoflowError, secrets: tuple[str, ...]) -> None:
    lines = redact(str(error), secrets).splitlines() or [type(error).__name__]
    text = f"{what}: {lines[0]}" if len(lines) == 1 else "\n".join([f"{what}:", *lines])
    sys.stderr.write(text + "\n")

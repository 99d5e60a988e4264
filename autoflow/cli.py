"""The command line, and the one place where errors become messages and exit codes."""

import sys
import traceback

from autoflow.errors import AutoflowError, SettingsError
from autoflow.log import set_up_logging
from autoflow.settings import Settings
from autoflow.utils import redact

FAILURE, BUG, INTERRUPTED = 1, 3, 130
"""Exit codes: something is wrong that a person can mend; AutoFlow has a bug; Ctrl-C."""


def main() -> int:
    """Run AutoFlow with the settings of the environment; return the exit code."""
    secrets: tuple[str, ...] = ()
    try:
        settings = Settings.read()
        secrets = settings.secrets
        set_up_logging(settings.log_level, lambda: settings.secrets)
        # Here rather than above, so that wrong settings are told at once: it brings in the libraries for notebooks.
        from autoflow import app  # noqa: PLC0415

        return app.main(settings)
    except SettingsError as error:
        _say("AutoFlow cannot start: its settings are not right", error, secrets)
    except AutoflowError as error:
        _say("AutoFlow cannot start", error, secrets)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception:  # noqa: BLE001 - the error boundary
        sys.stderr.write(
            redact(traceback.format_exc(), secrets) + "AutoFlow has a bug; please report the lines above.\n"
        )
        return BUG
    return FAILURE


def _say(what: str, error: AutoflowError, secrets: tuple[str, ...]) -> None:
    lines = redact(str(error), secrets).splitlines()
    text = f"{what}: {lines[0]}" if len(lines) == 1 else "\n".join([f"{what}:", *lines])
    sys.stderr.write(text + "\n")

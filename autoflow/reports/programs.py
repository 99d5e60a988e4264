"""Run the programs that reports are made with: bounded in time, without the daemon's environment."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from autoflow.errors import ReportError

_PACKAGES = {"pandoc": "pandoc", "asciidoctor-pdf": "ruby-asciidoctor-pdf"}


def missing_tools() -> tuple[str, ...]:
    """Return a line for each program that is not on PATH, with the Debian package that brings it."""
    return tuple(
        f"{program} is not on PATH; reports need it (Debian: apt-get install {package})"
        for program, package in _PACKAGES.items()
        if shutil.which(program) is None
    )


def run(command: Sequence[str], *, folder: Path, timeout: float, given: bytes = b"") -> tuple[bytes, str]:
    """Run `command` in `folder` with `given` on its standard input; return its output and its warnings.

    The child sees PATH and the language of the machine only. It and its own children are killed after `timeout`
    seconds.

    Raises
    ------
    ReportError
        If the program is missing, takes too long, or ends with a status other than 0; with its own message.

    """
    name = Path(command[0]).name
    try:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ReportError("; ".join(missing_tools()) or f"{name} cannot be started: {error}") from error
    try:
        output, warnings = child.communicate(given, timeout=max(timeout, 0.001))
    except subprocess.TimeoutExpired as error:
        raise ReportError(f"{name} took too long: AUTOFLOW_REPORT_TIMEOUT gives a report more time") from error
    finally:
        _kill_group(child)
    message = _without_folder(warnings, folder)
    if child.returncode != 0:
        raise ReportError(f"{name} failed: {message or f'status {child.returncode}'}")
    return output, message


def _environment(folder: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """End `child` and whatever it started; its group may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def _without_folder(message: bytes, folder: Path) -> str:
    return message.decode(errors="replace").replace(f"{folder}/", "").strip()[-4000:]

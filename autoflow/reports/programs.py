"""Run the programs that reports are made with: bounded in time, without the daemon's environment."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from autoflow.errors import ReportError

_LONGEST_MESSAGE = 4000
_RUBY_MEMORY = {
    # Room for a usual report, so that Ruby does not spend a quarter of the time on looking for what it can free.
    "RUBY_GC_HEAP_INIT_SLOTS": "1000000",
    "RUBY_GC_MALLOC_LIMIT": "134217728",
    "RUBY_GC_MALLOC_LIMIT_MAX": "134217728",
    "RUBY_GC_OLDMALLOC_LIMIT": "134217728",
    "RUBY_GC_OLDMALLOC_LIMIT_MAX": "134217728",
}
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

    Raises
    ------
    ReportError
        As `Program.finish` and `started` do.

    """
    with started(command, folder=folder) as program:
        return program.finish(given, timeout=timeout)


class Program:
    """A program that was started, and waits for its standard input."""

    def __init__(self, child: subprocess.Popen[bytes], *, folder: Path, name: str) -> None:
        self._child = child
        self._folder = folder
        self._name = name

    def finish(self, given: bytes, *, timeout: float) -> tuple[bytes, str]:
        """Give the program its input; return its output and its warnings.

        Raises
        ------
        ReportError
            If it takes longer than `timeout` seconds, or ends with a status other than 0; with its own message.

        """
        try:
            output, warnings = self._child.communicate(given, timeout=max(timeout, 0.001))
        except subprocess.TimeoutExpired as error:
            raise ReportError(
                f"{self._name} took too long: AUTOFLOW_REPORT_TIMEOUT gives a report more time"
            ) from error
        message = warnings.decode(errors="replace").replace(f"{self._folder}/", "").strip()[-_LONGEST_MESSAGE:]
        if self._child.returncode != 0:
            raise ReportError(f"{self._name} failed: {message or f'status {self._child.returncode}'}")
        return output, message


@contextlib.contextmanager
def started(command: Sequence[str], *, folder: Path) -> Iterator[Program]:
    """Start `command` in `folder`; when the block ends, it is killed with all that it started.

    It sees nothing of the daemon's environment.

    Raises
    ------
    ReportError
        If there is no such program.

    """
    name = Path(command[0]).name
    program = shutil.which(command[0])
    if program is None:
        raise ReportError("; ".join(missing_tools()) or f"there is no program {command[0]}")
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        [program, *command[1:]],
        cwd=folder,
        env=_environment(Path(program).parent, folder),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
    )
    try:
        yield Program(child, folder=folder, name=name)
    finally:
        _kill_group(child)


def _environment(programs: Path, folder: Path) -> dict[str, str]:
    return {
        "PATH": f"{programs}{os.pathsep}{os.defpath}",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        **_RUBY_MEMORY,
    }


def _kill_group(child: subprocess.Popen[bytes]) -> None:
    """End `child` and whatever it started; its group may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()

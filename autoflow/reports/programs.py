"""Run the programs that make reports, with a time limit and without the daemon's environment."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from autoflow.errors import ReportError
from autoflow.system.stop_signal import StopSignal

_LONGEST_MESSAGE = 4000
_RUBY_MEMORY = {
    # Room for a usual report; Ruby would otherwise spend a quarter of its time on garbage collection.
    "RUBY_GC_HEAP_INIT_SLOTS": "1000000",
    "RUBY_GC_MALLOC_LIMIT": "134217728",
    "RUBY_GC_MALLOC_LIMIT_MAX": "134217728",
    "RUBY_GC_OLDMALLOC_LIMIT": "134217728",
    "RUBY_GC_OLDMALLOC_LIMIT_MAX": "134217728",
}
_PACKAGES = {"pandoc": "pandoc", "asciidoctor-pdf": "ruby-asciidoctor-pdf", "pdftocairo": "poppler-utils"}


def missing_tools() -> tuple[str, ...]:
    """Return a line for each program that is not on PATH, naming the Debian package that provides it."""
    return tuple(
        f"{program} is not on PATH; reports need it (on Debian: apt-get install {package})"
        for program, package in _PACKAGES.items()
        if shutil.which(program) is None
    )


def run(
    command: Sequence[str], *, folder: Path, timeout: float, stop: StopSignal, given: bytes = b""
) -> tuple[bytes, str]:
    """Run `command` in `folder` with `given` on its standard input; return its output and warnings.

    Raises
    ------
    ReportError, RunStopped
        As `Program.finish` and `started` do.

    """
    with started(command, folder=folder, stop=stop) as program:
        return program.finish(given, timeout=timeout)


class Program:
    """A program that has been started and waits for its standard input."""

    def __init__(self, child: subprocess.Popen[bytes], *, folder: Path, name: str, stop: StopSignal) -> None:
        self._child = child
        self._folder = folder
        self._name = name
        self._stop = stop

    def finish(self, given: bytes, *, timeout: float) -> tuple[bytes, str]:
        """Send the program its input; return its output and warnings.

        Raises
        ------
        ReportError
            If it takes longer than `timeout` seconds or exits with a status other than 0; with the program's own
            message.
        RunStopped
            If it is stopped before its end.

        """
        try:
            output, warnings = self._child.communicate(given, timeout=max(timeout, 0.001))
        except subprocess.TimeoutExpired as error:
            raise ReportError(took_too_long(self._name), is_timeout=True) from error
        message = own_message(warnings, self._folder)
        if status := self._child.returncode:
            self._stop.raise_if_set()
            message = f"{self._name} failed: {message or ended_with(status)}"
            raise ReportError(message, is_death=status < 0)
        return output, message


@contextlib.contextmanager
def started(command: Sequence[str], *, folder: Path, stop: StopSignal) -> Iterator[Program]:
    """Start `command` in `folder`, without the daemon's environment.

    When the block ends or `stop` is set, kill it and every process it started. If AutoFlow is killed, the system kills
    it as well; it sees to that when the thread ends that started the command, so the block must be in one thread.

    Raises
    ------
    ReportError
        If there is no such program.

    """
    name = Path(command[0]).name
    program = shutil.which(command[0])
    if program is None:
        raise ReportError("; ".join(missing_tools()) or f"{command[0]} is not on PATH")
    pipe = subprocess.PIPE
    child = subprocess.Popen(
        [*_killed_with_this_process(), program, *command[1:]],
        cwd=folder,
        env=environment(Path(program).parent, folder),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
    )
    try:
        with stop.calling(partial(kill_group, child.pid)):
            yield Program(child, folder=folder, name=name, stop=stop)
    finally:
        kill_group(child.pid)
        child.communicate()


def _killed_with_this_process() -> tuple[str, ...]:
    """Return the beginning of a command that is to be killed with this process; empty where there is no `setpriv`."""
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL") if setpriv else ()


def took_too_long(name: str) -> str:
    """Return the message for a program that exceeded its time limit."""
    return f"{name} took too long; raise AUTOFLOW_REPORT_TIMEOUT to allow more time"


def ended_with(status: int) -> str:
    """Describe how a program without a message ended: with an exit status or, if that is negative, by a signal."""
    return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


def own_message(messages: bytes, folder: Path) -> str:
    """Return the end of what a program wrote to stderr, without the path of the conversion's `folder`."""
    return messages.decode(errors="replace").replace(f"{folder}/", "").strip()[-_LONGEST_MESSAGE:]


def environment(programs: Path, folder: Path) -> dict[str, str]:
    """Return the environment of a child process, with nothing of the daemon's."""
    return {
        "PATH": f"{programs}{os.pathsep}{os.defpath}",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        **_RUBY_MEMORY,
    }


def kill_group(pid: int) -> None:
    """Kill the process group of `pid`, unless it is gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)

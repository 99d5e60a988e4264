"""Run asciidoctor-pdf, loaded once and forked for each report."""

import array
import atexit
import contextlib
import functools
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from autoflow.errors import ReportError
from autoflow.reports.fonts import font_theme
from autoflow.reports.programs import environment, kill_group, missing_tools, own_message, took_too_long
from autoflow.system.stop_signal import StopSignal

_PROGRAM = "asciidoctor-pdf"
_MESSAGES = "messages.txt"
_HINT_AT_AN_OPTION = "Use --trace to show backtrace"


def asciidoctor(config_dir: Path) -> "Asciidoctor":
    """Return the asciidoctor-pdf on PATH, and start loading it if it is not loaded yet.

    Raises
    ------
    ReportError
        If it is not on PATH.

    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise ReportError("; ".join(missing_tools()))
    server = _server(program, config_dir / "report_server.rb")
    server.start()
    return server


class Asciidoctor:
    """A process with asciidoctor-pdf loaded that forks itself for each report, and ends with this process.

    `program` is the path of the command, `server` the Ruby file that it requires.
    """

    def __init__(self, program: str, server: Path) -> None:
        # The server's folder is the working folder because asciidoctor takes a comma in a path for the end of it.
        self._command = [program, "--require", f"./{server.name}", "-"]
        self._folder = server.parent
        self._starting = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process

    def start(self) -> socket.socket:
        """Start the process if it is not running; return the socket that it listens to."""
        with self._starting:
            if self._socket is None or self._process is None or self._process.poll() is not None:
                self._close()
                self._messages.seek(0)
                self._messages.truncate()
                ours, its = socket.socketpair()
                self._process = subprocess.Popen(
                    self._command,
                    cwd=self._folder,
                    env=environment(Path(self._command[0]).parent, Path(tempfile.gettempdir())) | _fonts(),
                    stdin=its.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=self._messages,
                    start_new_session=True,
                )
                its.close()
                self._socket = ours
            return self._socket

    def make(self, arguments: Sequence[str], *, folder: Path, timeout: float, stop: StopSignal) -> str:
        """Run asciidoctor-pdf with `arguments` in `folder` and return its warnings.

        Raises
        ------
        ReportError
            If it fails (with its own message) or takes longer than `timeout` seconds.
        RunStopped
            If it is stopped before its end.

        """
        order = {"folder": str(folder), "arguments": list(arguments)}
        deadline = time.monotonic() + timeout
        pid, status = self._fork(order, deadline, stop)
        if not pid and not stop.is_set:
            # The process has ended before it took the order, perhaps killed by the system.
            pid, status = self._fork(order, deadline, stop)
        if status != "0":
            stop.raise_if_set()
        message = self._message(folder)
        if status != "0":
            message = f"{_PROGRAM} failed: {message or 'no message'}"
            raise ReportError(message, is_death=not status)
        return message

    def _fork(self, order: Mapping[str, object], deadline: float, stop: StopSignal) -> tuple[int, str]:
        """Have the process fork itself to carry out `order`.

        Return the id of the fork, 0 if the process has ended before, and its exit status, empty if there is none.
        """
        ours, its = socket.socketpair()
        used, pid, status = None, 0, ""
        try:
            with its:
                used = self.start()
                used.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [its.fileno()]))])
            # A stop ends the wait for an answer, also while the process is still loading; then the fork is killed.
            with stop.calling(partial(_hang_up, ours)):
                pid = int(_line_from(ours, deadline) or 0)
                ours.sendall(json.dumps(order).encode() + b"\n")
                status = _line_from(ours, deadline)
        except TimeoutError as error:
            raise ReportError(took_too_long(_PROGRAM), is_timeout=True) from error
        except OSError:
            pass  # the process has ended; its message says why
        finally:
            ours.close()
            if pid:
                kill_group(pid)
        if not pid and not stop.is_set:
            self._discard(used)
        return pid, status

    def _discard(self, used: socket.socket | None) -> None:
        """End the process that listens to the socket `used`, unless there is another one by now."""
        with self._starting:
            if self._socket is used:
                self._close()

    def close(self) -> None:
        """End the process for good."""
        with self._starting:
            self._close()
            self._messages.close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
            self._process.kill()
            self._process.wait()
        self._socket = self._process = None

    def _message(self, folder: Path) -> str:
        """Return asciidoctor's messages about this report, or else the messages of the process before it ended."""
        with contextlib.suppress(FileNotFoundError):
            return own_message((folder / _MESSAGES).read_bytes(), folder).removesuffix(_HINT_AT_AN_OPTION).strip()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
        self._messages.seek(0)
        return own_message(self._messages.read(), folder)


@functools.cache
def _server(program: str, server: Path) -> Asciidoctor:
    started = Asciidoctor(program, server)
    atexit.register(started.close)
    return started


def _fonts() -> dict[str, str]:
    """Return the variable with the fonts that every report uses, for the process to read once."""
    return {"REPORT_FONTS": json.dumps(font_theme("")[0])}


def _hang_up(ours: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed already
        ours.shutdown(socket.SHUT_RDWR)


def _line_from(ours: socket.socket, deadline: float) -> str:
    """Return the line that the other end writes before `deadline`; empty if it closes the socket."""
    line = b""
    while not line.endswith(b"\n"):
        ours.settimeout(max(deadline - time.monotonic(), 0.001))
        received = ours.recv(100)
        if not received:
            return ""
        line += received
    return line.decode().strip()

"""AutoFlow's own Prefect server, as a child process."""

import contextlib
import http.client
import os
import re
import select
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Self

from autoflow.errors import PrefectApiError
from autoflow.settings import PREFECT_SECRETS, secrets_in
from autoflow.system.log import logger
from autoflow.system.stop_signal import PeriodicThread
from autoflow.utils import ClockWatch, redact

START_TIMEOUT = 180.0
"""How long the server may take to respond after a start, in seconds: the first one creates a database."""

STOP_TIMEOUT = 2.0
"""How long the server may take to end, in seconds, before it is killed."""

READY_TIMEOUT = 5.0
"""How long the API may take to respond to a health check, in seconds."""

LONGEST_COMPLAINT = 300
"""The longest excerpt from the server's log in an error message, in characters."""

LOOK_SECONDS = 15.0
"""How often the server's health is checked."""

HUNG_SECONDS = 60.0
"""After how long without a response a running server is restarted."""

RESTART_SECONDS = 10.0
"""The pause between attempts to restart the server."""

_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception): .+(?:\n.+)*", re.MULTILINE)
"""The end of a traceback, up to the next empty line."""


class PrefectServer:
    """A Prefect server in a child process, for the duration of the block; it is restarted when it dies or hangs.

    It listens on PREFECT_SERVER_API_HOST and PREFECT_SERVER_API_PORT of `environment` from the start of the block.
    Clients that connect before it responds, or during a restart, wait. It also ends when this process dies. Its output
    goes to `log_file`. It answers to the names in `hosts`, to that on which it listens, and to those of this machine.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log_file: Path,
        *,
        hosts: Sequence[str] = (),
        clock_watch: ClockWatch | None = None,
    ) -> None:
        self._environment = environment
        self._hosts = (environment["PREFECT_SERVER_API_HOST"], *hosts)
        self._url = api_url_of(environment["PREFECT_SERVER_API_HOST"], int(environment["PREFECT_SERVER_API_PORT"]))
        self.log_file = log_file
        self.has_been_ready = False
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None
        self._clock_watch = clock_watch or ClockWatch()
        self._answered_at = 0.0
        self._is_restarting = False
        self._watch = PeriodicThread("prefect-server", self._keep_alive, 0.0)

    def __enter__(self) -> Self:
        """Start the server without waiting until it responds.

        Raises
        ------
        PrefectApiError
            If it cannot listen, or cannot write its log file.

        """
        host, port = self._environment["PREFECT_SERVER_API_HOST"], int(self._environment["PREFECT_SERVER_API_PORT"])
        try:
            self._listener = listen(host, port)
        except OSError as error:
            raise cannot_listen(host, port, error) from error
        try:
            self._process = self._start(self._listener)
        except OSError as error:
            self._listener.close()
            raise PrefectApiError(_not_started(error, self.log_file)) from error
        self._answered_at = time.monotonic()
        self._watch.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """End the server."""
        self._watch.end()
        if self._process:
            _end(self._process)
        self._watch.join()
        if self._listener:
            self._listener.close()

    @property
    def failure(self) -> str | None:
        """Why the server ended before it ever responded; None if it did not."""
        if self._process is None or self._process.poll() is None or self.has_been_ready:
            return None
        log = self.log_file.read_bytes()[self._log_start :].decode(errors="replace")
        # Before it is cut: a part of a secret could not be found later.
        secrets = {each for name in PREFECT_SECRETS for each in secrets_in(self._environment.get(name, ""))}
        return f"{_complaint(redact(log, secrets))} (see {self.log_file})"

    def _start(self, listener: socket.socket) -> subprocess.Popen[bytes]:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                [sys.executable, "-m", "autoflow.orchestration.prefect_server", str(listener.fileno()), *self._hosts],
                pass_fds=[listener.fileno()],
                env={**self._environment, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
                # The pipe closes when this process ends, for whatever reason, and the server then ends, too.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal must only reach AutoFlow, which ends the server when it no longer needs it.
                start_new_session=True,
            )

    def _keep_alive(self) -> None:
        """Wait up to `LOOK_SECONDS` for the server to end; restart it if it has, and kill it if it hangs."""
        process, listener = self._process, self._listener
        if process is None or listener is None:
            self._watch.end()
        elif not _has_ended(process, LOOK_SECONDS):
            self._kill_if_hung(process)
            if self._clock_watch.was_set_back():
                # Its services, such as the one that schedules ticks, wait for a time by the old clock.
                logger.warning("the clock was set back: restarting the Prefect server")
                process.terminate()
        else:
            if process.stdin:
                process.stdin.close()
            if not self.has_been_ready:
                self._watch.end()  # `failure` reports it
            if not self._watch.is_ending:
                logger.warning("the Prefect server ended (exit code %s); restarting it", process.returncode)
                self._restart(listener)

    def _kill_if_hung(self, process: subprocess.Popen[bytes]) -> None:
        if not self.has_been_ready or is_ready(self._url):
            self._answered_at, self._is_restarting = time.monotonic(), False
        elif time.monotonic() - self._answered_at > (
            patience := START_TIMEOUT if self._is_restarting else HUNG_SECONDS
        ):
            logger.warning("the Prefect server has not responded for %.0f s; killing it", patience)
            process.kill()

    def _restart(self, listener: socket.socket) -> None:
        """Start the server again; retry if that fails, as memory may be short for a moment."""
        seconds = 1.0
        while not self._watch.pause(seconds):
            seconds = RESTART_SECONDS
            try:
                self._process = self._start(listener)
            except OSError as error:
                logger.warning("could not start the Prefect server: %s; trying again", error.strerror)
                continue
            if self._watch.is_ending:
                _end(self._process)
            self._answered_at, self._is_restarting = time.monotonic(), True
            return


def _not_started(error: OSError, log_file: Path) -> str:
    if error.filename == sys.executable:
        return f"the Prefect server cannot start: {sys.executable}: {error.strerror}"
    return f"the Prefect server cannot write {log_file}: {error.strerror}; check PREFECT_HOME"


def _has_ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait up to `seconds` for a process to end; return whether it has. Popen.wait would poll 20 times a second."""
    if sys.platform == "linux" and process.poll() is None:
        # The process is gone if another thread has waited for it in the meantime.
        with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(process.pid), "rb") as end:
            poll = select.poll()
            poll.register(end, select.POLLIN)
            if not poll.poll(1000 * seconds):
                return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def is_ready(api_url: str, *, timeout: float = READY_TIMEOUT) -> bool:
    """Return whether the API responds within `timeout` seconds."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=timeout):
            return True
    except (OSError, http.client.HTTPException):
        return False


def _complaint(log: str) -> str:
    """Return the exception at the end of a Python process's log or, if there is none, its last line, as one line."""
    exceptions = list(_EXCEPTION.finditer(log))
    said = exceptions[-1].group() if exceptions else log.strip().rpartition("\n")[2]
    # Pydantic quotes the value of a setting, which may be a secret.
    said = re.sub(r"\[type=.*\]", "", said)
    return shorten(said, LONGEST_COMPLAINT, placeholder=" …") or "its log is empty"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host`, an IPv4 or IPv6 address; port 0 is any free one."""
    is_v6 = ":" in host
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=is_v6)


def cannot_listen(host: str, port: int, error: OSError) -> PrefectApiError:
    """Return the error for the operator about an address on which the server cannot listen."""
    # create_server appends its arguments to the reason.
    reason = str(error.strerror).partition(" (while")[0]
    return PrefectApiError(
        f"the Prefect server cannot listen on '{host}', port {port}: {reason}; "
        "check PREFECT_SERVER_API_HOST and PREFECT_SERVER_API_PORT"
    )


def api_url_of(host: str, port: int) -> str:
    """Return the URL of the API of a server on this machine that listens on `host`."""
    return f"http://{reachable_host(host)}:{port}/api"


def reachable_host(host: str) -> str:
    """Return the host for the URL of a server on this machine that listens on `host`."""
    if host in {"0.0.0.0", "", "::"}:  # noqa: S104 - for comparison only
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host

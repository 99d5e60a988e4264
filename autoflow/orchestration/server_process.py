"""AutoFlow's own Prefect server, as a child process."""

import contextlib
import http.client
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Self

from autoflow.errors import PrefectApiError
from autoflow.log import logger

START_TIMEOUT = 180.0
"""How long the server may take to answer, in seconds: its first start prepares a database, slowly on a slow disk."""


STOP_TIMEOUT = 2.0
"""How long the server may take to end, in seconds, before it is killed."""


READY_TIMEOUT = 5.0
"""How long the API may take to say that it is ready, in seconds."""


LONGEST_COMPLAINT = 300
"""How much is told of what the server says when it does not start, in characters."""


LOOK_SECONDS = 15.0
"""How often a server of our own is asked whether it is well."""


HUNG_SECONDS = 60.0
"""How long it may not answer until it is started anew."""


RESTART_SECONDS = 10.0
"""How long to wait between attempts to start the server again."""


_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception): .+(?:\n.+)*", re.MULTILINE)
"""The end of a traceback, up to the next empty line."""


class PrefectServer:
    """A Prefect server as a process of its own, started again when it dies, ended with the block.

    It listens where PREFECT_SERVER_API_HOST and PREFECT_SERVER_API_PORT in `environment` say, from the start of the
    block: who connects before it answers, or while it is being started again, waits. It ends by itself, too, when
    this process is gone. What it says goes to `log_file`.
    """

    def __init__(self, environment: Mapping[str, str], log_file: Path) -> None:
        self._environment = environment
        self._url = _url(environment["PREFECT_SERVER_API_HOST"], int(environment["PREFECT_SERVER_API_PORT"]))
        self.log_file = log_file
        self.has_been_ready = False
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None
        self._closing = threading.Event()
        self._watch = threading.Thread(target=self._keep_alive, name="prefect-server", daemon=True)

    def __enter__(self) -> Self:
        """Start the server; it answers only later. Raises PrefectApiError if it cannot listen or write."""
        host, port = self._environment["PREFECT_SERVER_API_HOST"], int(self._environment["PREFECT_SERVER_API_PORT"])
        try:
            self._listener = _listen(host, port)
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        try:
            self._process = self._start(self._listener)
        except OSError as error:
            self._listener.close()
            raise PrefectApiError(
                f"the Prefect server cannot write {self.log_file}: {error.strerror}; check PREFECT_HOME"
            ) from error
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the server."""
        self._closing.set()
        if self._process:
            _end(self._process)
        self._watch.join()
        if self._listener:
            self._listener.close()

    @property
    def failure(self) -> str | None:
        """Why the server has ended without ever having answered; None where that is not so."""
        if self._process is None or self._process.poll() is None or self.has_been_ready:
            return None
        log = self.log_file.read_bytes()[self._log_start :].decode(errors="replace")
        return f"{_complaint(log)} (see {self.log_file})"

    def _start(self, listener: socket.socket) -> subprocess.Popen[bytes]:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                [sys.executable, "-m", "autoflow.orchestration.prefect_server", str(listener.fileno())],
                pass_fds=[listener.fileno()],
                env={**self._environment, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
                # Its end tells the server that we are gone, however that came about.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal is for AutoFlow, which ends the server when it no longer needs it.
                start_new_session=True,
            )

    def _keep_alive(self) -> None:
        is_starting_again = False
        while not self._closing.is_set():
            process, listener = self._process, self._listener
            if process is None or listener is None:
                return
            self._wait_for_its_end(process, is_starting=is_starting_again)
            if process.stdin:
                process.stdin.close()
            if self._closing.is_set() or not self.has_been_ready:
                return
            logger.warning("the Prefect server ended (exit code %s); starting it again", process.returncode)
            self._restart(listener)
            is_starting_again = True

    def _wait_for_its_end(self, process: subprocess.Popen[bytes], *, is_starting: bool) -> None:
        """Wait until the server ends; kill it if it does not answer for too long, which is longer for a start."""
        answered_at = time.monotonic()
        while not _has_ended(process, LOOK_SECONDS):
            if not self.has_been_ready or is_ready(self._url):
                answered_at, is_starting = time.monotonic(), False
            elif time.monotonic() - answered_at > (patience := START_TIMEOUT if is_starting else HUNG_SECONDS):
                logger.warning("the Prefect server has not answered for %.0f s and is killed", patience)
                process.kill()

    def _restart(self, listener: socket.socket) -> None:
        """Start the server again, as soon as that is possible: memory may be short just now."""
        seconds = 1.0
        while not self._closing.wait(seconds):
            seconds = RESTART_SECONDS
            try:
                self._process = self._start(listener)
            except OSError as error:
                logger.warning("the Prefect server cannot be started: %s; trying again", error.strerror)
                continue
            if self._closing.is_set():
                _end(self._process)
            return


def _has_ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait up to `seconds` for the end of a process; tell whether it has. Popen.wait looks 20 times a second."""
    if sys.platform == "linux" and process.poll() is None:
        # Unless another thread has waited for it meanwhile.
        with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(process.pid), "rb") as end:
            poll = select.poll()
            poll.register(end, select.POLLIN)
            if not poll.poll(1000 * seconds):
                return False
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def is_ready(api_url: str, *, timeout: float = READY_TIMEOUT) -> bool:
    """Tell whether the API answers within `timeout` seconds."""
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=timeout):
            return True
    except (OSError, http.client.HTTPException):
        return False


def _complaint(log: str) -> str:
    """Return, in a line, what a Python said as it ended: its exception or, where there is none, its last line."""
    exceptions = list(_EXCEPTION.finditer(log))
    said = exceptions[-1].group() if exceptions else log.strip().rpartition("\n")[2]
    # Pydantic repeats the value of a setting, which may be a secret.
    said = re.sub(r"\[type=.*\]", "", said)
    return shorten(said, LONGEST_COMPLAINT, placeholder=" …") or "it says nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()


def _listen(host: str, port: int) -> socket.socket:
    is_v6 = ":" in host
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048, dualstack_ipv6=is_v6)


def _cannot_listen(host: str, port: int, error: OSError) -> PrefectApiError:
    # create_server adds its arguments to the reason.
    reason = str(error.strerror).partition(" (while")[0]
    return PrefectApiError(
        f"the Prefect server cannot listen on '{host}', port {port}: {reason}; "
        "check PREFECT_SERVER_API_HOST and PREFECT_SERVER_API_PORT"
    )


def _url(host: str, port: int) -> str:
    return f"http://{_reachable(host)}:{port}/api"


def _reachable(host: str) -> str:
    """Return the address, as it is written in a URL, to reach a server on this machine that listens on `host`."""
    if host in {"0.0.0.0", "", "::"}:  # noqa: S104 - it is compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host

"""The Prefect API that AutoFlow works with: one that is given, or a Prefect server of AutoFlow's own.

Nothing here imports Prefect, which reads its settings from the environment as it is imported.
"""

import contextlib
import errno
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
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Self

from autoflow.errors import PrefectApiError
from autoflow.log import logger
from autoflow.settings import Settings
from autoflow.stop_signal import Shutdown

DEFAULT_PORT = 4200
"""Where Prefect's users expect its UI."""

START_TIMEOUT = 180.0
"""How long the server may take to answer, in seconds: its first start prepares a database, slowly on a slow disk."""

STOP_TIMEOUT = 2.0
"""How long the server may take to end, in seconds, before it is killed."""

READY_TIMEOUT = 5.0
"""How long the API may take to say that it is ready, in seconds."""

LONGEST_COMPLAINT = 300
"""How much is told of what the server says when it does not start, in characters."""

RETENTION_DAYS = 90
"""How long Prefect's own server keeps runs; the run store keeps its records for ever."""

LOOK_SECONDS = 15.0
"""How often a server of our own is asked whether it is well."""

HUNG_SECONDS = 60.0
"""How long it may not answer until it is started anew."""

RESTART_SECONDS = 10.0
"""How long to wait between attempts to start the server again."""

_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception): .+(?:\n.+)*", re.MULTILINE)
"""The end of a traceback, up to the next empty line."""


def choose_port(settings: Settings) -> int:
    """Return the port for a server of our own: the one that is set, or the first one from 4200 up that is free.

    Raises
    ------
    PrefectApiError
        If the port that is set is taken, or nobody can listen on the address that is set.

    """
    host, wanted = settings.prefect_host, settings.prefect_port
    for port in [wanted] if wanted else range(DEFAULT_PORT, DEFAULT_PORT + 100):
        try:
            _listen(host, port).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _cannot_listen(host, port, error) from error
        else:
            return port
    if wanted:
        raise PrefectApiError(f"PREFECT_SERVER_API_PORT: port {wanted} is taken; set another one, or none")
    raise PrefectApiError(f"no port from {DEFAULT_PORT} to {DEFAULT_PORT + 99} is free: set PREFECT_SERVER_API_PORT")


def free_port() -> int:
    """Return a port on this machine that nobody listens on, for a server for the time being."""
    with contextlib.closing(_listen("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def client_environment(settings: Settings, api_url: str) -> dict[str, str]:
    """Return the environment variables that make Prefect, in this process, quiet and talk to `api_url`."""
    return {
        "PREFECT_API_URL": api_url,
        "PREFECT_HOME": str(settings.prefect_home),
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        "PREFECT_API_REQUEST_TIMEOUT": settings.environ.get("PREFECT_API_REQUEST_TIMEOUT") or "30",
        # Our own lines go to Prefect's UI as well, and Prefect's own to nobody: they repeat ours, with tracebacks.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "autoflow",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "DO_NOT_TRACK": "1",
    }


def server_environment(settings: Settings, environ: Mapping[str, str], port: int) -> dict[str, str]:
    """Return the environment of a server of our own; what an operator has set in `environ` about Prefect holds."""
    ours = {
        # The page asks the server that it came from, under whatever name and port a browser reaches it.
        "PREFECT_UI_API_URL": "/api",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RETENTION_DAYS * 24 * 3600),
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
        # What looks every few seconds for things that AutoFlow has none of, such as work pools and pauses.
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1M",
        "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "30",
        "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "60",
        # What tasks do is written together, a second later at most, rather than each change on its own.
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
        "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    }
    always = {
        "PREFECT_HOME": str(settings.prefect_home),
        "PREFECT_SERVER_API_HOST": settings.prefect_host,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    withheld = {
        "AUTOFLOW_DB_PASSWORD",
        "AUTOFLOW_DB_URI",
        "AUTOFLOW_NOTIFY_URLS",
        "FLOWAPI_TOKEN",
        "PREFECT__DB_URI",
        "PREFECT_API_URL",
    }
    return ours | {name: value for name, value in environ.items() if name not in withheld} | always


@contextmanager
def prefect_api(settings: Settings, environ: MutableMapping[str, str]) -> Iterator["PrefectApi"]:
    """Yield the Prefect API, for which `environ` is prepared; a server of our own runs meanwhile."""
    if settings.prefect_api_url:
        environ.update(client_environment(settings, settings.prefect_api_url))
        yield PrefectApi(settings.prefect_api_url)
        return
    port = choose_port(settings)
    host = _reachable(settings.prefect_host)
    url = _url(settings.prefect_host, port)
    server = PrefectServer(server_environment(settings, environ, port), settings.prefect_home / "server.log")
    environ.update(client_environment(settings, url) | _around_proxies(environ, host) | _same_protection(environ))
    with server:
        yield PrefectApi(url, server)


@dataclass(frozen=True)
class PrefectApi:
    """A Prefect API; `server` is ours, if it is."""

    url: str
    server: "PrefectServer | None" = None

    def wait_until_ready(self, shutdown: Shutdown, *, timeout: float = START_TIMEOUT) -> bool:
        """Wait until the API answers; return False if `shutdown` closed before that.

        Raises
        ------
        PrefectApiError
            If it has not answered within `timeout` seconds, or our own server cannot run.

        """
        deadline = time.monotonic() + timeout
        # A server of ours is connected to before it answers; in between we look whether it still runs.
        while not is_ready(self.url, timeout=1 if self.server else READY_TIMEOUT):
            if self.server and (failure := self.server.failure):
                raise PrefectApiError(f"the Prefect server does not start: {failure}")
            if time.monotonic() > deadline:
                hint = f"see {self.server.log_file}" if self.server else "check PREFECT_API_URL"
                raise PrefectApiError(f"the Prefect API at {self.url} has not answered within {timeout:g} s: {hint}")
            if shutdown.wait_until_closing(0.1):
                return False
        if self.server:
            self.server.has_been_ready = True
        return True


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
                [sys.executable, "-m", "autoflow.prefect_server", str(listener.fileno())],
                pass_fds=[listener.fileno()],
                env={**self._environment, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
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
        with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(process.pid), "rb") as end:  # noqa: PTH123 - a number
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
        with urllib.request.urlopen(f"{api_url}/health", timeout=timeout):  # noqa: S310 - the URL is the operator's
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


def _around_proxies(environ: Mapping[str, str], host: str) -> dict[str, str]:
    """Return the environment variables that keep connections to our own server from going through a proxy."""
    if not any(name.lower() in {"http_proxy", "all_proxy"} for name in environ):
        return {}
    excepted = environ.get("no_proxy") or environ.get("NO_PROXY")
    return dict.fromkeys(("no_proxy", "NO_PROXY"), f"{excepted},{host}" if excepted else host)


def _same_protection(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variable that keeps each client from asking our own server for a token that it has not."""
    names = ("PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED", "PREFECT_SERVER_CSRF_PROTECTION_ENABLED")
    is_protected = next((environ[name] for name in names if environ.get(name)), "false")
    return {"PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": is_protected}


def _url(host: str, port: int) -> str:
    return f"http://{_reachable(host)}:{port}/api"


def _reachable(host: str) -> str:
    """Return the address, as it is written in a URL, to reach a server on this machine that listens on `host`."""
    if host in {"0.0.0.0", "", "::"}:  # noqa: S104 - it is compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host

"""The Prefect API that AutoFlow works with: one that is given, or a Prefect server of AutoFlow's own.

Nothing here imports Prefect, which reads its settings from the environment as it is imported.
"""

import contextlib
import errno
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass

from autoflow.errors import PrefectApiError
from autoflow.orchestration.daemon_files import DaemonFiles
from autoflow.orchestration.server_process import (
    READY_TIMEOUT,
    START_TIMEOUT,
    PrefectServer,
    _cannot_listen,
    _listen,
    _reachable,
    _url,
    is_ready,
)
from autoflow.settings import OWN_SECRETS, Settings
from autoflow.stop_signal import Shutdown

DEFAULT_PORT = 4200
"""Where Prefect's users expect its UI."""


RETENTION_DAYS = 90
"""How long Prefect's own server keeps runs; the run store keeps its records for ever."""


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
    withheld = OWN_SECRETS | {"FLOWAPI_TOKEN", "PREFECT_API_URL"}
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


@contextmanager
def shared_prefect_api(settings: Settings, environ: MutableMapping[str, str]) -> Iterator["PrefectApi"]:
    """Yield the Prefect API that is set, or the daemon's, or that of a temporary server; `environ` is prepared for it.

    A temporary server uses a port on which nobody looks for a daemon, and no daemon wants to start.
    """
    url = settings.prefect_api_url or DaemonFiles(home=settings.prefect_home).api_url
    if url and (settings.prefect_api_url or is_ready(url)):
        shared = settings.model_copy(update={"prefect_api_url": url})
    else:
        shared = settings.model_copy(update={"prefect_host": "127.0.0.1", "prefect_port": free_port()})
    with prefect_api(shared, environ) as api:
        yield api


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

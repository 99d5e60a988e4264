"""The Prefect API that AutoFlow uses: a given one, or that of AutoFlow's own Prefect server.

This module does not import Prefect, which reads its settings from the environment when it is imported.
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
    api_url_of,
    cannot_listen,
    is_ready,
    listen,
    reachable_host,
)
from autoflow.settings import OWN_SECRETS, Settings
from autoflow.system.stop_signal import Shutdown

DEFAULT_PORT = 4200
"""Prefect's usual port, where users expect its UI."""

RETENTION_DAYS = 90
"""For how many days AutoFlow's own Prefect server keeps runs; the run store keeps its records for ever."""


def choose_port(settings: Settings) -> int:
    """Return the port for a server of our own: the configured one, or the first free one from 4200 up.

    Raises
    ------
    PrefectApiError
        If the configured port is taken, or the configured address cannot be used.

    """
    host, wanted = settings.prefect_host, settings.prefect_port
    for port in [wanted] if wanted else range(DEFAULT_PORT, DEFAULT_PORT + 100):
        try:
            listen(host, port).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise cannot_listen(host, port, error) from error
        else:
            return port
    if wanted:
        raise PrefectApiError(f"PREFECT_SERVER_API_PORT: port {wanted} is in use; set another port, or none")
    raise PrefectApiError(f"no port from {DEFAULT_PORT} to {DEFAULT_PORT + 99} is free; set PREFECT_SERVER_API_PORT")


def free_port() -> int:
    """Return a free port on this machine, for a temporary server."""
    with contextlib.closing(listen("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def client_environment(settings: Settings, api_url: str) -> dict[str, str]:
    """Return the environment variables that make Prefect use `api_url` and log nothing itself in this process."""
    return {
        "PREFECT_API_URL": api_url,
        "PREFECT_HOME": str(settings.prefect_home),
        "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        "PREFECT_API_REQUEST_TIMEOUT": settings.environ.get("PREFECT_API_REQUEST_TIMEOUT") or "30",
        # Send our log lines to Prefect's UI, too. Drop those of Prefect: they repeat ours, with tracebacks.
        "PREFECT_LOGGING_EXTRA_LOGGERS": "autoflow",
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "DO_NOT_TRACK": "1",
    }


def server_environment(settings: Settings, environ: Mapping[str, str], port: int) -> dict[str, str]:
    """Return the environment of a server of our own; Prefect settings in `environ` take precedence over ours."""
    ours = {
        # A relative URL: the UI then works under any host name and port.
        "PREFECT_UI_API_URL": "/api",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RETENTION_DAYS * 24 * 3600),
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
        # Services that poll every few seconds for things that AutoFlow does not use, such as work pools and pauses.
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1M",
        "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "30",
        "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
        "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "60",
        # Write changes of tasks in batches, at most a second later, rather than one at a time.
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
    """Yield the Prefect API and prepare `environ` for it; run a server of our own in the block if none is given."""
    if settings.prefect_api_url:
        environ.update(client_environment(settings, settings.prefect_api_url))
        yield PrefectApi(settings.prefect_api_url)
        return
    port = choose_port(settings)
    host = reachable_host(settings.prefect_host)
    url = api_url_of(settings.prefect_host, port)
    log_file = settings.prefect_home / "server.log"
    server = PrefectServer(server_environment(settings, environ, port), log_file, hosts=settings.ui_hosts)
    environ.update(client_environment(settings, url) | _around_proxies(environ, host) | _same_protection(environ))
    with server:
        yield PrefectApi(url, server)


def present_api_url(settings: Settings) -> str | None:
    """Return the URL of a Prefect API that responds now: the one that is set, or the daemon's; None without one."""
    url = settings.prefect_api_url or DaemonFiles(home=settings.prefect_home).api_url
    return url if url and is_ready(url) else None


@contextmanager
def shared_prefect_api(settings: Settings, environ: MutableMapping[str, str]) -> Iterator["PrefectApi"]:
    """Yield the Prefect API that is set, or the daemon's, or that of a temporary server; `environ` is prepared for it.

    A temporary server uses a port where no client expects a daemon, and where no daemon starts.
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
    """A Prefect API; `server` is AutoFlow's own server, if it uses one."""

    url: str
    server: "PrefectServer | None" = None

    def wait_until_ready(self, shutdown: Shutdown, *, timeout: float = START_TIMEOUT) -> bool:
        """Wait until the API responds; return False if `shutdown` closes before that.

        Raises
        ------
        PrefectApiError
            If it does not respond within `timeout` seconds, or our own server fails to start.

        """
        deadline = time.monotonic() + timeout
        # Our own server accepts connections before it responds, so each attempt is short: it may have ended.
        while not is_ready(self.url, timeout=1 if self.server else READY_TIMEOUT):
            if self.server and (failure := self.server.failure):
                raise PrefectApiError(f"the Prefect server failed to start: {failure}")
            if time.monotonic() > deadline:
                hint = f"see {self.server.log_file}" if self.server else "check PREFECT_API_URL"
                raise PrefectApiError(f"the Prefect API at {self.url} did not respond within {timeout:g} s; {hint}")
            if shutdown.wait_until_closing(0.1):
                return False
        if self.server:
            self.server.has_been_ready = True
        return True


def _around_proxies(environ: Mapping[str, str], host: str) -> dict[str, str]:
    """Return the environment variables that exclude our own server from a proxy."""
    if not any(name.lower() in {"http_proxy", "all_proxy"} for name in environ):
        return {}
    excepted = environ.get("no_proxy") or environ.get("NO_PROXY")
    return dict.fromkeys(("no_proxy", "NO_PROXY"), f"{excepted},{host}" if excepted else host)


def _same_protection(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variable that makes clients request CSRF tokens only if our own server has them."""
    names = ("PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED", "PREFECT_SERVER_CSRF_PROTECTION_ENABLED")
    is_protected = next((environ[name] for name in names if environ.get(name)), "false")
    return {"PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": is_protected}

"""Dask's options for the scheduler, the workers and their clients, set by AutoFlow alone."""

import logging

import dask

HTTP_ROUTES = ["distributed.http.health"]
"""All that Dask answers by HTTP: that the process is alive. Its other pages show tasks, logs and settings."""

TTL_SHARE = 1 / 3
"""After how much of the heartbeat timeout the scheduler gives up a silent worker; Dask waits for 5 to 20 s anyway."""

SILENCE_SHARE = 1 / 3
"""After how much of the heartbeat timeout a silent connection is dead, which is before the lease of a worker ends."""

SHORTEST_SILENCE = 12.0
"""In seconds; Dask needs at least 11 for its ten probes of a silent connection."""

CONNECT_SECONDS = 10.0
"""How long Dask tries to connect, in seconds."""


def set_options(heartbeat_timeout: float) -> None:
    """Set Dask's options in this process; `heartbeat_timeout` is that of claims, in seconds.

    Dask neither repeats nor moves what it runs: a claim in the run store decides what runs, and AutoFlow chooses the
    worker. Memory is limited by the operating system, because it is used by kernels, which Dask does not know.
    """
    silence = max(SHORTEST_SILENCE, heartbeat_timeout * SILENCE_SHARE)
    dask.config.set(
        {
            "distributed.scheduler.allowed-failures": 0,
            "distributed.scheduler.worker-ttl": f"{heartbeat_timeout * TTL_SHARE:.3f}s",
            "distributed.scheduler.work-stealing": False,
            "distributed.scheduler.active-memory-manager.start": False,
            "distributed.scheduler.http.routes": HTTP_ROUTES,
            "distributed.scheduler.events-cleanup-delay": "5 minutes",
            "distributed.worker.http.routes": HTTP_ROUTES,
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.pause": False,
            "distributed.worker.memory.terminate": False,
            "distributed.worker.profile.enabled": False,
            "distributed.diagnostics.nvml": False,
            # Otherwise, each process wakes up 50 times a second to measure itself.
            "distributed.admin.tick.interval": "1s",
            "distributed.admin.tick.cycle": "10s",
            "distributed.admin.system-monitor.interval": "5s",
            "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s",
            "distributed.comm.timeouts.tcp": f"{silence:.3f}s",
        }
    )


def log_with_autoflow(level: int = logging.ERROR) -> None:
    """Send what Dask logs to AutoFlow's log, where secrets are redacted, and only from `level` on.

    Lost workers and connections are part of its work, and AutoFlow logs them itself.
    """
    for name in ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application"):
        log = logging.getLogger(name)
        log.handlers.clear()
        log.propagate = True
        # A client that reconnects logs a traceback.
        log.setLevel(logging.CRITICAL if name == "distributed.client" else level)

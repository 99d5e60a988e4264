"""The scheduler of the cluster: it knows the workers, and carries orders and answers. It runs no notebook."""

import asyncio
from urllib.parse import urlsplit

import distributed

from autoflow.cluster.options import log_with_autoflow, set_options
from autoflow.cluster.security import security
from autoflow.errors import AutoflowError
from autoflow.settings import SchedulerSettings
from autoflow.settings.checks import is_loopback
from autoflow.system.log import logger
from autoflow.system.stop_signal import Shutdown


def run_scheduler(settings: SchedulerSettings, shutdown: Shutdown) -> None:
    """Run the scheduler at the address in the settings until `shutdown` closes.

    Raises
    ------
    AutoflowError
        If it cannot listen there.
    SettingsError
        If the certificates for it are missing or wrong.

    """
    encryption = security(settings)
    set_options(settings.heartbeat_timeout)
    log_with_autoflow()
    asyncio.run(_serve(str(settings.dask_scheduler), encryption, shutdown))


async def _serve(address: str, encryption: distributed.Security | None, shutdown: Shutdown) -> None:
    parts = urlsplit(address)
    host = parts.hostname or ""
    # Beyond this machine, the name is that under which others reach it, and may be one of a proxy.
    listens_on = host if is_loopback(host) else "0.0.0.0"  # noqa: S104 - only with TLS
    scheduler = distributed.Scheduler(
        host=listens_on,
        port=parts.port or 0,
        protocol=parts.scheme,
        security=encryption,
        dashboard=False,
        dashboard_address="127.0.0.1:0",
    )
    try:
        await scheduler
    except OSError as error:
        raise AutoflowError(f"the scheduler cannot listen at {address}: {error.strerror or error}") from error
    logger.info("the scheduler is ready at %s", scheduler.address)
    closing = asyncio.ensure_future(asyncio.to_thread(shutdown.wait_until_closing))
    finished = asyncio.ensure_future(scheduler.finished())
    await asyncio.wait({closing, finished}, return_when=asyncio.FIRST_COMPLETED)
    logger.info("stopping")
    shutdown.close()
    await scheduler.close()

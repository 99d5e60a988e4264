"""Executes the notebooks of runs, with their reports: on this machine, or on the workers of a Dask cluster.

Only the modules that need a cluster import Dask, which is an extra.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from autoflow.errors import AutoflowError
from autoflow.runs.workers import ClusterState
from autoflow.settings import SchedulerSettings, Settings
from autoflow.system.stop_signal import Shutdown

if TYPE_CHECKING:
    from autoflow.cluster.client import Cluster


@contextmanager
def cluster_of(settings: Settings) -> Iterator["Cluster | None"]:
    """Yield the cluster whose scheduler the settings name, connected for the duration of the block; None if none."""
    if settings.dask_scheduler is None:
        yield None
        return
    module = importlib.import_module("autoflow.cluster.client")
    with module.Cluster(settings) as cluster:
        yield cluster


def run_scheduler(settings: SchedulerSettings, shutdown: Shutdown) -> None:
    """Run the scheduler at the address in the settings until `shutdown` closes.

    Raises
    ------
    AutoflowError
        If no address is set, the certificates for it are missing or wrong, or it cannot listen there.

    """
    _require_address(settings)
    importlib.import_module("autoflow.cluster.scheduler").run_scheduler(settings, shutdown)


def run_worker(settings: Settings, shutdown: Shutdown) -> None:
    """Take orders until `shutdown` closes; then finish those in progress within the shutdown grace.

    Raises
    ------
    AutoflowError
        If no scheduler is set, the certificates for it are missing or wrong, or the worker cannot start.

    """
    _require_address(settings)
    importlib.import_module("autoflow.cluster.worker").run_worker(settings, shutdown)


def _require_address(settings: SchedulerSettings) -> None:
    if settings.dask_scheduler is None:
        raise AutoflowError("AUTOFLOW_DASK_SCHEDULER is not set: the address of the scheduler, such as tls://name:8786")


def check_certificates(settings: Settings) -> None:
    """Raise SettingsError if the certificates for the cluster, if there is one, are missing or wrong."""
    if settings.dask_scheduler is not None:
        importlib.import_module("autoflow.cluster.security").security(settings)


def inspected_cluster(settings: Settings) -> ClusterState | None:
    """Return the cluster as a daemon would see it now; None if the settings name none.

    Raises
    ------
    ClusterError
        If its scheduler does not respond.
    SettingsError
        If the certificates for it are missing or wrong.

    """
    if settings.dask_scheduler is None:
        return None
    found: ClusterState = importlib.import_module("autoflow.cluster.client").inspected(settings)
    return found

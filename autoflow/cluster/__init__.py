"""Executes the notebooks of runs, with their reports: on this machine, or on the workers of a Dask cluster.

Only the modules that need a cluster import Dask, which is an extra.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from autoflow.runs.workers import ClusterState
from autoflow.settings import Settings

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

"""Shows in Prefect's UI how far runs are: a progress bar among the artifacts of each flow run, while it runs."""

from collections.abc import Mapping
from typing import Self
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from autoflow.notebooks.live_files import RunProgress
from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.system.log import logger

TIMEOUT = 5.0
"""How long Prefect may take to answer, in seconds."""


class ProgressBars:
    """The progress bars in Prefect of the runs of this process, in a ``with`` block, after which nothing is shown.

    They share one client, which takes longer to make than a bar.
    """

    def __init__(self) -> None:
        self._client = get_client(httpx_settings={"timeout": TIMEOUT}, sync_client=True)
        self._shown: dict[UUID, tuple[UUID, RunProgress]] = {}

    def __enter__(self) -> Self:
        """Open the client."""
        self._client.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the client."""
        self._client.__exit__(None, None, None)

    def show(self, progress: Mapping[UUID, RunProgress]) -> None:
        """Show how far the flow runs are, and remove the bars of others.

        If Prefect fails, it is left to the next call.
        """
        try:
            self._update(progress)
        except PREFECT_FAILURES as error:
            logger.debug("could not show in Prefect how far runs are: %s", type(error).__name__)

    def _update(self, progress: Mapping[UUID, RunProgress]) -> None:
        for run in self._shown.keys() - progress.keys():
            artifact, _ = self._shown.pop(run)
            self._client.delete_artifact(artifact)
        for run, each in progress.items():
            if run not in self._shown or self._shown[run][1] != each:
                self._show(run, each)

    def _show(self, run: UUID, progress: RunProgress) -> None:
        if run in self._shown:
            artifact, _ = self._shown[run]
            self._client.update_artifact(artifact, ArtifactUpdate(data=progress.percent, description=progress.text))
        else:
            new = ArtifactCreate(
                type="progress", data=progress.percent, description=progress.text, flow_run_id=run, key=None
            )
            artifact = self._client.create_artifact(new).id
        self._shown[run] = artifact, progress

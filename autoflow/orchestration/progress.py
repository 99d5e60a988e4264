"""Shows in Prefect's UI how far runs are: a progress bar among the artifacts of each flow run, while it runs."""

from collections.abc import Mapping
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from autoflow.notebooks.live_files import RunProgress
from autoflow.orchestration.failures import PREFECT_FAILURES
from autoflow.system.log import logger

TIMEOUT = 5.0
"""How long Prefect may take to answer, in seconds."""


class ProgressBars:
    """The progress bars in Prefect of the runs of this process."""

    def __init__(self) -> None:
        self._shown: dict[UUID, tuple[UUID, RunProgress]] = {}

    def show(self, progress: Mapping[UUID, RunProgress]) -> None:
        """Show how far the flow runs are, and remove the bars of others.

        If Prefect fails, it is left to the next call.
        """
        changed = {run: each for run, each in progress.items() if run not in self._shown or self._shown[run][1] != each}
        ended = self._shown.keys() - progress.keys()
        if not changed and not ended:
            return
        try:
            with get_client(httpx_settings={"timeout": TIMEOUT}, sync_client=True) as client:
                for run in ended:
                    artifact, _ = self._shown.pop(run)
                    client.delete_artifact(artifact)
                for run, each in changed.items():
                    self._show(client, run, each)
        except PREFECT_FAILURES as error:
            logger.debug("could not show in Prefect how far runs are: %s", type(error).__name__)

    def _show(self, client: SyncPrefectClient, run: UUID, progress: RunProgress) -> None:
        if run in self._shown:
            artifact, _ = self._shown[run]
            client.update_artifact(artifact, ArtifactUpdate(data=progress.percent, description=progress.text))
        else:
            new = ArtifactCreate(
                type="progress", data=progress.percent, description=progress.text, flow_run_id=run, key=None
            )
            artifact = client.create_artifact(new).id
        self._shown[run] = artifact, progress

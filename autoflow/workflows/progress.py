"""Looks how far the runs in progress are, and shows it in Prefect and on the page."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self
from uuid import UUID

from autoflow.errors import RunStoreError
from autoflow.model.store import RunStore
from autoflow.notebooks.live_files import RunProgress, progress_of_runs
from autoflow.runs.records import ACTIVE_STATES
from autoflow.system.log import logger
from autoflow.system.stop_signal import PeriodicThread

LOOK_SECONDS = 5.0
"""How often it looks; shorter runs are not seen."""


Show = Callable[[Mapping[UUID, RunProgress]], None]
"""Shows in Prefect how far flow runs are, by their ids."""


class ProgressWatch:
    """Looks how far the runs in progress are, for the duration of the `with` block.

    Prefect shows those of this process once it is connected. `followers` are called when that of any process has
    changed.
    """

    def __init__(self, store: RunStore, outputs_dir: Path, *, followers: Sequence[Callable[[], None]] = ()) -> None:
        self._store = store
        self._outputs_dir = outputs_dir
        self._followers = followers
        self._show: Show | None = None
        self._last: Mapping[int, RunProgress] = {}
        self._thread = PeriodicThread("progress", self.look, LOOK_SECONDS)

    def __enter__(self) -> Self:
        """Start looking."""
        self._thread.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._thread.__exit__()

    def show_with(self, show: Show) -> None:
        """Show how far runs are in Prefect, too, from now on."""
        self._last, self._show = {}, show

    def look(self) -> None:
        """Look once."""
        found = progress_of_runs(self._outputs_dir)
        if found == self._last:
            return
        self._last = found
        for follower in self._followers:
            follower()
        if self._show is None:
            return
        try:
            self._show(self._of_flow_runs(found))
        except RunStoreError as error:
            logger.debug("could not look for runs in progress: %s", error)

    def _of_flow_runs(self, found: Mapping[int, RunProgress]) -> Mapping[UUID, RunProgress]:
        """Return how far the flow runs of this process are."""
        runs = [run for state in ACTIVE_STATES for run in self._store.runs(state=state)] if found else []
        return {
            UUID(run.flow_run_id): found[run.id]
            for run in runs
            if run.id in found and run.flow_run_id and run.holder == self._store.holder
        }

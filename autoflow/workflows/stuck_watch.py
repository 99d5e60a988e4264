"""Looks for runs that take far longer than similar ones, and reports each once."""

from collections.abc import Callable, Sequence
from typing import Self

from autoflow.errors import RunStoreError
from autoflow.model.store import RunStore
from autoflow.runs.records import WorkflowKey
from autoflow.runs.stuck import StuckRun
from autoflow.system.log import log_fields, logger
from autoflow.system.stop_signal import PeriodicThread

LOOK_SECONDS = 15.0
"""How often the run store is searched for stuck runs; a run is stuck after ten minutes at the earliest."""


class StuckWatch:
    """Looks for stuck runs for the duration of the `with` block.

    Those of this process are logged, once each, and passed to `followers`: of several daemons on one database, only
    the one that executes a run reports it. `entries` are the workflows with their parameters that have a stuck run, in
    this process or another.
    """

    def __init__(self, store: RunStore, *, followers: Sequence[Callable[[Sequence[StuckRun]], None]] = ()) -> None:
        self.entries = frozenset[WorkflowKey]()
        self._store = store
        self._followers = followers
        self._reported: frozenset[int] = frozenset()
        self._thread = PeriodicThread("stuck-watch", self.look, LOOK_SECONDS)

    def __enter__(self) -> Self:
        """Start looking."""
        self._thread.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._thread.__exit__()

    def look(self) -> None:
        """Look once; if the run store does not respond, leave it to the next look."""
        try:
            found = self._store.stuck_runs()
        except RunStoreError as error:
            logger.debug("could not look for stuck runs: %s", error)
            return
        self.entries = frozenset(stuck.record.key.workflow_key for stuck in found)
        ours = [stuck for stuck in found if stuck.record.holder == self._store.holder]
        if new := [stuck for stuck in ours if stuck.record.id not in self._reported]:
            self._report(new)
        self._reported = frozenset(stuck.record.id for stuck in ours)

    def _report(self, runs: Sequence[StuckRun]) -> None:
        for stuck in runs:
            key = stuck.record.key
            date = key.reference_date.isoformat()
            with log_fields(run=stuck.record.id, workflow=key.workflow, label=stuck.record.label, date=date):
                logger.warning("run %d of %s seems stuck: %s; %s", stuck.record.id, key, stuck.why, stuck.what_to_do)
        for follower in self._followers:
            follower(runs)

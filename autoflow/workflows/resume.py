"""Takes over the notebooks of an earlier attempt that have not changed, and records those of this one as they end."""

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autoflow.cluster.work import Place, Result, Work
from autoflow.errors import ReportError, RunStoreError
from autoflow.model.resuming import Resuming
from autoflow.model.store import RunStore
from autoflow.notebooks.execution import CellCallback
from autoflow.notebooks.sources import environment, source_as_json
from autoflow.runs.finished import FinishedNotebook, file_states
from autoflow.runs.records import Claim, RunRecord
from autoflow.runs.run import NotebookOutputs, WorkflowRun
from autoflow.settings import Settings
from autoflow.system.log import logger
from autoflow.system.stop_signal import StopSignal
from autoflow.utils import file_digest

RUN_DIR = "run_dir"


@dataclass(kw_only=True)
class Continuation:
    """A run that may take over notebooks of `earlier`, an attempt at the same date; None if there is nothing to take.

    `finished` are the notebooks of this run that were executed to their ends, by their labels.
    """

    run: WorkflowRun
    claim: Claim
    settings: Settings
    resuming: Resuming
    earlier: RunRecord | None = None
    finished: dict[str, FinishedNotebook] = field(default_factory=dict)
    run_dir: str | None = None

    def __post_init__(self) -> None:
        """Start without fingerprints."""
        self._lock = threading.Lock()
        self._fingerprints: dict[str, str] = {}

    @classmethod
    def of(cls, run: WorkflowRun, claim: Claim, settings: Settings, store: RunStore) -> "Continuation":
        """Return the continuation of the attempt before, if the entry or a user wants that."""
        resuming, earlier = Resuming(store), None
        try:
            if claim.attempt > 1:
                earlier = resuming.predecessor(claim, is_wanted=run.resume)
        except RunStoreError as error:
            logger.warning("%s runs all its notebooks: could not look for those of the attempt before: %s", run, error)
        return cls(run=run, claim=claim, settings=settings, resuming=resuming, earlier=earlier)

    def prepared(self, work: Work) -> Work:
        """Return the work with its folders and, if its notebook can be taken over, the executed file to take."""
        with self._lock:
            fingerprint = self._fingerprint(work)
            self._fingerprints[work.label] = fingerprint
            old = self._takeable(work, fingerprint)
            if RUN_DIR in work.folders:
                self._choose_folder(work.folders[RUN_DIR], old)
                work = replace(work, folders={**work.folders, RUN_DIR: str(self.run_dir)})
            if old is None:
                return work
            self.finished[work.label] = replace(old, taken_from=old.taken_from or self._earlier_id)
        logger.info("took over notebook '%s' from run %s", work.label, self.finished[work.label].taken_from)
        folder = self.settings.notebooks_dir
        is_inside = old.executed.parent == folder
        # It waits for no notebook of its pool.
        return replace(work, taken_over=old.executed.name if is_inside else str(old.executed), pool=None)

    def ended(self, work: Work, result: Result) -> None:
        """Record that a notebook was executed to its end, if it was; also if its report could not be made."""
        outputs = result.outputs
        with self._lock:
            old = self.finished.pop(work.label, None)
            if outputs and (result.error is None or isinstance(result.error, ReportError)):
                finished = self._finished(work, outputs, old)
                if finished:
                    self.finished[work.label] = finished
                    self._record()

    @property
    def taken_over(self) -> Mapping[str, int]:
        """The numbers of the runs from which notebooks were taken over, by the labels of the notebooks."""
        with self._lock:
            return {label: each.taken_from for label, each in self.finished.items() if each.taken_from is not None}

    @property
    def _earlier_id(self) -> int | None:
        return self.earlier.id if self.earlier else None

    def _fingerprint(self, work: Work) -> str:
        """Return what identifies everything that a notebook is made from, also through those that it depends on.

        Days that arrived since count, whether or not it gets them as a parameter: it may ask FlowAPI for them.
        """
        values = {**work.values, "flowapi_url": self.settings.flowapi_url, **work.folders}
        values |= {RUN_DIR: RUN_DIR} if RUN_DIR in work.folders else {}
        values |= {label: self._fingerprints.get(label, "") for label in work.upstream}
        content: dict[str, Any] = {
            "source": source_as_json(work.notebook),
            "parameters": {name: values[source] for name, source in work.sources.items()},
            "days": [day.isoformat() for day in (*self.run.missing_dates, *self.run.changed)],
            "environment": dict(environment()),
            "secrets": list(work.secrets),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _takeable(self, work: Work, fingerprint: str) -> FinishedNotebook | None:
        """Return the notebook of the earlier attempt if it is the same, and all that it depends on was taken over."""
        old = self.earlier.finished.get(work.label) if self.earlier else None
        if old is None or old.fingerprint != fingerprint or not source_as_json(work.notebook):
            return None
        if any(label not in self.finished or self.finished[label].taken_from is None for label in work.upstream):
            return None
        earlier_dir = self.earlier.run_dir if self.earlier else None
        if old.left is not None and self.run_dir not in {None, earlier_dir}:
            return None  # this run has begun in another folder
        folder = self.settings.outputs_dir / earlier_dir if earlier_dir else None
        return old if old.is_as_it_was(folder) else None

    def _choose_folder(self, new: str, old: FinishedNotebook | None) -> None:
        """Choose the folder of the run: a new one, unless a notebook is taken over that has left files in the old."""
        if self.run_dir is not None:
            return
        is_old = old is not None and self.earlier is not None and self.earlier.run_dir is not None
        self.run_dir = self.earlier.run_dir if is_old and self.earlier else new
        of_run = self._earlier_id if is_old else None
        self._try(lambda: self.resuming.take_folder(self.claim.id, str(self.run_dir), of_run=of_run))

    def _finished(self, work: Work, outputs: NotebookOutputs, old: FinishedNotebook | None) -> FinishedNotebook | None:
        if old:
            return replace(old, executed=outputs.executed, reports=outputs.reports)
        uses_folder = RUN_DIR in work.folders
        try:
            return FinishedNotebook(
                executed=outputs.executed,
                reports=outputs.reports,
                fingerprint=self._fingerprints[work.label],
                digest=file_digest(outputs.executed),
                left=file_states(self.settings.outputs_dir / work.folders[RUN_DIR]) if uses_folder else None,
            )
        except OSError as error:
            logger.debug("notebook '%s' cannot be taken over later: %s", work.label, error)
            return None

    def _record(self) -> None:
        self._try(lambda: self.resuming.record(self.claim.id, self.finished))

    def _try(self, write: Callable[[], None]) -> None:
        """Write to the database if it responds; the run goes on if it does not."""
        try:
            write()
        except RunStoreError as error:
            logger.debug("%s", error)


@dataclass(frozen=True)
class Continued:
    """Executes notebooks in `place`, except for those that are taken over from an earlier attempt."""

    place: Place
    continuation: Continuation

    def carry_out(self, work: Work, *, stop: StopSignal, on_cell: CellCallback | None = None) -> Result:
        """Execute the notebook or take it over, and make its reports, see `Place`."""
        work = self.continuation.prepared(work)
        result = self.place.carry_out(work, stop=stop, on_cell=on_cell)
        self.continuation.ended(work, result)
        return result

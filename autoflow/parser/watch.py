"""The watch over workflows.yml: notices edits of the file, and of the notebooks and templates that it names."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from autoflow.errors import WorkflowsFileError
from autoflow.parser import digest_of, read_workflows
from autoflow.parser.inputs_folder import stamp_of
from autoflow.settings import Settings
from autoflow.specs import WorkflowsFile

SETTLED_AFTER = 1.0
"""An edit is checked when the files have not changed for this long, in seconds: before, it may be half written."""

RECHECK_SECONDS = 10.0
"""How often an invalid workflows.yml is checked again without an edit: a missing notebook may exist by now."""

_Stamps: TypeAlias = dict[Path, Hashable]


@dataclass(frozen=True)
class Checked:
    """The result of a check: the content of workflows.yml, or its mistakes.

    `edited` names the files that were edited since the check before; it is empty at the first check, and where an
    invalid file became valid, or has other mistakes, without an edit.
    """

    result: WorkflowsFile | WorkflowsFileError
    edited: tuple[str, ...] = ()


class FileWatch:
    """Checks workflows.yml after each edit; call `look` every second or so.

    It compares contents, or the times and sizes of notebooks, so that it does not matter how an editor writes files,
    and on which file system. `clock` counts seconds.
    """

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._named: frozenset[Path] = frozenset()
        self._seen: _Stamps | None = None
        self._seen_at = clock()
        self._checked: _Stamps | None = None
        self._checked_at = 0.0
        self._mistakes: tuple[str, ...] | None = None

    def look(self) -> Checked | None:
        """Check workflows.yml after the start and after each edit that has settled; otherwise return None."""
        now, stamps = self._clock(), self._stamps()
        if stamps != self._seen:
            self._seen, self._seen_at = stamps, now
        if now - self._seen_at < SETTLED_AFTER:
            return None
        edited = self._edited(stamps)
        if not edited and self._checked and not (self._mistakes and now - self._checked_at >= RECHECK_SECONDS):
            return None
        is_first, before = self._checked is None, self._mistakes
        result = self._check(now, stamps)
        return Checked(result, edited) if is_first or edited or self._mistakes != before else None

    def _edited(self, stamps: _Stamps) -> tuple[str, ...]:
        """Return the names of the files that were edited since the last check; none before the first one."""
        before = self._checked or stamps
        return tuple(path.name for path, stamp in stamps.items() if path in before and before[path] != stamp)

    def _check(self, now: float, stamps: _Stamps) -> WorkflowsFile | WorkflowsFileError:
        """Check the files, which had these `stamps` just before: an edit during the check gives other ones."""
        try:
            result: WorkflowsFile | WorkflowsFileError = read_workflows(self._settings)
            self._mistakes = None
        except WorkflowsFileError as error:
            result, self._mistakes = error, error.problems
        if isinstance(result, WorkflowsFile):
            self._named = _named_files(result)
        self._seen = self._checked = self._stamps() | stamps
        self._seen_at = self._checked_at = now
        return result

    def _stamps(self) -> _Stamps:
        """Return, for each file, what changes with every edit."""
        file = self._settings.workflows_file
        return {file: digest_of(file)} | {path: stamp_of(path) for path in sorted(self._named)}


def _named_files(file: WorkflowsFile) -> frozenset[Path]:
    notebooks = [notebook for workflow in file.workflows for notebook in workflow.notebooks]
    templates = {notebook.output.template for notebook in notebooks if notebook.output and notebook.output.template}
    return frozenset({notebook.path for notebook in notebooks} | templates)

"""Notebooks of a run that were executed to their ends, which the next attempt can take over."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

from autoflow.utils import file_digest

MOST_FILES = 10_000
"""The highest number of files in the folder of a run that are recorded for a notebook."""

FileStates: TypeAlias = Mapping[str, tuple[int, int]]
"""The sizes in bytes, and the times of modification in nanoseconds, of files, by their paths in a folder."""


@dataclass(frozen=True, kw_only=True)
class FinishedNotebook:
    """A notebook that was executed to its end, with the reports that were made of it.

    `fingerprint` identifies what it was made from, `digest` the content of the executed file. `left` are the files in
    the folder of the run when it ended; None if it does not use that folder. `taken_from` is the number of the run
    whose executed notebook it is; None if this run has executed it itself.
    """

    executed: Path
    reports: tuple[Path, ...]
    fingerprint: str
    digest: str
    left: FileStates | None = None
    taken_from: int | None = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return the notebook with the content that `as_json` has returned."""
        left = content.get("left")
        return cls(
            executed=Path(content["notebook"]),
            reports=tuple(map(Path, content["reports"])),
            fingerprint=content["fingerprint"],
            digest=content["digest"],
            left=None if left is None else {name: (size, time) for name, (size, time) in left.items()},
            taken_from=content.get("taken_from"),
        )

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON, with its files as outputs of a run are recorded."""
        content = {
            **self.as_outputs(),
            "fingerprint": self.fingerprint,
            "digest": self.digest,
            "left": None if self.left is None else dict(self.left),
            "taken_from": self.taken_from,
        }
        return {name: value for name, value in content.items() if value is not None}

    def as_outputs(self) -> dict[str, Any]:
        """Return its files as outputs of a run are recorded."""
        return {"notebook": str(self.executed), "reports": [str(path) for path in self.reports]}

    def is_as_it_was(self, run_folder: Path | None) -> bool:
        """Return whether its files, also those in the folder of the run, are what they were when it ended."""
        if self.left is not None:
            now = file_states(run_folder) if run_folder and run_folder.is_dir() else None
            if now is None or any(now.get(name) != state for name, state in self.left.items()):
                return False
        try:
            return file_digest(self.executed) == self.digest
        except OSError:
            return False


def file_states(folder: Path) -> FileStates:
    """Return the states of the files in a folder and in those below it, at most `MOST_FILES`."""
    found: dict[str, tuple[int, int]] = {}
    for path in _files(folder):
        try:
            status = os.lstat(path)
        except OSError:
            continue  # it has just been removed
        found[os.path.relpath(path, folder)] = (status.st_size, status.st_mtime_ns)
        if len(found) == MOST_FILES:
            break
    return found


def _files(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        yield from (os.path.join(parent, name) for name in names)

"""Paths of outputs, which the run store keeps relative to the outputs folder, so that the folder can be moved.

The only module that converts them: `OutputFolders.to_store` on the way in, `OutputFinder` on the way out.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from autoflow.settings import Settings


@dataclass(frozen=True, kw_only=True)
class OutputFolders:
    """The outputs folder, and the folders for executed notebooks and reports, which are usually in it; all absolute."""

    outputs: Path
    notebooks: Path
    reports: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the folders from the settings."""
        return cls(outputs=settings.outputs_dir, notebooks=settings.notebooks_dir, reports=settings.reports_dir)

    def to_store(self, outputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return `outputs` with paths relative to the outputs folder; paths outside of it stay absolute."""
        return _with_paths(outputs, notebook=self._relative, report=self._relative)

    def _relative(self, path: str) -> str:
        # The second form is for an outputs folder that is named by a symbolic link.
        for folder, file in ((self.outputs, Path(path)), (self.outputs.resolve(), Path(path).resolve())):
            if file.is_relative_to(folder):
                return str(file.relative_to(folder))
        return path


class OutputFinder:
    """Converts paths from the store to absolute paths. It remembers which folders exist: use one for each query.

    Without `folders`, a path is where it was when the run ended.
    """

    def __init__(self, folders: OutputFolders | None) -> None:
        self._folders = folders
        self._exists: dict[str, bool] = {}

    def found(self, outputs: Mapping[str, Any], written_in: str | None) -> dict[str, Any]:
        """Return `outputs` with absolute paths; `written_in` was the outputs folder when they were stored."""
        written_in = written_in or ""
        if (folders := self._folders) is None:
            return _with_paths(
                outputs,
                notebook=lambda stored: os.path.join(written_in, stored),
                report=lambda stored: os.path.join(written_in, stored),
            )
        root, notebooks, reports = str(folders.outputs), str(folders.notebooks), str(folders.reports)
        return _with_paths(
            outputs,
            notebook=lambda stored: self._path(stored, root, notebooks, written_in),
            report=lambda stored: self._path(stored, root, reports, written_in),
        )

    def _path(self, stored: str, root: str, folder: str, written_in: str) -> str:
        """Return where an output is: in `root`, the outputs folder, unless it exists only elsewhere.

        It may be in `folder`, the present folder for its kind, if that has changed; or in the old outputs folder if
        that still exists, as when two AutoFlows with a folder each share a database. A file in `folder` comes first.
        """
        path = os.path.join(root, stored)
        is_old_folder_left = written_in not in {"", root} and self._is_folder(written_in)
        if os.path.dirname(path) == folder and not is_old_folder_left:
            return path
        candidates = [os.path.join(folder, os.path.basename(path)), path]
        if is_old_folder_left:
            candidates.append(os.path.join(written_in, stored))
        return next(filter(os.path.isfile, candidates), path)

    def _is_folder(self, path: str) -> bool:
        if path not in self._exists:
            self._exists[path] = os.path.isdir(path)
        return self._exists[path]


def _with_paths(
    outputs: Mapping[str, Any], *, notebook: Callable[[str], str], report: Callable[[str], str]
) -> dict[str, Any]:
    """Return `outputs` with each path converted by the function for its kind."""
    converted: dict[str, Any] = {}
    for label, files in outputs.items():
        converted[label] = dict(files)
        if "notebook" in files:
            converted[label]["notebook"] = notebook(files["notebook"])
        if "reports" in files:
            converted[label]["reports"] = [report(path) for path in files["reports"]]
    return converted

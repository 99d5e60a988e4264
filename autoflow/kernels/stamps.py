"""Detects whether the files and folders that modules were imported from have changed."""

import importlib.machinery
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

_OF_IMPORTS = (*importlib.machinery.all_suffixes(), "-info", ".pth")


@dataclass(frozen=True)
class Stamps:
    """The state of `files`, and the names in `folders` that could be imported; None stands for what does not exist."""

    files: Mapping[str, tuple[int, ...] | None]
    folders: Mapping[str, Sequence[str] | None]

    @classmethod
    def taken(cls, files: Iterable[str], folders: Iterable[str]) -> Self:
        """Return the stamps of `files`, which may be folders, and of what can be imported from `folders`."""
        return cls({path: _stamp_of(path) for path in files}, {path: _importable_in(path) for path in folders})

    @property
    def are_outdated(self) -> bool:
        """Whether anything has changed since; this takes some milliseconds."""
        return any(_stamp_of(path) != stamp for path, stamp in self.files.items()) or any(
            _importable_in(path) != names for path, names in self.folders.items()
        )

    def changed_since(self, began: int) -> str | None:
        """Return a file that changed after `began`, a time in nanoseconds, and before its stamp was taken."""
        changed = (path for path, stamp in self.files.items() if stamp and max(stamp[1:3]) >= began)
        return next(filter(os.path.isfile, changed), None)


def _stamp_of(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _importable_in(folder: str) -> list[str] | None:
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    return sorted(name for name in names if ("." not in name and name != "__pycache__") or name.endswith(_OF_IMPORTS))

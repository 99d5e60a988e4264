"""Whether what modules were imported from has changed since."""

import importlib.machinery
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

Stamp = tuple[int, int, int, int]
"""Of a file or folder: which it is (inode), when it and what is known of it were changed, in nanoseconds, its size."""

_OF_IMPORTS = (*importlib.machinery.all_suffixes(), "-info", ".pth")


@dataclass(frozen=True)
class Stamps:
    """The `files` and `folders` that modules came from, those included that would come first if they were there.

    Of folders it is told what could be imported from them, or be of consequence for it. None: there is none.
    """

    files: Mapping[str, Stamp | None]
    folders: Mapping[str, Sequence[str] | None]

    @classmethod
    def taken(cls, files: Iterable[str], folders: Iterable[str]) -> Self:
        """Return the stamps of `files`, which may be folders, and what there is to import in `folders`."""
        return cls(
            {path: _stamp_of(path) for path in sorted({*files})},
            {path: _importable_in(path) for path in sorted({*folders})},
        )

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Self:
        """Return stamps of which the fields were told in JSON."""
        return cls({path: stamp and tuple(stamp) for path, stamp in told["files"].items()}, told["folders"])

    @property
    def are_outdated(self) -> bool:
        """Whether anything has changed since; this takes some milliseconds."""
        return any(_stamp_of(path) != stamp for path, stamp in self.files.items()) or any(
            _importable_in(path) != names for path, names in self.folders.items()
        )

    def changed_since(self, began: int) -> str | None:
        """Return one of the files that were changed after `began`, a time in nanoseconds, and before the stamp."""
        for path, stamp in self.files.items():
            if stamp and max(stamp[1:3]) >= began and os.path.isfile(path):
                return path
        return None


def _stamp_of(path: str) -> Stamp | None:
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

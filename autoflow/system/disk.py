"""Checks for room on the disks that AutoFlow writes to."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

NEARLY_FULL_SHARE = 0.05
"""A disk is nearly full if less than this share and less than `NEARLY_FULL_BYTES` of it are free."""

NEARLY_FULL_BYTES = 1_000_000_000

FULL_SHARE = 0.01
"""A disk is full if less than this share and less than `FULL_BYTES` of it are free."""

FULL_BYTES = 10_000_000

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Numbers of the errors that mean that nothing at all can be written at present."""

_REASONS = tuple(os.strerror(number) for number in sorted(NO_ROOM))


def disk_problem(folders: Iterable[Path]) -> str | None:
    """Return what is wrong with the disks of `folders` if one is nearly full, full or read-only; None if all is well.

    A folder that does not exist stands for the one that it would be created in. The result names the folder and how
    much is free, and says what to do.
    """
    return _problem(folders, NEARLY_FULL_SHARE, NEARLY_FULL_BYTES)


def full_disk(folders: Iterable[Path]) -> str | None:
    """Return what is wrong if the disk of one of `folders` is full or read-only, so that no run could end well."""
    return _problem(folders, FULL_SHARE, FULL_BYTES)


def free_bytes(folder: Path) -> int:
    """Return how much this process may still write to the disk of `folder`; 0 if the disk cannot be asked."""
    try:
        status = os.statvfs(_existing(folder))
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


def size_bytes(folder: Path) -> int:
    """Return the size of the disk of `folder`; 0 if the disk cannot be asked."""
    try:
        status = os.statvfs(_existing(folder))
    except OSError:
        return 0
    return status.f_blocks * status.f_frsize


def says_no_room(text: str) -> bool:
    """Return whether `text`, such as the message of a program, says that a disk is full or read-only."""
    return any(reason in text for reason in _REASONS)


def _problem(folders: Iterable[Path], share: float, most_bytes: int) -> str | None:
    for folder in folders:
        existing = _existing(folder)
        try:
            status = os.statvfs(existing)
        except OSError as error:
            return f"the disk of {folder} cannot be used: {error.strerror}"
        if status.f_flag & os.ST_RDONLY:
            return f"the disk of {folder} is read-only: make it writable"
        free, size = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
        if size and free < min(share * size, most_bytes):
            word = "full" if free < min(FULL_SHARE * size, FULL_BYTES) else "nearly full"
            return f"the disk of {folder} is {word}: {_size(free)} of {_size(size)} are free; make room"
        # Some file systems do not count files, and report 0.
        if status.f_files and status.f_favail < min(share * status.f_files, most_bytes / 10_000):
            return f"the disk of {folder} has no room for more files: {status.f_favail} are left; delete some"
    return None


def _existing(folder: Path) -> Path:
    return next((each for each in (folder, *folder.parents) if each.exists()), folder)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"

"""Temporary files and folders that have an owner: a lock that the operating system releases when the owner dies.

Whatever nobody holds a lock on was left by a process that was killed, and can be removed at once. Locks (`flock`) do
not depend on process ids, so they also work between containers, and over NFS.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

A_DAY = 24 * 3600
"""After how long what may be in use somewhere is removed, in seconds."""


def this_machine() -> str:
    """Return six hexadecimal digits that are the same for all processes, also in containers, until the next boot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        boot = uuid.uuid4().bytes
    return hashlib.sha256(boot).hexdigest()[:6]


@contextmanager
def owned_file(path: Path) -> Iterator[None]:
    """Create the empty file `path`, owned by this process for the duration of the block."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with _closing(descriptor):
            if _is_locked_now(descriptor, path):
                yield
                return


@contextmanager
def owned_folder(prefix: str, place: Path) -> Iterator[Path]:
    """Yield a new folder in `place`, owned by this process for the duration of the block and removed at its end."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        with contextlib.suppress(FileNotFoundError), _closing(os.open(folder, os.O_DIRECTORY)) as descriptor:
            if _is_locked_now(descriptor, folder):
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return


def remove_abandoned_folders(place: Path, prefix: str) -> None:
    """Remove folders of `owned_folder` whose owner was killed; those of other users stay."""
    for folder in place.glob(f"{prefix}*"):
        with contextlib.suppress(OSError), _closing(os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)) as descriptor:
            if os.fstat(descriptor).st_uid == os.getuid() and _is_abandoned(descriptor):
                shutil.rmtree(folder, ignore_errors=True)


def remove_if_abandoned(path: Path, *, only_after_a_day: bool) -> None:
    """Remove a file of `owned_file` if its owner was killed."""
    with contextlib.suppress(OSError), _closing(os.open(path, os.O_RDWR | os.O_NOFOLLOW)) as descriptor:
        if (not only_after_a_day or _is_old(descriptor)) and _is_abandoned(descriptor):
            path.unlink()


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_locked_now(descriptor: int, path: Path) -> bool:
    """Lock a new file or folder; return False if another process took it for abandoned before that."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _is_abandoned(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return _is_old(descriptor)  # a file system without locks
    return True


def _is_old(descriptor: int) -> bool:
    """Return whether a file was last written over a day ago, or while a clock was ahead by over a day."""
    return abs(time.time() - os.fstat(descriptor).st_mtime) > A_DAY

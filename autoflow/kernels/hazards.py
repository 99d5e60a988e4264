"""What kernels that are forked from one process cannot have in common, and modules may make as they are imported."""

import _thread
import contextlib
import fcntl
import gc
import os
import random
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Self

PATIENCE = 1.0
"""How long threads and processes that have been told to end may take to do so, in seconds."""

_MEMORY_DEVICES = 1
"""The number that Linux gives to what /dev/null, /dev/zero and /dev/urandom are: see its devices.txt."""


class UnshareableError(BaseException):
    """A module wants something that would have to be made for each kernel; there is no use in importing it further.

    Modules catch an Exception.
    """


@dataclass(frozen=True)
class ProcessState:
    """What belongs to a process as a whole, and what a module may change of it."""

    umask: int
    folder: str
    signals: dict[int, Any]

    @classmethod
    def now(cls) -> Self:
        """Return what it is now."""
        umask = os.umask(0)
        os.umask(umask)
        return cls(umask, os.getcwd(), {number: signal.getsignal(number) for number in signal.valid_signals()})

    def changes(self) -> Iterator[str]:
        """Yield what has been done to the process since."""
        now = self.now()
        if now.umask != self.umask:
            yield "changes the umask"
        if now.folder != self.folder:
            yield "changes the working folder"
        if now.signals != self.signals:
            yield "handles signals"


def hazards(own_descriptor: int) -> Iterator[str]:
    """Yield what was done that kernels cannot have in common; objects that were frozen by `gc` are not looked at.

    `own_descriptor` is that of a file that kernels do not get, and the only one that may be open besides the standard
    ones.
    """
    gc.collect()
    if len(os.listdir("/proc/self/task")) > 1:
        # A thread does not count before it has run.
        time.sleep(0.01)
    # Of threads and processes that are about to end, nothing will be left.
    deadline = time.monotonic() + PATIENCE
    while (_thread._count() or has_children()) and time.monotonic() < deadline:  # noqa: SLF001 - it is in no other place
        time.sleep(0.01)
    if _thread._count():  # noqa: SLF001
        yield "starts threads"
    if has_children():
        yield "starts processes"
    yield from sorted({f"opens {kind}" for kind in _opened(own_descriptor)})
    if {0, 1, 2} - _descriptors():
        yield "closes the standard input or output"
    if _shares_memory():
        yield "shares memory"
    yield from sorted(_made())


def has_children() -> bool:
    """Tell whether this process has children, with those that nobody has collected yet."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@contextmanager
def no_temporary_files(refuse: Callable[[str], NoReturn]) -> Iterator[None]:
    """Have `refuse` called when a temporary file or folder is about to be made.

    Those that made them remove them as a process ends: the first kernel that ends, for all of them.
    """
    tempfile.gettempdir()  # which it finds by making one, once
    # What is to have a name that nothing has yet asks here for names, whichever function makes it.
    original = vars(tempfile)["_get_candidate_names"]
    vars(tempfile)["_get_candidate_names"] = lambda: refuse("makes temporary files")
    try:
        yield
    finally:
        vars(tempfile)["_get_candidate_names"] = original


def _descriptors() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        # That of the folder itself is closed by now.
        with contextlib.suppress(OSError):
            os.fstat(int(name))
            found.add(int(name))
    return found


def _opened(own: int) -> Iterator[str]:
    """Yield the kinds of what is open, with a place to read at or a content that all kernels would have in common."""
    for descriptor in _descriptors() - {0, 1, 2, own}:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
        status = os.fstat(descriptor)
        if stat.S_ISCHR(status.st_mode):
            is_read_only = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            if not is_read_only and os.major(status.st_rdev) != _MEMORY_DEVICES:
                yield "devices"
        elif stat.S_ISSOCK(status.st_mode) or target.startswith("anon_inode:"):
            yield "sockets"
        elif stat.S_ISFIFO(status.st_mode):
            yield "pipes"
        elif not target.startswith("/memfd:"):
            yield "files"


def _shares_memory() -> bool:
    """Tell whether there is memory that kernels could write to, for all of them."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return any(line.split()[1][1::2] == "ws" for line in maps)


def _made() -> set[str]:
    """Return what objects there are of which each kernel would have to have its own."""
    kinds: dict[type, str] = {random.Random: "a random generator", tempfile.TemporaryDirectory: "temporary files"}
    # Seeded in each kernel; the functions of both modules are methods of these.
    seeded = [vars(random)["random"].__self__]
    if numpy_random := sys.modules.get("numpy.random"):
        for kind in (numpy_random.Generator, numpy_random.RandomState, numpy_random.BitGenerator):
            kinds[kind] = "a random generator"
        seeded += [numpy_random.random.__self__, numpy_random.get_bit_generator()]
    objects = gc.get_objects()
    classes = {type(value) for value in objects}
    suspect = {each for each in classes if issubclass(each, tuple(kinds)) and not issubclass(each, random.SystemRandom)}
    return {
        f"makes {made}"
        for value in (objects if suspect else ())
        for kind, made in kinds.items()
        if type(value) in suspect and issubclass(type(value), kind) and not any(value is each for each in seeded)
    }

"""Finds what a module does on import that forked kernels must not share, such as threads, sockets or open files."""

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
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import NoReturn

PATIENCE = 1.0
"""How long threads and processes that are about to end may take, in seconds."""

_MEMORY_DEVICES = 1
"""Linux's major number of /dev/null, /dev/zero and /dev/urandom: see its devices.txt."""


class UnshareableError(BaseException):
    """Stops the import of a module; a BaseException because modules catch Exception."""


def process_state() -> dict[str, object]:
    """Return the state of the process that a module may change, by what the module does then."""
    umask = os.umask(0)
    os.umask(umask)
    signals = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return {"changes the umask": umask, "changes the working folder": os.getcwd(), "handles signals": signals}


def hazards(own_descriptors: Collection[int]) -> Iterator[str]:
    """Yield what has been done that kernels must not share; objects frozen by `gc` are not examined.

    `own_descriptors` are files that may be open besides the standard ones, because kernels do not inherit them.
    """
    gc.collect()
    if len(os.listdir("/proc/self/task")) > 1:
        # A new thread is not counted before it runs.
        time.sleep(0.01)
    deadline = time.monotonic() + PATIENCE
    while (_threads() or has_children()) and time.monotonic() < deadline:
        time.sleep(0.01)
    if _threads():
        yield "starts threads"
    if has_children():
        yield "starts processes"
    descriptors = _descriptors()
    yield from sorted({f"opens {kind}" for kind in _opened(descriptors - {0, 1, 2, *own_descriptors})})
    if {0, 1, 2} - descriptors:
        yield "closes standard input or output"
    if _shares_memory():
        yield "shares memory"
    yield from sorted(_created())


def has_children() -> bool:
    """Return whether this process has children, including those that have ended but were not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


@contextmanager
def no_temporary_files(refuse: Callable[[str], NoReturn]) -> Iterator[None]:
    """Call `refuse` when a temporary file or folder is about to be created.

    Its owner would remove it at exit: the first kernel to end would remove it for all others.
    """
    tempfile.gettempdir()  # creates a file on its first call
    # All functions of tempfile that create something get its name from here.
    original = vars(tempfile)["_get_candidate_names"]
    vars(tempfile)["_get_candidate_names"] = lambda: refuse("creates temporary files")
    try:
        yield
    finally:
        vars(tempfile)["_get_candidate_names"] = original


def _threads() -> int:
    return _thread._count()  # noqa: SLF001 - threading knows only threads that were started through it


def _descriptors() -> set[int]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        # The descriptor of this very folder is closed by now.
        with contextlib.suppress(OSError):
            os.fstat(int(name))
            found.add(int(name))
    return found


def _opened(descriptors: set[int]) -> Iterator[str]:
    """Yield the kinds of open files whose position or content all kernels would share."""
    for descriptor in descriptors:
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
    """Return whether any memory is writable and shared with forked processes."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        return any(line.split()[1][1::2] == "ws" for line in maps)


def _created() -> set[str]:
    """Return the kinds of objects in memory that each kernel needs for itself."""
    kinds: dict[type, str] = {random.Random: "a random generator", tempfile.TemporaryDirectory: "temporary files"}
    # The generators behind the functions of random and numpy.random are seeded in each kernel.
    seeded = [vars(random)["random"].__self__]
    if numpy_random := sys.modules.get("numpy.random"):
        for kind in (numpy_random.Generator, numpy_random.RandomState, numpy_random.BitGenerator):
            kinds[kind] = "a random generator"
        seeded += [numpy_random.random.__self__, numpy_random.get_bit_generator()]
    objects = gc.get_objects()
    classes = {type(value) for value in objects}
    suspect = {each for each in classes if issubclass(each, tuple(kinds)) and not issubclass(each, random.SystemRandom)}
    return {
        f"creates {created}"
        for value in (objects if suspect else ())
        for kind, created in kinds.items()
        if type(value) in suspect and issubclass(type(value), kind) and not any(value is each for each in seeded)
    }

"""How much memory a kernel uses, with all processes that it has started."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

LOOK_SECONDS = 1.0
"""The pause between two looks at a kernel without a limit."""

LOOK_SECONDS_WITH_LIMIT = 0.25
"""The same for a kernel with a limit."""

PAUSE_FACTOR = 20.0
"""The shortest pause in multiples of the duration of a look, so that looks use at most a twentieth of a CPU."""

_OOM_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


class OutOfMemoryError(Exception):
    """A kernel uses more memory than it may; the message says how much."""


class KernelMemory:
    """The memory of the processes below the guard `pid`, in bytes; `peak` is the most that a look has found.

    Memory that processes share counts once, in parts: forked kernels share what was preloaded.
    """

    def __init__(self, pid: int) -> None:
        self._guard = psutil.Process(pid)
        self.peak = 0

    def look(self) -> int:
        """Return how much memory is used now."""
        used = sum(map(_memory_of, _below(self._guard)))
        self.peak = max(self.peak, used)
        return used

    async def watch(self, limit: int | None) -> None:
        """Look again and again; with a `limit` in bytes, raise OutOfMemoryError once more is used."""
        least = LOOK_SECONDS_WITH_LIMIT if limit else LOOK_SECONDS
        while True:
            await asyncio.sleep(least)
            started = time.monotonic()
            used = await asyncio.to_thread(self.look)
            if limit and used > limit:
                raise OutOfMemoryError(f"out of memory ({in_units(used)} of {in_units(limit)})")
            await asyncio.sleep(max(0.0, PAUSE_FACTOR * (time.monotonic() - started) - least))


def _below(process: psutil.Process) -> Iterator[psutil.Process]:
    """Yield all processes that `process` has started, from Linux's own lists: psutil looks at each on the machine."""
    for child in _children(process):
        yield child
        yield from _below(child)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        lists = list(Path(f"/proc/{process.pid}/task").glob("*/children"))
        if not lists:
            return list(process.children())
        pids = [pid for each in lists for pid in each.read_text(encoding="ascii").split()]
    except (psutil.NoSuchProcess, OSError):
        return []  # it has ended
    return [child for pid in pids for child in _running(int(pid))]


def _running(pid: int) -> list[psutil.Process]:
    """Return the process with an ID, if it has not ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [psutil.Process(pid)]
    return []


def _memory_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss) if process.is_running() else 0
    except psutil.Error:
        return 0


def in_units(size: int) -> str:
    """Return a number of bytes for people: 4.2 GB. A GB has 1024 MB, as in the limits of docker."""
    value = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{_short(value)} {unit}"
        value /= 1024
    return f"{_short(value)} TB"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:.0f}"


def oom_kills() -> int:
    """Return how many processes the system has killed because memory ran out, in this container or on this machine."""
    for path in _OOM_COUNTERS:
        try:
            counts = dict(line.split() for line in path.read_text(encoding="ascii").splitlines())
            return int(counts["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return 0

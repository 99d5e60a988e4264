"""Kernels that are forked from a process which has imported already what notebooks need."""

import asyncio
import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from autoflow.kernels.preload import ON_FIRST_USE
from autoflow.kernels.stamps import Stamps
from autoflow.kernels.warm_process import LAUNCHER
from autoflow.log import logger
from autoflow.settings import PRELOAD, Settings

IDLE_SECONDS = 20.0
"""How long the server stays when there is no kernel: it holds as much memory as the daemon, and is soon ready again."""

FORK_TIMEOUT = 10.0
"""How long a fork may take, in seconds; it takes some milliseconds."""

PATIENCE = 10.0
"""How long after the start of a server kernels wait for it to be ready, in seconds."""

WARMING_SECONDS = 60.0
"""How long the server may take to import what it is to import; it takes one or two seconds."""

RETRY_SECONDS = 60.0
"""How long it takes until a server is started again that ended before it was ready."""

MAX_FAILURES = 3
"""How many times in a row it may do so."""

CHECK_SECONDS = 1.0
"""How often it is looked whether what the server has imported has changed."""

_ROOT = Path(__file__).resolve().parents[2]

# What looks for packages must not see AutoFlow's, nor this folder, as it would not in an ordinary kernel.
_PROGRAM = """
import socket, sys
path = [folder for folder in sys.path if folder]
sys.path.insert(0, {root!r})
from autoflow.kernels.warm_process import main
sys.path[:] = path
main(socket.socket(fileno={descriptor}), {modules!r}, {idle_seconds!r}, {warming_seconds!r})
"""

_READ_AT_START = re.compile(
    r"PYTHON|LC_|LANG|TZ|HOME$|XDG_|IPYTHON|JUPYTER|PYDEVD|DEBUGPY|MPL|MATPLOTLIB|LD_|MALLOC|GLIBC|OMP_|KMP_|MKL_"
    r"|OPENBLAS|GOTO|BLIS|VECLIB|NUMEXPR|NUMPY|NPY_|ARROW|PROJ_|GDAL_"
)
"""How the names of variables begin that are looked at as Python starts or as packages are imported."""

_READ_AT_IMPORT = {"matplotlibrc": "matplotlib"}
"""Files in the working folder, and the packages that read them as they are imported."""


@dataclass(frozen=True)
class _Warmth:
    """What the server has told once it was ready; see `preload`."""

    missing: list[str]
    names: frozenset[str]
    stamps: Stamps
    changed: str | None
    left_out: tuple[str | None, str] | None

    @classmethod
    def parse(cls, message: bytes) -> Self:
        told = json.loads(message)
        return cls(**told | {"names": frozenset(told["names"]), "stamps": Stamps.parse(told["stamps"])})

    def is_of_preloaded(self, variable: str) -> bool:
        """Whether an environment variable is, by its name, one of a package that has been imported."""
        return any(variable.upper().startswith(f"{name.upper()}_") for name in self.names)

    def unsuited_to(self, folder: Path) -> str | None:
        """Return why a notebook in `folder` would not have imported the same, if something there has it so."""
        for entry in os.listdir(folder):
            name = entry.partition(".")[0]
            if name in self.names and (entry.endswith((".py", ".so", ".pyc")) or _is_package(folder / entry)):
                return f"{folder / entry} has the name of a module that packages look for as they are imported"
            if entry in _READ_AT_IMPORT and _READ_AT_IMPORT[entry] in self.names and (folder / entry).is_file():
                return f"{folder / entry} is read as {_READ_AT_IMPORT[entry]} is imported"
        return None


class ForkedProcess:
    """The guard of a forked kernel, with as much of ``subprocess.Popen`` as is made use of.

    To close `stdin` is to have the kernel killed.
    """

    def __init__(self, pid: int, stdin: IO[bytes], channel: socket.socket) -> None:
        """Take over the guard with the process id `pid`, which tells through `channel` how it ended."""
        self.pid = pid
        self.stdin = stdin
        self.returncode: int | None = None
        self._channel = channel
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return the exit status, negative for the number of a signal; None as long as it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait up to `timeout` seconds for the end and return the exit status; TimeoutExpired if it still runs."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(LAUNCHER, timeout or 0)
            self._channel.setblocking(True)
            word = self._channel.recv(16)
            # A guard that could not tell was killed.
            self.returncode = int(word) if word else -signal.SIGKILL
            self._channel.close()
            os.close(self._descriptor)
        return self.returncode

    def kill(self) -> None:
        """Kill the guard, and the kernel with it."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)


class ForkServer:
    """Forks kernels for any number of threads.

    The process that is forked is started by the first call, and again when it has ended, or when what it has imported
    has changed on disk. Meanwhile, and where a fork would not do what an ordinary start does, there is none; the
    reason is logged, once.
    """

    def __init__(
        self,
        preload: Sequence[str] = PRELOAD,
        *,
        idle_seconds: float = IDLE_SECONDS,
        stderr: int | None = subprocess.DEVNULL,
    ) -> None:
        """Prepare a server that imports `preload` and ends when nothing was wanted of it for `idle_seconds`.

        What it says goes to `stderr`, as of `subprocess.Popen`: None is our own.
        """
        self._preload = tuple(preload)
        self._idle_seconds = idle_seconds
        self._stderr = stderr
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._environment: dict[str, str] = {}
        self._warmth: _Warmth | None = None
        self._left_out: set[str] = set()
        self._failures = 0
        self._not_before = 0.0
        self._started_at = 0.0
        self._check_at = 0.0
        self._is_closed = sys.platform != "linux"
        self._told: set[str] = set()
        if self._is_closed:
            self._tell("it is for Linux only")

    def __enter__(self) -> Self:
        """Return itself; at the end of the block the server ends, kernels do not."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the server."""
        self.close()

    @property
    def pid(self) -> int | None:
        """The process that is forked, if there is one."""
        process = self._process
        return process.pid if process else None

    def warm_up(self, environment: Mapping[str, str]) -> None:
        """Start the process, for kernels with `environment`, unless it runs; does not wait until it is ready."""
        with self._lock:
            self._look(environment)

    def wait_until_warm(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until kernels can be forked; tell whether they can."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            with self._lock:
                requests = None if self._warmth else self._requests
            if requests is None:
                break
            # The process may be waited for without the lock: kernels are started the ordinary way meanwhile.
            select.select([requests], [], [], min(left, 0.5))
            with self._lock:
                self._listen()
        return self._warmth is not None

    async def fork(
        self, arguments: Sequence[str], *, environment: Mapping[str, str], cwd: Path, folder: Path, mouth: int
    ) -> ForkedProcess | None:
        """Fork a kernel with the `arguments` of ``ipykernel_launcher``; None where it has to be started otherwise.

        Its guard removes `folder` at the end; what is said outside of cells goes into the file descriptor `mouth`.
        """
        await self._wait_if_warming(environment)
        ours, theirs = socket.socketpair()
        control, end = os.pipe()
        stdin = os.fdopen(end, "wb", buffering=0)
        process = None
        try:
            requests = self._send(environment, cwd, (control, mouth, theirs.fileno()))
            if requests is None:
                return None
            theirs.close()
            wanted = {"folder": str(folder), "arguments": [*arguments], "environment": {**environment}, "cwd": str(cwd)}
            ours.setblocking(False)
            try:
                pid = await _ask(ours, wanted)
            except TimeoutError:
                self._replace(requests)
                return None
            if pid:
                process = ForkedProcess(int(pid), stdin, ours)
        finally:
            os.close(control)
            theirs.close()
            if process is None:
                stdin.close()
                ours.close()
        return process

    async def _wait_if_warming(self, environment: Mapping[str, str]) -> None:
        """Wait until the process is ready, or known to be of no use: but for trivial notebooks, it is worth it.

        What an ordinary kernel imported meanwhile would keep the process, and those of other runs, from the cores.
        """
        while True:
            with self._lock:
                self._look(environment)
                if self._warmth or not self._process or time.monotonic() > self._started_at + PATIENCE:
                    return
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """End the process, for good."""
        with self._lock:
            self._is_closed = True
            self._end()

    def _replace(self, requests: socket.socket) -> None:
        """End the process that is asked through `requests` and has not answered; the next fork will start another."""
        self._tell(
            f"a kernel was not forked within {FORK_TIMEOUT:g} s: it is started the ordinary, slower way", prefix=""
        )
        with self._lock:
            if self._requests is requests:
                self._end()

    def _send(self, environment: Mapping[str, str], cwd: Path, descriptors: Sequence[int]) -> socket.socket | None:
        """Ask for a fork, if that is the right way to start a kernel; return through what, or None if it is not."""
        with self._lock:
            self._look(environment)
            if not (self._warmth and self._requests and self._suits(self._warmth, environment, cwd)):
                return None
            try:
                socket.send_fds(self._requests, [b"k"], descriptors)
            except OSError:
                return None
            return self._requests

    def _suits(self, warmth: _Warmth, environment: Mapping[str, str], cwd: Path) -> bool:
        names = {*environment, *self._environment}
        changed = sorted(name for name in names if environment.get(name) != self._environment.get(name))
        if decisive := [name for name in changed if _READ_AT_START.match(name) or warmth.is_of_preloaded(name)]:
            self._tell(f"{', '.join(decisive)} would have to be the same for all kernels")
            return False
        if not all(path.startswith("/") for path in (environment.get("PYTHONPATH") or "/").split(":")):
            self._tell("PYTHONPATH is not absolute")
            return False
        reason: str | None
        try:
            reason = warmth.unsuited_to(cwd)
        except OSError as error:
            reason = f"{cwd} cannot be searched for modules: {error.strerror}"
        if reason:
            self._tell(reason)
        return not reason

    def _look(self, environment: Mapping[str, str]) -> None:
        """See whether the process is there and of use, and start one if not."""
        if self._is_closed:
            return
        self._listen()
        now = time.monotonic()
        if self._warmth and now >= self._check_at:
            self._check_at = now + CHECK_SECONDS
            if self._warmth.stamps.are_outdated:
                self._end()
                # What could not be imported for something else may be able to now.
                self._left_out.clear()
        if self._process and _has_ended(self._process.pid):
            self._end()
        if self._process is None and not self._is_closed and now >= self._not_before:
            self._start(environment)

    def _start(self, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = _PROGRAM.format(
            root=str(_ROOT),
            descriptor=theirs.fileno(),
            modules=[name for name in (*self._preload, *ON_FIRST_USE) if name not in self._left_out],
            idle_seconds=self._idle_seconds,
            warming_seconds=WARMING_SECONDS,
        )
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", program],
                    env=environment,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                ours.close()
                self._tell(f"no process can be started: {error.strerror}")
                return
        ours.setblocking(False)
        self._started_at = time.monotonic()
        self._requests = ours
        self._environment = dict(environment)

    def _listen(self) -> None:
        """Take note that the process is ready, or of no use."""
        if self._warmth or not self._requests:
            return
        try:
            _, descriptors, _, _ = socket.recv_fds(self._requests, 1, 1)
        except BlockingIOError:
            return
        except OSError:
            descriptors = []
        if descriptors:
            with open(descriptors[0], "rb") as file:
                self._take(_Warmth.parse(file.read()))
        else:
            self._give_up_on("the process that imports packages ahead of time ended before it had done so")

    def _take(self, warmth: _Warmth) -> None:
        """Have kernels forked from the process, or start one that imports less if it must not have imported it all."""
        for name in warmth.missing:
            if name in self._preload and self._preload != PRELOAD:
                self._tell(f"AUTOFLOW_PRELOAD: there is no module '{name}'", prefix="")
        if warmth.changed:
            self._give_up_on(f"{warmth.changed} changed while packages were imported ahead of time")
        elif warmth.left_out:
            module, does = warmth.left_out
            self._end()
            if module:
                self._tell(f"{module} is not imported ahead of time, for it {does} as it is imported", prefix="")
                self._left_out.add(module)
                self._start(self._environment)
            else:
                self._is_closed = True
                self._tell(f"Python {does} as it starts")
        else:
            self._warmth = warmth
            self._failures = 0
            self._check_at = time.monotonic() + CHECK_SECONDS

    def _give_up_on(self, reason: str) -> None:
        """End a process that came to nothing; another is tried later, unless this is how it always ends."""
        process = self._process
        self._end()
        self._failures += 1
        self._not_before = time.monotonic() + RETRY_SECONDS
        if process and process.returncode == -signal.SIGALRM:
            reason = f"to import {', '.join(self._preload)} takes more than {WARMING_SECONDS:g} s"
            self._is_closed = True
        elif self._failures >= MAX_FAILURES:
            reason += f", {MAX_FAILURES} times in a row"
            self._is_closed = True
        self._tell(reason)

    def _end(self) -> None:
        if self._requests:
            self._requests.close()
        if self._process:
            # With all that it has started; guards are in sessions of their own. The number is no other's before `wait`.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._requests = self._process = self._warmth = None

    def _tell(self, reason: str, *, prefix: str = "kernels are started the ordinary, slower way: ") -> None:
        if reason not in self._told:
            self._told.add(reason)
            logger.warning("%s%s", prefix, reason)


@contextmanager
def warm_fork_server(settings: Settings) -> Iterator[ForkServer | None]:
    """Yield a server that is being warmed up for the first runs; None if forked kernels are turned off."""
    if not settings.forked_kernels:
        yield None
        return
    with ForkServer(settings.preload) as server:
        server.warm_up(settings.kernel_environ)
        yield server


async def _ask(channel: socket.socket, wanted: Mapping[str, Any]) -> bytes:
    """Say to a guard what kernel is wanted; return its process id, or nothing if there is none.

    A guard that comes after a TimeoutError, which is raised after `FORK_TIMEOUT`, is told nothing and ends.
    """
    loop = asyncio.get_running_loop()
    try:
        pid = await asyncio.wait_for(loop.sock_recv(channel, 16), FORK_TIMEOUT)
        await loop.sock_sendall(channel, json.dumps(wanted).encode() + b"\n")
    except ConnectionError:
        return b""
    return pid


def _has_ended(child: int) -> bool:
    """Tell whether the process `child` has ended, which keeps its number until it is waited for."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _is_package(folder: Path) -> bool:
    return any(folder.glob("__init__.*"))

"""Forks kernels from a process that has preloaded what notebooks import, so that they start fast.

`ForkServer` starts that process (see `warm_process`), starts it again when it has ended or is outdated, and sends it a
request for each kernel. If a forked kernel would differ from an ordinary one, none is forked, and the reason is logged.
"""

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Self

from autoflow.kernels.preload import ON_FIRST_USE
from autoflow.kernels.warm_process import LAUNCHER, OUTDATED
from autoflow.settings import PRELOAD, Settings
from autoflow.system.log import logger

IDLE_SECONDS = 20.0
"""How long the process stays without a kernel: it holds as much memory as the daemon, and restarts quickly."""

FORK_TIMEOUT = 10.0
"""How long a kernel waits for its fork, in seconds: a process that is warm needs milliseconds, a new one 1 or 2 s."""

WARM_UP_TIMEOUT = 60.0
"""How long preloading may take, in seconds."""

RETRY_SECONDS = 60.0
"""How long to wait after a process that ended before it was ready, in seconds."""

LAST_WAIT = 1.0
"""How long to wait for the end of a process that has no kernels any more, in seconds."""

MAX_FAILURES = 3
"""How many processes in a row may end before they are ready."""

CHECK_SECONDS = 1.0
"""How often to check whether preloaded files have changed, in seconds."""

# Neither AutoFlow's folder nor the working folder may be on sys.path, as they would not be in an ordinary kernel.
_PROGRAM = """
import socket, sys
path = [folder for folder in sys.path if folder]
sys.path.insert(0, {root!r})
from autoflow.kernels.warm_process import main
sys.path[:] = path
main(socket.socket(fileno={reports}), socket.socket(fileno={requests}), {modules!r}, **{durations!r})
"""


class ForkedProcess:
    """The guard of a forked kernel, with the methods of ``subprocess.Popen`` that are needed."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        """Take over the guard `pid`, which sends its exit status through `channel`."""
        self.pid = pid
        self.returncode: int | None = None
        self._channel = channel
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return the exit status, negative for the number of a signal, or None if the guard runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status; raise TimeoutExpired after `timeout` seconds."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(LAUNCHER, timeout or 0)
            self._channel.setblocking(True)
            # A guard that sent nothing was killed.
            self.returncode = int(self._channel.recv(16) or -signal.SIGKILL)
            self._channel.close()
            os.close(self._descriptor)
        return self.returncode

    def end(self) -> None:
        """Let the guard kill the kernel and end; may be called from any thread."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)

    def send_signal(self, signum: int) -> None:
        """Send a signal to the guard if it runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, signum)

    def kill(self) -> None:
        """Kill the guard, and the kernel with it."""
        self.send_signal(signal.SIGKILL)


class _WarmProcess:
    """A process that preloads `modules` with `environment` and then forks kernels; its `reports` are messages."""

    def __init__(
        self, modules: Sequence[str], environment: Mapping[str, str], *, idle_seconds: float, stderr: int | None
    ) -> None:
        self.environment = dict(environment)
        self.is_warm = False
        self.started_at = time.monotonic()
        self.reports, reports = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requests, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.reports.setblocking(False)
        self._requests.setblocking(False)
        program = _PROGRAM.format(
            root=str(Path(__file__).resolve().parents[2]),
            reports=reports.fileno(),
            requests=requests.fileno(),
            modules=modules,
            durations={"warm_up": WARM_UP_TIMEOUT, "check": CHECK_SECONDS, "idle": idle_seconds},
        )
        with reports, requests:
            self._process = subprocess.Popen(
                [sys.executable, "-c", program],
                env=environment,
                cwd="/",
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=stderr,
                pass_fds=[reports.fileno(), requests.fileno()],
                start_new_session=True,
            )
        self.pid = self._process.pid

    async def ask(self, request: Mapping[str, Any], output: int) -> ForkedProcess | str:
        """Request a kernel; return its guard, or the reason why there is none.

        An OSError means that the process has ended. A guard that is forked too late, when this is no longer awaited,
        ends by itself.
        """
        loop = asyncio.get_running_loop()
        channel, theirs = socket.socketpair()
        answer: ForkedProcess | str = ""
        try:
            with theirs:
                socket.send_fds(self._requests, [b"k"], [theirs.fileno()])
            channel.setblocking(False)
            await loop.sock_sendall(channel, json.dumps(request).encode() + b"\n")
            answer = (await loop.sock_recv(channel, 65536)).decode()
            if answer.isdigit():
                # Sent only now: a request that has been given up must not keep the output open.
                socket.send_fds(channel, [b"o"], [output])
                answer = ForkedProcess(int(answer), channel)
        finally:
            if not isinstance(answer, ForkedProcess):
                channel.close()
        return answer

    def retire(self) -> None:
        """Request no more kernels; the process ends after its last one."""
        self.reports.close()
        self._requests.close()

    def has_ended(self, timeout: float = 0.0) -> bool:
        """Wait up to `timeout` seconds for the end of the process; return whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self._process.returncode is not None

    def end(self) -> int:
        """Kill the process with all that it has started, except kernels, and return its exit status."""
        self.retire()
        if self._process.returncode is not None:
            return self._process.returncode
        # The process id belongs to no other process before `wait`; guards have sessions of their own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()


class ForkServer:
    """Forks kernels for any number of threads.

    Of the kernels that were started with it, `forked` were forked, and `not_forked` started the ordinary way.
    """

    def __init__(
        self,
        preload: Sequence[str] = PRELOAD,
        *,
        idle_seconds: float = IDLE_SECONDS,
        stderr: int | None = DEVNULL,
        is_first_prompt: bool = False,
    ) -> None:
        """Prepare a process that preloads `preload` and ends after `idle_seconds` without requests and kernels.

        Its errors go to `stderr`, as in `subprocess.Popen`. With `is_first_prompt`, the first kernel does not wait for
        the process to be warm: it starts the ordinary way.
        """
        self.forked = self.not_forked = 0
        self._preload = tuple(preload)
        self._idle_seconds = idle_seconds
        self._stderr = stderr
        self._is_next_prompt = is_first_prompt
        self._lock = threading.Lock()
        self._process: _WarmProcess | None = None
        self._retired: list[_WarmProcess] = []
        self._left_out: set[str] = set()
        self._private = {"FLOWAPI_TOKEN"}
        self._failures = 0
        self._not_before = 0.0
        self._logged: set[str] = set()
        self._is_closed = sys.platform != "linux"
        if self._is_closed:
            self._log("forks need Linux")

    def __enter__(self) -> Self:
        """Return itself; the process ends at the end of the block, kernels do not."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, and fork no more kernels."""
        with self._lock:
            self._is_closed = True
            if self._process:
                self._retire(self._process)
            deadline = time.monotonic() + LAST_WAIT
            for process in self._retired:
                if not process.has_ended(max(0.0, deadline - time.monotonic())):
                    process.end()

    @property
    def pid(self) -> int | None:
        """The id of the process, if there is one."""
        process = self._process
        return process.pid if process else None

    def keep_private(self, names: Iterable[str]) -> None:
        """Keep variables that only some kernels get from now on out of the process, from which others are forked."""
        with self._lock:
            self._private.update(names)
            process = self._process
            if process and not process.environment.keys().isdisjoint(names):
                self._retire(process)

    @property
    def is_usable(self) -> bool:
        """Whether kernels are forked, as far as is known; after some failures, it tries again later."""
        return not self._is_closed and not self._failures

    def count_start(self, *, is_forked: bool) -> None:
        """Count a kernel that starts."""
        with self._lock:
            self.forked += is_forked
            self.not_forked += not is_forked

    def warm_up(self, environment: Mapping[str, str]) -> None:
        """Start the process for kernels with `environment` if it does not run; return before it is ready."""
        self._process_for(environment)

    def wait_until_warm(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until kernels can be forked; return whether they can."""
        deadline = time.monotonic() + timeout
        while (process := self._process) and not process.is_warm and (left := deadline - time.monotonic()) > 0:
            # Other threads can start kernels meanwhile.
            select.select([process.reports], [], [], min(left, 0.5))
            with self._lock:
                self._read_reports()
        return bool(process and process.is_warm)

    async def fork(
        self, arguments: Sequence[str], *, environment: Mapping[str, str], cwd: Path, folder: Path, output: int
    ) -> ForkedProcess | None:
        """Fork a kernel with the `arguments` of ``ipykernel_launcher``; return None if it must start the ordinary way.

        Its guard removes `folder` at the end; the file descriptor `output` takes what is printed outside of cells.
        While the process is warming up, the request waits for it: an ordinary kernel would take CPU time from it.
        """
        if self._is_prompt():
            return None
        variables = {**environment, "JPY_PARENT_PID": str(os.getpid())}
        request = {"folder": str(folder), "arguments": [*arguments], "environment": variables, "cwd": str(cwd)}
        deadline = time.monotonic() + FORK_TIMEOUT
        asked = None
        while (process := self._process_for(environment)) and process is not asked:
            asked, was_warm = process, process.is_warm
            if not was_warm:
                deadline = min(deadline, process.started_at + FORK_TIMEOUT)
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    answer = await process.ask(request, output)
            except TimeoutError:
                if was_warm:
                    self._log(f"a fork took longer than {FORK_TIMEOUT:g} s")
                    with self._lock:
                        self._end(process)
                return None
            except OSError:
                continue
            if isinstance(answer, ForkedProcess):
                return answer
            if answer:
                self._log(answer)
                return None
        return None

    def _is_prompt(self) -> bool:
        """Return whether a kernel starts the ordinary way because it is the first one, which does not wait."""
        with self._lock:
            self._read_reports()
            is_prompt, self._is_next_prompt = self._is_next_prompt, False
            return is_prompt and not (self._process and self._process.is_warm)

    def _process_for(self, environment: Mapping[str, str]) -> _WarmProcess | None:
        """Return the process, started if necessary, if kernels with `environment` can be forked from it."""
        with self._lock:
            self._read_reports()
            if self._process is None and not self._is_closed and time.monotonic() >= self._not_before:
                self._start(environment)
            process = self._process
        if not process:
            return None
        # The token is renewed while the daemon runs; nothing reads it, or another secret, on import.
        names = (environment.keys() | process.environment.keys()) - self._private
        if changed := sorted(name for name in names if environment.get(name) != process.environment.get(name)):
            self._log(f"packages were preloaded with another environment ({', '.join(changed)})")
            return None
        if not all(path.startswith("/") for path in (environment.get("PYTHONPATH") or "/").split(":")):
            self._log("PYTHONPATH has relative folders")
            return None
        return process

    def _start(self, environment: Mapping[str, str]) -> None:
        # A kernel imports psutil when it is asked for its resource usage.
        modules = [name for name in ("psutil", *self._preload, *ON_FIRST_USE) if name not in self._left_out]
        kept = {name: value for name, value in environment.items() if name not in self._private - {"FLOWAPI_TOKEN"}}
        try:
            self._process = _WarmProcess(modules, kept, idle_seconds=self._idle_seconds, stderr=self._stderr)
        except OSError as error:
            self._log(f"cannot start a process: {error.strerror}")

    def _read_reports(self) -> None:
        self._retired = [each for each in self._retired if not each.has_ended()]
        process = self._process
        if process is None:
            return
        try:
            report = process.reports.recv(65536)
        except BlockingIOError:
            return
        if report == OUTDATED:
            self._retire(process)
            # A module that failed without another may work now.
            self._left_out.clear()
        elif report:
            self._take(process, **json.loads(report))
        elif process.is_warm:
            self._end(process)
        else:
            self._fail(process, "the process that preloads packages ended before it was ready")

    def _take(
        self, process: _WarmProcess, *, missing: list[str], changed: str | None, left_out: tuple[str | None, str] | None
    ) -> None:
        """Take the result of preloading: use `process`, or start one that preloads less."""
        for name in missing:
            if name in self._preload and self._preload != PRELOAD:
                self._log(f"AUTOFLOW_PRELOAD: there is no module '{name}'", prefix="")
        module, does = left_out or (None, None)
        if changed:
            self._fail(process, f"{changed} changed during preloading")
        elif module:
            self._log(f"not preloading {module}: it {does} on import", prefix="")
            self._left_out.add(module)
            self._end(process)
            self._start(process.environment)
        elif does:
            self._fail(process, f"Python {does} on startup", is_final=True)
        else:
            process.is_warm = True
            self._failures = 0

    def _fail(self, process: _WarmProcess, reason: str, *, is_final: bool = False) -> None:
        """End a process that cannot be used; try again later, unless that would not help."""
        self._failures += 1
        self._not_before = time.monotonic() + RETRY_SECONDS
        if self._end(process) == -signal.SIGALRM:
            reason, is_final = f"preloading {', '.join(self._preload)} takes more than {WARM_UP_TIMEOUT:g} s", True
        elif self._failures >= MAX_FAILURES:
            reason, is_final = f"{reason}, {MAX_FAILURES} times in a row", True
        self._is_closed |= is_final
        self._log(reason)

    def _retire(self, process: _WarmProcess) -> None:
        """Fork no more kernels from `process`, which guards those that are running."""
        self._process = None
        process.retire()
        self._retired.append(process)

    def _end(self, process: _WarmProcess) -> int | None:
        """End `process`, unless another thread has ended it; return its exit status."""
        if process is not self._process:
            return None
        self._process = None
        return process.end()

    def _log(self, reason: str, *, prefix: str = "kernels start the ordinary, slower way: ") -> None:
        """Log a warning, but each only once."""
        if reason not in self._logged:
            self._logged.add(reason)
            logger.warning("%s%s", prefix, reason)


@contextmanager
def warm_fork_server(settings: Settings, *, kernels: int | None = None) -> Iterator[ForkServer | None]:
    """Yield a server that is warming up for the first runs; None if forked kernels are turned off.

    If only so many `kernels` are wanted, the first one does not wait, and there is no server for a single one.
    """
    if not settings.forked_kernels or kernels == 1:
        yield None
        return
    with ForkServer(settings.preload, is_first_prompt=kernels is not None) as server:
        server.warm_up(settings.kernel_environ)
        yield server

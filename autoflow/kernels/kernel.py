"""Starts kernels, connects to them, and makes sure that they end with all that they have started.

Each kernel runs below a guard (see `guard`) and is forked by a `ForkServer` where that is possible.
"""

import asyncio
import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from autoflow.errors import AutoflowError
from autoflow.kernels.connection import LARGEST_FRAME, KernelConnection, set_bounds
from autoflow.kernels.fork_server import ForkedProcess, ForkServer
from autoflow.kernels.guard import DEADLINE, DEADLINE_SECONDS, now
from autoflow.kernels.memory import KernelMemory, OutOfMemoryError, oom_kills
from autoflow.kernels.warm_process import HISTORY_IN_MEMORY, LAUNCHER
from autoflow.system.log import logger
from autoflow.utils import owned_folder, remove_abandoned_folders

PYTHON_KERNEL = "python3"
"""The kernel of the Python that AutoFlow itself runs in; ipykernel brings it."""

SHUTDOWN_GRACE = 2.5
"""How long a kernel whose cells have run may take to shut down, including `atexit` functions, in seconds."""

KILL_TIMEOUT = 5.0
"""How long the guard may take to kill a kernel and all that it has started, in seconds."""

LATE = 1.0
"""How long after its deadline the guard kills a kernel, in seconds: first, AutoFlow tries to."""

_GUARD = Path(__file__).with_name("guard.py")

_LONGEST_TEMPORARY_FOLDER = 60
"""In characters; the path of a socket is limited to about 100."""

_FOLDER = "autoflow-kernel-"
"""The prefix of the folders for the sockets of kernels."""

_LONGEST_OUTPUT = 4096
"""How much of a kernel's output outside of cells is kept, in bytes."""


class KernelStartError(AutoflowError):
    """A kernel ended before it was ready, or was not ready in time."""


class ForkProvisioner(LocalProvisioner):
    """Forks a kernel if a `ForkServer` can, and starts it the ordinary way otherwise."""

    process: "subprocess.Popen[bytes] | ForkedProcess | None"  # type: ignore[assignment]

    def __init__(self, kernel: "Kernel", server: ForkServer) -> None:
        """Provide the process of `kernel`, forked by `server`."""
        super().__init__(kernel_id=kernel.kernel_id, kernel_spec=kernel.kernel_spec, parent=kernel)
        self._kernel = kernel
        self._server = server

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel."""
        python = [sys.executable, "-m", LAUNCHER]
        command = self._kernel.command
        if command[:3] == python:
            self.process = await self._server.fork(
                command[3:],
                environment=kwargs["env"],
                cwd=Path(kwargs["cwd"]),
                folder=self._kernel.folder,
                output=kwargs["stdout"],
            )
        self._server.count_start(is_forked=self.process is not None)
        if self.process is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = self.process.pid
        self.cwd = kwargs["cwd"]
        return self.connection_info


class Kernel(AsyncKernelManager):
    """A kernel with a guard: it ends, with all that it has started, on request and when AutoFlow dies.

    Its sockets are files in a private folder: with TCP, two kernels that start at once can take the same port
    (papermill#511), and other users of the machine could connect. It belongs to one event loop; only `kill_group`
    may be called from any thread. `ended` is set once nothing is left of a kernel that was started. `out_of_memory` is
    how much memory it used if it was killed for that.
    """

    def __init__(self, name: str, folder: Path, server: ForkServer | None = None) -> None:
        """Prepare the kernel called `name` with sockets in `folder`; `server` forks it if it can."""
        super().__init__(
            kernel_name=name,
            transport="ipc",
            ip=str(folder / "socket"),
            connection_file=str(folder / "connection.json"),
            cache_ports=False,
            client_factory=KernelConnection,
        )
        set_bounds(self.context, can_wait=bool(self.kernel_spec and LAUNCHER in self.kernel_spec.argv))
        self.folder = folder
        self._server = server
        self._killed = False
        self.ended = asyncio.Event()
        self._output: int | None = None
        self._last_output = b""
        self._connection: KernelConnection | None = None
        self._watches: Sequence[asyncio.Task[None]] = ()
        self._memory: KernelMemory | None = None
        self.out_of_memory = ""
        self._reason_to_kill = ""
        self._oom_kills_before = oom_kills()

    async def connect(
        self, environment: Mapping[str, str], cwd: Path, *, start_timeout: float, memory: int | None = None
    ) -> KernelConnection:
        """Start the kernel in the folder `cwd`, with `environment`; return once it can run code.

        Once the kernel and all that it has started use more than `memory` bytes, it is killed.

        Raises
        ------
        KernelStartError
            If it ends before it is ready, or is not ready within `start_timeout` seconds.
        OSError
            If no process can be started.

        """
        await self.start_kernel(env=dict(environment), cwd=str(cwd))
        self._connection = connection = cast("KernelConnection", self.client(context=self.context))
        ready = asyncio.ensure_future(connection.wait_until_ready())
        ended = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait({ready, ended}, timeout=start_timeout, return_when=asyncio.FIRST_COMPLETED)
            if self._killed:
                # It may have been ready before its guard could kill it.
                await asyncio.wait({ended}, timeout=start_timeout)
            if ended.done():
                raise KernelStartError(f"the kernel did not start: {self.death()}{self._last_line()}")
            if not ready.done():
                raise KernelStartError(f"the kernel did not start within {start_timeout:g} s{self._last_line()}")
            await ready
        finally:
            ready.cancel()
            ended.cancel()
        assert self._process  # noqa: S101 - it was started
        self._memory = KernelMemory(self._process.pid)
        watches = (self._kill_if_closed(connection), self._kill_if_too_large(self._memory, memory))
        self._watches = [asyncio.create_task(watch) for watch in watches]
        return connection

    async def keep(self, seconds_left: Callable[[], float]) -> None:
        """Have the guard kill the kernel soon after `seconds_left`, which can grow, is over; keep it until cancelled.

        So it ends even if this process is stopped.
        """
        deadline = self.folder / DEADLINE
        while math.isfinite(seconds := seconds_left()):
            try:
                _overwrite(deadline, f"{now() + seconds + LATE:020.3f}")
            except OSError:
                # One that cannot be moved on would end a kernel whose run goes on.
                deadline.unlink(missing_ok=True)
            await asyncio.sleep(DEADLINE_SECONDS)

    @property
    def peak_memory(self) -> int | None:
        """The most memory that the kernel and all that it has started have used, in bytes; None before a first look."""
        return self._memory.peak or None if self._memory else None

    async def _kill_if_too_large(self, memory: KernelMemory, limit: int | None) -> None:
        try:
            await memory.watch(limit)
        except OutOfMemoryError as error:
            self.out_of_memory = self._reason_to_kill = str(error)
            self.kill_group()

    async def _kill_if_closed(self, connection: KernelConnection) -> None:
        """Kill the kernel if it sends so much at once that the connection is closed, as no reply could arrive."""
        await connection.closed_for_good()
        if not self.ended.is_set():
            self._reason_to_kill = f"it sent an output of more than {LARGEST_FRAME / 1e6:g} MB"
            self.kill_group()

    async def start_kernel(self, **kwargs: Any) -> None:  # type: ignore[override]
        """Start the kernel with its guard, and read its output outside of cells."""
        if self._server and self.kernel_spec and "kernel_provisioner" not in self.kernel_spec.metadata:
            self.kernel_id = str(uuid.uuid4())
            self.provisioner = ForkProvisioner(self, self._server)
        self._output, write_end = os.pipe()
        asyncio.get_running_loop().add_reader(self._output, self._read_output)
        try:
            await super().start_kernel(stdin=subprocess.PIPE, stdout=write_end, stderr=write_end, **kwargs)
        finally:
            os.close(write_end)
        if self._killed:
            self.kill_group()

    def _reconcile_connection_info(self, info: KernelConnectionInfo) -> None:
        """Check the connection file, unless the kernel has ended already and its guard has removed the folder."""
        with contextlib.suppress(FileNotFoundError):
            super()._reconcile_connection_info(info)

    @property
    def command(self) -> list[str]:
        """The command that starts the kernel, without its guard."""
        command = super().format_kernel_cmd()
        return [*command, HISTORY_IN_MEMORY] if LAUNCHER in command else command

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command that starts the guard of the kernel."""
        del extra_arguments
        return [sys.executable, "-I", "-S", str(_GUARD), str(self.folder), *self.command]

    async def end(self, *, grace: float = 0) -> None:
        """Shut the kernel down within `grace` seconds, then kill it and all that it has started."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        if self._memory and not self.ended.is_set():
            self._memory.look()
        if self._connection:
            # The kernel does not wait for outputs to be received any more.
            self._connection.iopub_channel.stop()
        if grace and self.has_kernel and not self.ended.is_set():
            await self.request_shutdown()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), grace)
        self.kill_group()
        if self._output is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), KILL_TIMEOUT)
            self._stop_reading()
        if self._connection:
            self._connection.close()
        await self.cleanup_resources()

    def kill_group(self) -> None:
        """Kill the kernel and all that it has started; a kernel that is about to start is killed as well."""
        self._killed = True
        process = self._process
        with contextlib.suppress(OSError):
            if isinstance(process, ForkedProcess):
                process.end()
            elif process and process.stdin:
                process.stdin.close()
            if process:
                # A notebook may have stopped its guard.
                process.send_signal(signal.SIGCONT)

    def death(self) -> str:
        """Return how the kernel ended, as part of a message."""
        if self._reason_to_kill:
            return self._reason_to_kill
        if self.ended.is_set():
            self.wait_until_gone()
        status = self._process.poll() if self._process else None
        if status is None:
            return "it does not answer"
        number = -status if status < 0 else status - 128
        with contextlib.suppress(ValueError):
            name = signal.Signals(number).name
            if name == "SIGKILL" and oom_kills() > self._oom_kills_before:
                return "killed by the system, because its memory ran out (OOM killer)"
            return f"killed by {name}{', possibly out of memory' if name == 'SIGKILL' else ''}"
        return f"it ended with exit status {status}"

    def wait_until_gone(self) -> None:
        """Wait until a kernel that was killed has ended; kill its guard if that takes too long."""
        if process := self._process:
            try:
                process.wait(KILL_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def _process(self) -> "subprocess.Popen[bytes] | ForkedProcess | None":
        return getattr(self.provisioner, "process", None)

    def _read_output(self) -> None:
        text = os.read(cast("int", self._output), 65536)
        self._last_output += text
        if len(self._last_output) > _LONGEST_OUTPUT:
            # Without a word that is cut: a part of a secret would not be recognised as one.
            self._last_output = b"".join(self._last_output[-_LONGEST_OUTPUT:].split(maxsplit=1)[1:])
        if not text:
            # The guard keeps the other end open until it has killed everything.
            self._stop_reading()
            self.ended.set()

    def _stop_reading(self) -> None:
        if self._output is not None:
            asyncio.get_running_loop().remove_reader(self._output)
            os.close(self._output)
            self._output = None
            if text := self._last_output.decode(errors="replace").strip():
                logger.debug("kernel output outside of cells: %s", text)

    def _last_line(self) -> str:
        """Return the last line of the output outside of cells, as the end of a message."""
        lines = self._last_output.decode(errors="replace").split("\n")
        return next((f" ({line.strip()})" for line in reversed(lines) if line.strip()), "")


@contextmanager
def new_kernel(name: str, server: ForkServer | None = None) -> Iterator[Kernel]:
    """Yield a kernel that is not started yet; nothing is left of it at the end of the block.

    `name` is the name of an installed kernelspec. `server` forks the kernel if it can.
    """
    with owned_folder(_FOLDER, _place_of_folders()) as folder:
        kernel = Kernel(name, folder, server)
        try:
            yield kernel
        finally:
            kernel.kill_group()
            kernel.wait_until_gone()


def remove_abandoned_kernel_folders() -> None:
    """Remove folders of kernels whose AutoFlow was killed."""
    remove_abandoned_folders(_place_of_folders(), _FOLDER)


def _place_of_folders() -> Path:
    is_short = len(tempfile.gettempdir()) <= _LONGEST_TEMPORARY_FOLDER
    return Path(tempfile.gettempdir() if is_short else "/tmp")  # noqa: S108 - mkdtemp is safe


def _overwrite(file: Path, text: str) -> None:
    """Write a text that is always of the same length, at once: that needs no room on a disk that has become full."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, text.encode("ascii"), 0)
    finally:
        os.close(descriptor)


def is_own_python(name: str) -> bool:
    """Return whether the kernelspec called `name` starts an ordinary kernel of AutoFlow's own Python.

    That is what ``python -m ipykernel install`` makes, with which other programs list this Python.
    """
    try:
        spec = KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        return False
    python, *arguments = spec.argv or [""]
    # jupyter_client starts its own for a plain `python`. Those of virtual environments are often links to one file.
    is_here = python in {"python", "python3"} or Path(python).parent.resolve() == Path(sys.executable).parent.resolve()
    ordinary = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]
    return is_here and not spec.env and [each for each in arguments if each not in _HARMLESS] == ordinary


_HARMLESS = ("-Xfrozen_modules=off",)
"""Options that ipykernel adds, and that only matter to a debugger."""


def is_installed(name: str) -> bool:
    """Return whether there is a kernelspec called `name`."""
    try:
        KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        return False
    return True

"""How a kernel is started, listened to and, whatever it does, ended."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any, cast

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Type

from autoflow.errors import AutoflowError
from autoflow.kernels.fork_server import ForkedProcess, ForkServer
from autoflow.kernels.warm_process import HISTORY_IN_MEMORY, LAUNCHER
from autoflow.log import logger
from autoflow.utils import is_old

PYTHON_KERNEL = "python3"
"""The kernel of the Python that AutoFlow itself runs in; ipykernel brings it."""

LONGEST_MESSAGE = 40_000_000
"""A longer message of a kernel is not looked into, bytes: that takes several times its size in memory."""

TOO_LONG = "autoflow_message_too_long"
"""The type of the message that stands for one longer than `LONGEST_MESSAGE`.

Its content tells the `size` of that, bytes, and whether it `holds_scrap`.
"""

SCRAP_TYPE = "application/scrapbook"
"""How the types of data begin that scrapbook attaches to a notebook for others to read."""

LONGEST_QUEUE = 50_000
"""How many messages of a kernel may wait to be handled; it throws away what comes on top, without a word."""

SHUTDOWN_GRACE = 2.5
"""How long a kernel whose cells have run may take to end by itself, `atexit` functions included, in seconds."""

KILL_TIMEOUT = 5.0
"""How long a kernel that was killed may take to be gone with all that it has started, in seconds."""

_GUARD = Path(__file__).with_name("guard.py")

_RECONNECT_MILLISECONDS = 10
"""How often it is tried to connect to a kernel that does not listen yet; by default ten times as long."""

_LONGEST_TEMPORARY_FOLDER = 60
"""Characters; the path of a socket may have about 100."""

_FOLDER = "autoflow-kernel-"
"""How the names of the folders begin that kernels have their sockets in."""


_SCRAP = re.compile(SCRAP_TYPE.encode())

_LAST_WORDS = 4096
"""How much is remembered of what a kernel says outside of cells, bytes."""


class KernelStartError(AutoflowError):
    """A kernel ended before it could run anything, or did not answer in time."""


class BoundedChannel(AsyncZMQSocketChannel):
    """A channel on which a message of any size arrives as one that can be handled."""

    async def get_msg(  # type: ignore[override]
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - jupyter_client's signature
    ) -> dict[str, Any]:
        """Return the next message, or one of the type `TOO_LONG` in its place; Empty after `timeout` seconds."""
        if timeout is not None and not await self.socket.poll(int(timeout * 1000)):
            raise Empty
        parts: Any = await self.socket.recv_multipart(copy=False)
        _, parts = self.session.feed_identities(parts, copy=False)
        size = sum(len(part) for part in parts)
        if size <= LONGEST_MESSAGE:
            return self.session.deserialize(parts, copy=False)
        return self._stand_in(parts, size)

    def _stand_in(self, parts: list[zmq.Frame], size: int) -> dict[str, Any]:
        _, header, parent, metadata, content, *_ = parts
        head = self.session.unpack(header.bytes)
        stand_in: dict[str, Any] = {"size": size, "holds_scrap": bool(_SCRAP.search(content.buffer))}
        if head["msg_type"] in {"error", "execute_reply"}:
            # The reply to a cell whose exception is too long to read, unless it says that all is well.
            is_well = re.search(rb'"status": ?"ok"', bytes(content.buffer[:200]))
            message = f"what the cell raised takes {size / 1e6:.0f} MB to tell"
            failure = {"status": "error", "ename": "ExceptionTooLong", "evalue": message, "traceback": []}
            stand_in = {"status": "ok"} if is_well else failure
        else:
            head["msg_type"] = TOO_LONG
        message_parts = [self.session.pack(head), parent.bytes, metadata.bytes, self.session.pack(stand_in)]
        return self.session.deserialize([self.session.sign(message_parts), *message_parts])


class KernelConnection(AsyncKernelClient):
    """What AutoFlow says to a kernel and hears from it."""

    shell_channel_class = Type(BoundedChannel)
    iopub_channel_class = Type(BoundedChannel)

    language_info: Mapping[str, Any]
    """What the kernel says of its language."""

    async def wait_until_ready(self) -> None:
        """Wait until the kernel answers, and until what it puts out arrives."""
        self.start_channels(stdin=False, hb=False, control=False)
        while True:
            self.kernel_info()
            with contextlib.suppress(Empty):
                reply = await self.get_shell_msg(timeout=1)
                # A subscription to outputs takes effect somewhat later; what is sent before is lost.
                await self.get_iopub_msg(timeout=0.2)
                self.language_info = reply["content"].get("language_info", {})
                return

    def close(self) -> None:
        """Close the sockets."""
        self.shell_channel.stop()
        self.iopub_channel.stop()


class ForkProvisioner(LocalProvisioner):
    """Forks a kernel where a `ForkServer` can do it, and starts it the ordinary way where not."""

    process: "subprocess.Popen[bytes] | ForkedProcess | None"  # type: ignore[assignment]

    def __init__(self, kernel: "Kernel", server: ForkServer) -> None:
        """Provide the process of `kernel`."""
        super().__init__(kernel_id=kernel.kernel_id, kernel_spec=kernel.kernel_spec, parent=kernel)
        self._kernel = kernel
        self._server = server

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel."""
        python = [sys.executable, "-m", LAUNCHER]
        command = self._kernel.command
        if command[:3] == python:
            environment = {**kwargs["env"], "JPY_PARENT_PID": str(os.getpid())}
            self.process = await self._server.fork(
                command[3:],
                environment=environment,
                cwd=Path(kwargs["cwd"]),
                folder=self._kernel.folder,
                mouth=kwargs["stdout"],
            )
        if self.process is None:
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = self.process.pid
        self.cwd = kwargs["cwd"]
        return self.connection_info


class Kernel(AsyncKernelManager):
    """A kernel with a guard, which ends with all that it has started, when it is told to and when AutoFlow dies.

    It is reached through sockets in a private folder: two kernels that start at once can take the same TCP port
    (papermill#511), and other users of the machine cannot connect. It belongs to one event loop; only `kill_group`
    may be called from any thread. `ended` is set once nothing is left of a kernel that was started.
    """

    def __init__(self, name: str, folder: Path, server: ForkServer | None = None) -> None:
        """Prepare the kernel called `name`, whose sockets will be in `folder`; `server` forks it, if it can."""
        super().__init__(
            kernel_name=name,
            transport="ipc",
            ip=str(folder / "socket"),
            connection_file=str(folder / "connection.json"),
            cache_ports=False,
            client_factory=KernelConnection,
        )
        self.context.setsockopt(zmq.RCVHWM, LONGEST_QUEUE)
        self.context.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MILLISECONDS)
        self.folder = folder
        self._server = server
        self._killed = False
        self.ended = asyncio.Event()
        self._ear: int | None = None
        self._last_words = b""
        self._connection: KernelConnection | None = None

    async def connect(self, environment: Mapping[str, str], cwd: Path, *, start_timeout: float) -> KernelConnection:
        """Start the kernel in the folder `cwd`, with `environment`; return once it can run code.

        Raises
        ------
        KernelStartError
            If it ends before, or needs more than `start_timeout` seconds.
        OSError
            If no process can be started.

        """
        await self.start_kernel(env=dict(environment), cwd=str(cwd))
        self._connection = connection = cast("KernelConnection", self.client(context=self.context))
        ready = asyncio.ensure_future(connection.wait_until_ready())
        ended = asyncio.ensure_future(self.ended.wait())
        try:
            await asyncio.wait({ready, ended}, timeout=start_timeout, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise KernelStartError(f"the kernel did not start: {self.death()}{self._said()}")
            if not ready.done():
                raise KernelStartError(f"the kernel did not start within {start_timeout:g} s{self._said()}")
            await ready
        finally:
            ready.cancel()
            ended.cancel()
        return connection

    async def start_kernel(self, **kwargs: Any) -> None:  # type: ignore[override]
        """Start the kernel with its guard, and listen to what it says outside of cells."""
        if self._server and self.kernel_spec and "kernel_provisioner" not in self.kernel_spec.metadata:
            self.kernel_id = str(uuid.uuid4())
            self.provisioner = ForkProvisioner(self, self._server)
        self._ear, mouth = os.pipe()
        asyncio.get_running_loop().add_reader(self._ear, self._hear)
        try:
            await super().start_kernel(stdin=subprocess.PIPE, stdout=mouth, stderr=mouth, **kwargs)
        finally:
            os.close(mouth)
        if self._killed:
            self.kill_group()

    @property
    def command(self) -> list[str]:
        """The command that starts the kernel, without its guard."""
        command = super().format_kernel_cmd()
        return [*command, HISTORY_IN_MEMORY] if LAUNCHER in command else command

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        """Return the command that starts the kernel, by way of its guard."""
        del extra_arguments
        return [sys.executable, "-I", "-S", str(_GUARD), str(self.folder), *self.command]

    async def end(self, *, grace: float = 0) -> None:
        """End the kernel and all that it has started: kill them, if they are still there after `grace` seconds."""
        if grace and self.has_kernel and not self.ended.is_set():
            await self.request_shutdown()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), grace)
        self.kill_group()
        if self._ear is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), KILL_TIMEOUT)
            self._stop_listening()
        if self._connection:
            self._connection.close()
        await self.cleanup_resources()

    def kill_group(self) -> None:
        """Kill the kernel and the processes that it has started, now, from any thread; one to come as well."""
        self._killed = True
        if self._process and self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def death(self) -> str:
        """Say how the kernel ended, if it has."""
        if self.ended.is_set():
            self.wait_until_gone()
        status = self._process.poll() if self._process else None
        if status is None:
            return "it does not answer"
        number = -status if status < 0 else status - 128
        with contextlib.suppress(ValueError):
            name = signal.Signals(number).name
            return f"killed by {name}{', perhaps for want of memory' if name == 'SIGKILL' else ''}"
        return f"it ended with exit status {status}"

    def wait_until_gone(self) -> None:
        """Wait for the end of a kernel that was killed; at last, kill its guard, and the kernel with it."""
        if process := self._process:
            try:
                process.wait(KILL_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @property
    def _process(self) -> "subprocess.Popen[bytes] | ForkedProcess | None":
        return getattr(self.provisioner, "process", None)

    def _hear(self) -> None:
        words = os.read(cast("int", self._ear), 65536)
        self._last_words += words
        if len(self._last_words) > _LAST_WORDS:
            # But for a word that is cut: of a secret, it could not be told from others.
            self._last_words = b"".join(self._last_words[-_LAST_WORDS:].split(maxsplit=1)[1:])
        if not words:
            # The guard holds the other end as long as there is anything to guard.
            self._stop_listening()
            self.ended.set()

    def _stop_listening(self) -> None:
        if self._ear is not None:
            asyncio.get_running_loop().remove_reader(self._ear)
            os.close(self._ear)
            self._ear = None
            if words := self._last_words.decode(errors="replace").strip():
                logger.debug("a kernel has said, outside of cells: %s", words)

    def _said(self) -> str:
        """Return the last line that the kernel has said outside of cells, as the end of a message."""
        lines = self._last_words.decode(errors="replace").split("\n")
        return next((f" ({line.strip()})" for line in reversed(lines) if line.strip()), "")


@contextmanager
def new_kernel(name: str, server: ForkServer | None = None) -> Iterator[Kernel]:
    """Yield a kernel called `name`, not started yet; at the end nothing of it is left.

    `name` is that of an installed kernelspec. `server` forks the kernel, if it is one that it can fork.
    """
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=_place_of_folders()))
    kernel = Kernel(name, folder, server)
    try:
        yield kernel
    finally:
        kernel.kill_group()
        kernel.wait_until_gone()
        shutil.rmtree(folder, ignore_errors=True)


def remove_unused_folders() -> None:
    """Remove the folders for kernels that AutoFlow was killed too early to start, a day ago or earlier.

    Kernels have sockets in theirs, and their guards remove them.
    """
    for folder in _place_of_folders().glob(f"{_FOLDER}*"):
        with contextlib.suppress(OSError):
            status = folder.stat()
            if (
                is_old(status)
                and status.st_uid == os.getuid()
                and {path.name for path in folder.iterdir()} <= {"connection.json"}
            ):
                shutil.rmtree(folder)


def _place_of_folders() -> Path:
    is_short = len(tempfile.gettempdir()) <= _LONGEST_TEMPORARY_FOLDER
    return Path(tempfile.gettempdir() if is_short else "/tmp")  # noqa: S108 - mkdtemp is safe


def is_installed(name: str) -> bool:
    """Tell whether there is a kernelspec called `name`."""
    try:
        KernelSpecManager().get_kernel_spec(name)
    except NoSuchKernel:
        return False
    return True

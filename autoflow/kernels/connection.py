"""The sockets between AutoFlow and a kernel, and bounds for what waits in them.

A Python kernel bounds its messages itself, and waits until they are received (see `sending`). Other kernels do neither,
so their messages are taken from ZeroMQ as they come, and those that are too many are left out.
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import zmq
import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from traitlets import Type
from zmq.utils.monitor import parse_monitor_message

from autoflow.system.log import logger

LONGEST_MESSAGE = 25_000_000
"""The longest message of a kernel that is parsed, in bytes: parsing takes several times as much memory."""

TOO_LONG = "autoflow_message_too_long"
"""The type of the message that replaces one longer than `LONGEST_MESSAGE`.

Its content has the `size` of the original in bytes, and whether it `holds_scrap`.
"""

SCRAP_TYPE = "application/scrapbook"
"""The prefix of the types of data that scrapbook attaches to a notebook."""

LARGEST_FRAME = 100_000_000
"""The largest part of a message that is received, in bytes; ZeroMQ closes the connection after a larger one."""

LONGEST_QUEUE = 50_000
"""How many messages of a kernel may wait to be handled; it silently drops further ones."""

QUEUE_OF_WAITING_KERNEL = 1
"""How many messages ZeroMQ receives ahead of a kernel that waits: each may be as long as `LONGEST_MESSAGE`."""

_SCRAP = re.compile(SCRAP_TYPE.encode())

LARGEST_QUEUE = 100_000_000
"""How much output may wait to be handled, in bytes; output beyond that is left out."""

_MESSAGE_COST = 1000
"""The memory that a message takes besides its content, in bytes."""

_MOST_TAKEN = 5000
"""How many messages are taken at once; the rest of the daemon needs time as well."""

_OUTPUTS = frozenset({"stream", "display_data", "execute_result", "update_display_data", "comm_open", "comm_msg"})
"""Types of messages that can be left out; the others report the progress of a cell."""

_RECONNECT_MILLISECONDS = 10
"""How often to try to connect to a kernel that does not listen yet; ZeroMQ's default is ten times as long."""

_RECONNECT_TIMEOUT = 1.0
"""After how many seconds without an attempt to connect again a connection has been closed for good."""

_IMPORTABLE = Path(__file__).with_name("importable")
"""The folder of the module `autoflow` for notebooks: AutoFlow's own `__init__.py`, without the rest of the package."""

_BOUND = f"""
{Path(__file__).with_name("sending.py").read_text(encoding="utf-8")}
sys.path.append({str(_IMPORTABLE)!r})
BoundedSession(kernel, {LONGEST_MESSAGE}, {TOO_LONG!r}, {SCRAP_TYPE!r})
"""
"""What AutoFlow runs in a Python kernel first. Whatever else is called `autoflow` comes before AutoFlow's module."""


def set_bounds(context: zmq.Context[Any], *, can_wait: bool) -> None:
    """Set the options of the sockets that will be made in `context`, for a kernel that can or cannot be made to wait.

    ZeroMQ can stall if the length of a queue is changed later.
    """
    context.setsockopt(zmq.RCVHWM, QUEUE_OF_WAITING_KERNEL if can_wait else LONGEST_QUEUE)
    context.setsockopt(zmq.MAXMSGSIZE, LARGEST_FRAME)
    context.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MILLISECONDS)


@dataclass
class _Waiting:
    """A message that waits to be handled or, if `left_out` is not 0, a placeholder for that many bytes of messages."""

    parts: Any
    size: int
    left_out: int = 0

    @property
    def cost(self) -> int:
        """The memory that it takes, in bytes."""
        return self.size + _MESSAGE_COST

    def takes(self, other: "_Waiting") -> bool:
        """Also take the place of `other`, if this is a placeholder for the same cell; return whether it does."""
        is_same = bool(self.left_out) and self.parts[2].bytes == other.parts[2].bytes
        if not is_same or _SCRAP.search(other.parts[4].buffer):
            return False
        self.left_out += len(other.parts[4])
        return True


class BoundedChannel(AsyncZMQSocketChannel):
    """A channel that replaces messages that are too long, or that come faster than they are handled.

    ZeroMQ would keep them all in memory: it limits the number of messages, not their size. So each call takes
    everything from ZeroMQ that has arrived, unless the kernel waits.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make a channel without messages."""
        super().__init__(*args, **kwargs)
        self._waiting: deque[_Waiting] = deque()
        self._waiting_size = 0
        self._kernel_waits = False

    def let_kernel_wait(self) -> None:
        """Leave messages in ZeroMQ, if it receives few ahead, because the kernel waits until they are received."""
        self._kernel_waits = self.socket.getsockopt(zmq.RCVHWM) == QUEUE_OF_WAITING_KERNEL

    def send(self, msg: dict[str, Any]) -> None:
        """Send a message, and wake up who waits for one.

        jupyter_client would bypass this socket, which then may not notice that a message has arrived.
        """
        parts: list[Any] = self.session.serialize(msg)
        self.socket.send_multipart([*parts, *msg.get("buffers", ())])

    async def get_msg(  # type: ignore[override]
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - jupyter_client's signature
    ) -> dict[str, Any]:
        """Return the next message, or its replacement of type `TOO_LONG`; raise Empty after `timeout` seconds."""
        if not self._kernel_waits:
            await self._take_arrived()
        if not self._waiting:
            if timeout is not None and not await self.socket.poll(int(timeout * 1000)):
                raise Empty
            self._add(await self.socket.recv_multipart(copy=False))
        waiting = self._waiting.popleft()
        self._waiting_size -= waiting.cost
        if waiting.left_out or waiting.size > LONGEST_MESSAGE:
            return self._replacement(waiting.parts, waiting.size + waiting.left_out)
        return self.session.deserialize(waiting.parts, copy=False)

    async def _take_arrived(self) -> None:
        """Take what has arrived from ZeroMQ."""
        with contextlib.suppress(zmq.Again):
            for _ in range(_MOST_TAKEN):
                self._add(await self.socket.recv_multipart(zmq.NOBLOCK, copy=False))

    def _add(self, received: Any) -> None:
        """Queue a message or, if too much is waiting and the message can be left out, only its size."""
        parts: Any = self.session.feed_identities(received, copy=False)[1]
        waiting = _Waiting(parts, sum(len(part) for part in parts))
        if self._waiting_size + waiting.cost > LARGEST_QUEUE and self._waiting:
            head = self.session.unpack(parts[1].bytes)
            if head["msg_type"] in _OUTPUTS and not self._waiting[-1].takes(waiting):
                content = SCRAP_TYPE.encode() if _SCRAP.search(parts[4].buffer) else b""
                frames = [zmq.Frame(each) for each in (b"", parts[1].bytes, parts[2].bytes, b"{}", content)]
                waiting = _Waiting(frames, 0, left_out=len(parts[4]))
            elif head["msg_type"] in _OUTPUTS:
                return
        self._waiting.append(waiting)
        self._waiting_size += waiting.cost

    def _replacement(self, parts: list[zmq.Frame], size: int) -> dict[str, Any]:
        _, header, parent, metadata, content, *_ = parts
        head = self.session.unpack(header.bytes)
        replacement: dict[str, Any] = {"size": size, "holds_scrap": bool(_SCRAP.search(content.buffer))}
        if head["msg_type"] in {"error", "execute_reply"}:
            # An exception that is too long, unless it is the reply to a cell that has succeeded.
            is_ok = re.search(rb'"status": ?"ok"', bytes(content.buffer[:200]))
            message = f"the exception of the cell is {size / 1e6:.0f} MB long"
            failure = {"status": "error", "ename": "ExceptionTooLong", "evalue": message, "traceback": []}
            replacement = {"status": "ok"} if is_ok else failure
        else:
            head["msg_type"] = TOO_LONG
        message_parts = [self.session.pack(head), parent.bytes, metadata.bytes, self.session.pack(replacement)]
        return self.session.deserialize([self.session.sign(message_parts), *message_parts])


class KernelConnection(AsyncKernelClient):
    """The sockets on which AutoFlow sends requests to a kernel and receives its replies and outputs."""

    shell_channel_class = Type(BoundedChannel)
    iopub_channel_class = Type(BoundedChannel)

    language_info: Mapping[str, Any]
    """What the kernel reports about its language."""

    async def wait_until_ready(self) -> None:
        """Wait until the kernel replies and its outputs arrive."""
        self.start_channels(stdin=False, hb=False, control=False)
        while True:
            self.kernel_info()
            with contextlib.suppress(Empty):
                reply = await self.get_shell_msg(timeout=1)
                # A subscription to outputs takes effect a little later; earlier ones are lost.
                await self.get_iopub_msg(timeout=0.2)
                self.language_info = reply["content"].get("language_info", {})
                break
        if self.language_info.get("name") == "python":
            await self._bound_kernel()

    async def _bound_kernel(self) -> None:
        """Have the kernel bound its messages, and wait until they are received."""
        code = f"exec({_BOUND!r}, {{'__name__': 'autoflow', 'kernel': get_ipython().kernel}})"
        request = self.execute(code, silent=True, store_history=False, allow_stdin=False, stop_on_error=False)
        reply: dict[str, Any] = {"parent_header": {}}
        while reply["parent_header"].get("msg_id") != request:
            reply = await self.get_shell_msg()
        if reply["content"]["status"] == "ok":
            self.iopub_channel.let_kernel_wait()
        else:
            logger.debug("the kernel does not bound its messages: %s", reply["content"].get("evalue"))

    async def closed_for_good(self) -> None:
        """Wait until a connection is closed and not made again, because the kernel sent more than `LARGEST_FRAME`."""
        sockets = (channel.socket for channel in (self.shell_channel, self.iopub_channel))
        watching = [asyncio.ensure_future(_closed_for_good(socket)) for socket in sockets]
        try:
            await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in watching:
                each.cancel()

    def close(self) -> None:
        """Close the sockets."""
        self.shell_channel.stop()
        self.iopub_channel.stop()


async def _closed_for_good(socket: zmq.asyncio.Socket) -> None:
    """Wait until a connection of `socket` is closed, and ZeroMQ does not try to connect again."""
    monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED)
    try:
        while True:
            event = parse_monitor_message(await monitor.recv_multipart())["event"]
            if event == zmq.EVENT_DISCONNECTED and not await monitor.poll(_RECONNECT_TIMEOUT * 1000):
                return
    finally:
        socket.disable_monitor()

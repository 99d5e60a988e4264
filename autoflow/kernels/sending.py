"""Bounds what a Python kernel sends: AutoFlow runs this code in the kernel, before the first cell.

Printed text is sent in pieces, a message that is too long is replaced by its size, and the kernel waits until AutoFlow
has received what it sent. A kernel can belong to another Python, so this code needs ipykernel's own packages alone.
"""

import inspect
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import zmq

PIECE = 1_000_000
"""How much text a message holds, in characters."""

MOST_UNSENT = 10_000_000
"""How much may wait in the kernel to be sent, in bytes."""

QUEUE = 20
"""How many messages ZeroMQ keeps in the kernel."""

LONGEST_TRACEBACK = 10_000_000
"""How long a traceback may be, in characters; of a longer one, only the last part is sent."""

Message = dict[str, Any]


class BoundedSession:
    """Takes the place of the methods through which all messages of a kernel are sent."""

    def __init__(self, kernel: Any, longest: int, too_long: str, scrap_type: str) -> None:
        """Replace messages of `kernel` over `longest` bytes by messages of the type `too_long`.

        These say whether there was data of the type `scrap_type` in them.
        """
        self._thread, self._session = kernel.iopub_thread, kernel.session
        self._send, self._serialize = self._session.send, self._session.serialize
        self._parameters = inspect.signature(self._send)
        self._longest, self._too_long, self._scrap_type = longest, too_long, scrap_type
        self._unsent = 0
        self._thread.schedule(self._wait_for_receiver)
        self._session.send, self._session.serialize = self.send, self.serialize

    def _wait_for_receiver(self) -> None:
        """Have ZeroMQ wait where it would lose messages that are received too slowly."""
        self._thread.socket.setsockopt(zmq.SNDHWM, QUEUE)
        self._thread.socket.setsockopt(zmq.XPUB_NODROP, 1)

    def send(self, *args: Any, **kwargs: Any) -> Any:
        """Send a message, in pieces or as a replacement if it is too long; parameters are those of ``Session.send``."""
        given = self._parameters.bind(*args, **kwargs).arguments
        stream, message, ident, track = (given.get(name) for name in ("stream", "msg_or_type", "ident", "track"))
        if not isinstance(message, dict):
            options = {name: given.get(name) for name in ("content", "parent", "header", "metadata")}
            message = self._session.msg(message, **options)
        text = message["content"].get("text")
        if message["msg_type"] == "stream" and isinstance(text, str) and len(text) > PIECE:
            for piece in self._pieces(message, text):
                self._send_or_wait(stream, piece, ident, [], track)
            return message
        buffers = given.get("buffers") or message.get("buffers") or []
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        if size > self._longest:
            message, buffers = self._replacement(message, size), []
        self._unsent += size
        return self._send_or_wait(stream, message, ident, buffers, track)

    def _pieces(self, message: Message, text: str) -> Iterator[Message]:
        """Yield messages with the pieces of a `text` that is too long for one, and a replacement for most of it."""
        kept = text[: self._longest]
        for start in range(0, len(kept), PIECE):
            content = {**message["content"], "text": kept[start : start + PIECE]}
            # With an id of its own: two equal messages would count as one.
            yield self._session.msg("stream", content, message["parent_header"], metadata=message["metadata"])
        if len(kept) < len(text):
            yield self._replacement(message, len(text) - len(kept))

    def _send_or_wait(self, stream: Any, message: Message, ident: Any, buffers: Any, track: Any) -> Any:
        """Send a message; if a lot waits to be sent, wait until it is, unless this is the thread that sends it."""
        sent = self._send(stream, message, ident=ident, buffers=buffers, track=track)
        if self._unsent > MOST_UNSENT and threading.current_thread() is not self._thread.thread:
            has_sent = threading.Event()
            self._thread.schedule(has_sent.set)
            has_sent.wait()
            self._unsent = 0
        return sent

    def serialize(self, msg: Message, ident: Any = None) -> list[bytes]:
        """Return the parts of `msg`, or of its replacement if it is too long."""
        if msg["msg_type"] in {"error", "execute_reply"}:
            msg = {**msg, "content": _clipped(msg["content"])}
        parts: list[bytes] = self._serialize(msg, ident)
        size = sum(map(len, parts))
        if size > self._longest or self._takes_much_to_read(parts[-1], size):
            parts = self._serialize(self._replacement(msg, size), ident)
        self._unsent += sum(map(len, parts))
        return parts

    def _takes_much_to_read(self, content: bytes, size: int) -> bool:
        """Return whether a message is short, but not once it is text: one emoji makes that four times as large."""
        is_small = 4 * size <= 2 * self._longest or content.isascii()
        return not is_small and sys.getsizeof(content.decode("utf-8", "replace")) > 2 * self._longest

    def _replacement(self, message: Message, size: int) -> Message:
        content = message["content"]
        if message["msg_type"] in {"error", "execute_reply"}:
            # It has no long text any more, so this is the reply to a cell that has put a lot into its payload.
            payload = [item for item in content.get("payload") or () if item.get("source") == "ask_exit"]
            return {**message, "content": {**content, "payload": payload, "user_expressions": {}}}
        kind = self._too_long
        holds_scrap = any(str(each).startswith(self._scrap_type) for each in content.get("data") or ())
        replacement = {"size": size, "holds_scrap": holds_scrap}
        header = {**message["header"], "msg_type": kind}
        return {**message, "header": header, "msg_type": kind, "content": replacement}


def _clipped(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the content of a message without most of an exception that is too long."""
    if "traceback" not in content:
        return content
    traceback: list[str] = []
    for part in reversed(content["traceback"]):
        traceback.insert(0, part[:PIECE])
        if sum(map(len, traceback)) > LONGEST_TRACEBACK:
            break
    clipped = {name: str(content.get(name))[:PIECE] for name in ("ename", "evalue")}
    return {**content, **clipped, "traceback": traceback}

"""A service on this machine to which AutoFlow sends messages."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


@dataclass(frozen=True)
class Receiver:
    """Where messages arrive; while it `is_down`, their titles are among those `refused`."""

    url: str
    messages: "queue.Queue[dict[str, Any]]"
    is_down: threading.Event
    refused: list[str]

    def taken(self) -> list[dict[str, Any]]:
        """Return the messages that have arrived since the last call."""
        return [self.messages.get_nowait() for _ in range(self.messages.qsize())]

    def titles(self) -> list[str]:
        """Return their titles."""
        return [message["title"] for message in self.taken()]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Receive messages for the duration of the block."""
    messages: queue.Queue[dict[str, Any]] = queue.Queue()
    is_down = threading.Event()
    refused: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if is_down.is_set():
                refused.append(message["title"])
            else:
                messages.put(message)
            self.send_response(503 if is_down.is_set() else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield Receiver(f"json://127.0.0.1:{server.server_port}/", messages, is_down, refused)
        server.shutdown()

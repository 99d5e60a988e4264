"""A TCP proxy on loopback that can cut two programs off from each other."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

_PIECE = 65536


class Proxy:
    """Passes connections to `port` on to another port of this machine, for the duration of the `with` block.

    While it stalls, nothing passes and no connection ends, as with a cable that was pulled out. While it refuses,
    there are no connections, as with a program that does not run.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{target}", daemon=True)
        self._server: asyncio.Server | None = None
        self._passes = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        self.resume()
        return self

    def __exit__(self, *_: object) -> None:
        """End all connections."""
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stall(self) -> None:
        """Let nothing pass, and end no connection."""
        self._loop.call_soon_threadsafe(self._passes.clear)

    def refuse(self) -> None:
        """End all connections, and accept none."""
        self._call(self._close)

    def resume(self) -> None:
        """Let everything pass, also what has been sent meanwhile."""
        self._call(self._open)

    def _call(self, function: Callable[[], Any]) -> None:
        asyncio.run_coroutine_threadsafe(function(), self._loop).result()

    async def _open(self) -> None:
        self._passes.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server:
            server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._connect(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            await self._passes.wait()
            their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(their_writer)
            await asyncio.gather(self._pass_on(reader, their_writer), self._pass_on(their_reader, writer))
        except OSError:
            pass
        finally:
            for each in writers:
                each.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            await self._passes.wait()
            writer.write(piece)
            await writer.drain()
        await self._passes.wait()
        with suppress(OSError):
            writer.write_eof()

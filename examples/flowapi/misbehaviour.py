"""Failures of the example FlowAPI on purpose, to test its clients."""

import asyncio
import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.flowapi.answers import html_page, json_answer

ERRORED: Final = "examples.flowapi.errored"
"""Key in a request's scope: the query that it runs shall end with an error."""


class Misbehaviour(enum.StrEnum):
    """A way to misbehave."""

    DOWN = "down"
    """The connection is dropped without an answer."""
    HANG = "hang"
    """The request is accepted and never answered."""
    DRIP = "drip"
    """The right answer comes byte by byte, far too slowly."""
    ERROR = "500"
    NOT_FOUND = "404"
    UNPROCESSABLE = "422"
    EXPIRED = "401"
    FORBIDDEN = "403"
    HTML = "html"
    """The answer is an HTML page with status 200, like the login page of a proxy."""
    GARBAGE = "garbage"
    """The answer has status 200 and claims to be JSON, but is not even text."""
    NOT_HTTP = "not-http"
    """The answer is not HTTP."""
    EMPTY = "empty"
    """The answer has status 200 and an empty body."""
    ERRORED = "errored"
    """The request succeeds, but the query that it runs ends with an error (for the route 'run')."""


_GARBAGE: Final = b'{"available_dates":\x80\x81\xff\x00'
_OTHER_PROTOCOL: Final = b"220 mail.example ESMTP\r\n"

_ANSWERS: Final[dict[Misbehaviour, Callable[[], Response]]] = {
    Misbehaviour.ERROR: lambda: json_answer(500, {"msg": "Internal server error.", "status": "Error"}),
    Misbehaviour.NOT_FOUND: lambda: html_page(404, "There is nothing at this address."),
    Misbehaviour.UNPROCESSABLE: lambda: json_answer(422, {"msg": "Signature verification failed"}),
    Misbehaviour.EXPIRED: lambda: json_answer(401, {"msg": "Token has expired"}),
    Misbehaviour.FORBIDDEN: lambda: json_answer(403, {"msg": "User claims verification failed"}),
    Misbehaviour.HTML: lambda: html_page(200, "Please log in to use the network."),
    Misbehaviour.GARBAGE: lambda: Response(_GARBAGE, media_type="application/json"),
    Misbehaviour.EMPTY: lambda: Response(b"", media_type="application/json"),
}


@dataclass
class _Plan:
    how: Misbehaviour
    route: str | None
    times_left: int | None


class Mood:
    """The plans for misbehaviour; safe to use from several threads."""

    def __init__(self) -> None:
        self._plans: list[_Plan] = []
        self._lock = threading.Lock()

    def misbehave(self, how: Misbehaviour, *, route: str | None = None, times: int | None = None) -> None:
        """Plan a misbehaviour for one route or all, for a number of requests or forever; the newest plan wins."""
        with self._lock:
            self._plans.insert(0, _Plan(how, route, times))

    def behave(self) -> None:
        """Forget all plans."""
        with self._lock:
            self._plans.clear()

    def next(self, route: str) -> Misbehaviour | None:
        """Return the misbehaviour for a new request, and count the request."""
        with self._lock:
            plan = next((plan for plan in self._plans if plan.route in {None, route}), None)
            if plan is None:
                return None
            if plan.times_left is not None:
                plan.times_left -= 1
            self._plans = [plan for plan in self._plans if plan.times_left != 0]
            return plan.how


class Moody:
    """ASGI middleware that misbehaves according to `mood`.

    `connection` finds the transport of a request.
    """

    def __init__(
        self, app: ASGIApp, mood: Mood, *, connection: Callable[[Scope], asyncio.Transport], seconds_per_byte: float
    ) -> None:
        self._app = app
        self._mood = mood
        self._connection = connection
        self._seconds_per_byte = seconds_per_byte

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, correctly or not."""
        match how := self._mood.next(route_of(scope["path"])):
            case None:
                await self._app(scope, receive, send)
            case Misbehaviour.ERRORED:
                await self._app({**scope, ERRORED: True}, receive, send)
            case Misbehaviour.DOWN:
                self._connection(scope).abort()
                await _disconnect(receive)
            case Misbehaviour.NOT_HTTP:
                self._connection(scope).write(_OTHER_PROTOCOL)
                self._connection(scope).close()
                await _disconnect(receive)
            case Misbehaviour.HANG:
                await _disconnect(receive)
            case Misbehaviour.DRIP:
                await self._drip(scope, receive, send)
            case _:
                await _ANSWERS[how]()(scope, receive, send)

    async def _drip(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_slowly(message: Message) -> None:
            body: bytes = message.get("body", b"")
            for place in range(len(body)):
                await send({"type": message["type"], "body": body[place : place + 1], "more_body": True})
                await asyncio.wait([gone], timeout=self._seconds_per_byte)
                if gone.done():
                    return
            await send(message if not body else {**message, "body": b""})

        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        gone = asyncio.ensure_future(_disconnect(receive))
        for message in messages:
            await send_slowly(message)
        gone.cancel()


def route_of(path: str) -> str:
    """Return the name of the route of a path below /api/0/, such as 'poll'."""
    return path.removeprefix("/api/0/").split("/")[0]


async def _disconnect(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass

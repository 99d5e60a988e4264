"""The example FlowAPI as a server, in a thread of a test or of the program in `__main__.py`."""

import asyncio
import datetime
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Final, Self

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from examples.flowapi.answers import html_page
from examples.flowapi.calls import CDR_TYPES, CallRecords
from examples.flowapi.control import control_app
from examples.flowapi.country import draw_country
from examples.flowapi.jobs import Clock, Pace
from examples.flowapi.misbehaviour import Misbehaviour, Mood, Moody
from examples.flowapi.queries import Dataset
from examples.flowapi.routes import api_app
from examples.flowapi.service import Service
from examples.flowapi.tokens import EXAMPLE_SCOPES, Mint

FIRST_DATE: Final = datetime.date(2016, 1, 1)
"""The first date of the example's data."""

_SEED: Final = 1604


def first_dates(count: int) -> tuple[datetime.date, ...]:
    """Return a number of dates, from the first one on."""
    return tuple(FIRST_DATE + datetime.timedelta(days=day) for day in range(count))


class ExampleFlowApi:
    """A FlowAPI with the data of an invented country, which runs in a thread during the `with` block.

    Parameters
    ----------
    dates
        The available dates; topups are available only on every other one. Dates can be ISO text.
    host, port
        The address to listen on; port 0 means a free one.
    queued_seconds, executing_seconds
        How long a query is queued, and how long it executes.
    cache_seconds
        How old the available dates may be; in the real FlowAPI, up to 120 s.
    subscribers
        The number of subscribers.
    seconds_per_byte
        The speed of the misbehaviour called 'drip'.
    clock
        The clock for queries and for the cache of available dates.

    """

    def __init__(  # noqa: PLR0913 - each has a default, and is explained above
        self,
        dates: Iterable[datetime.date | str] = first_dates(12),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        queued_seconds: float = 0.0,
        executing_seconds: float = 0.0,
        cache_seconds: float = 0.0,
        subscribers: int = 12000,
        seconds_per_byte: float = 0.2,
        clock: Clock = time.monotonic,
    ) -> None:
        country = draw_country(_SEED)
        self._service = Service(
            dataset=Dataset(country, CallRecords(country, subscribers=subscribers, seed=_SEED)),
            mint=Mint(),
            mood=Mood(),
            pace=Pace(queued=queued_seconds, executing=executing_seconds),
            cache_seconds=cache_seconds,
            clock=clock,
        )
        self._address = (host, port)
        self._seconds_per_byte = seconds_per_byte
        self._running: _Running | None = None
        for place, date in enumerate(sorted(_date(date) for date in dates)):
            self.add_date(date, cdr_types=CDR_TYPES if place % 2 == 0 else _WITHOUT_TOPUPS)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Start listening; after a stop, on the same address as before."""
        listener = socket.create_server(self._address)
        self._address = listener.getsockname()[:2]
        self._running = _Running(listener, self._service, seconds_per_byte=self._seconds_per_byte)

    def stop(self) -> None:
        """Stop at once and drop all connections; refuse new ones until the next start."""
        if self._running is not None:
            self._running.end()
            self._running = None

    @property
    def url(self) -> str:
        """The URL for flowclient.connect."""
        return f"http://{self._address[0]}:{self._address[1]}"

    @property
    def dataset(self) -> Dataset:
        """The country and the call records behind the answers, to check them against."""
        return self._service.dataset

    @property
    def requests(self) -> list[tuple[str, str]]:
        """The method and path of each request below /api so far."""
        return list(self._service.requests)

    def token(
        self,
        expires_in: datetime.timedelta = datetime.timedelta(days=1),
        scopes: Iterable[str] | None = None,
        *,
        forged: bool = False,
    ) -> str:
        """Return a token with some scopes, by default those of the example's notebooks.

        With a negative `expires_in` it has expired; if `forged`, its signature is not FlowAPI's.
        """
        roles = {"example": EXAMPLE_SCOPES if scopes is None else scopes}
        return self.token_of_roles(roles, expires_in=expires_in, forged=forged)

    def token_of_roles(
        self, roles: dict[str, Iterable[str]], *, expires_in: datetime.timedelta, forged: bool = False
    ) -> str:
        """Return a token with several roles, each with its own scopes."""
        return self._service.mint.token(user="example", roles=roles, expires_in=expires_in, forged=forged)

    def add_date(self, date: datetime.date | str, *, cdr_types: Sequence[str] = CDR_TYPES) -> None:
        """Make a date available."""
        self._service.dataset.ingest(_date(date), tuple(cdr_types))

    def remove_date(self, date: datetime.date | str, *, cdr_types: Sequence[str] = CDR_TYPES) -> None:
        """Remove a date."""
        self._service.dataset.withdraw(_date(date), tuple(cdr_types))

    def misbehave(self, how: str, route: str | None = None, times: int | None = None) -> None:
        """Misbehave for one route ('run', 'poll', ...) or all, for a number of requests or until `behave`.

        `how` is a value of `Misbehaviour`. To refuse connections, `stop` and `start`.
        """
        self._service.mood.misbehave(Misbehaviour(how), route=route, times=times)

    def behave(self) -> None:
        """Behave correctly again; requests that hang keep hanging."""
        self._service.mood.behave()

    def lose_queries(self) -> None:
        """Forget the states of all queries, as when FlowMachine's cache is reset."""
        self._service.lose_queries()


_WITHOUT_TOPUPS: Final = tuple(cdr_type for cdr_type in CDR_TYPES if cdr_type != "topups")


def _date(date: datetime.date | str) -> datetime.date:
    return datetime.date.fromisoformat(date) if isinstance(date, str) else date


class _Running:
    """uvicorn in a thread of its own."""

    def __init__(self, listener: socket.socket, service: Service, *, seconds_per_byte: float) -> None:
        self._listener = listener
        self._service = service
        self._control = control_app(service)
        self._api = Moody(
            api_app(service), service.mood, connection=self._connection, seconds_per_byte=seconds_per_byte
        )
        self._server = _Server(
            uvicorn.Config(
                self._answer,
                interface="asgi3",
                http="h11",
                ws="none",
                lifespan="off",
                proxy_headers=False,
                log_config=None,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="example-flowapi", daemon=True)
        self._thread.start()
        self._server.ready.wait()

    def end(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def _serve(self) -> None:
        self._server.run(sockets=[self._listener])

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith("/api/"):
            self._service.requests.append((scope["method"], path))
            app: ASGIApp = self._api
        elif path.startswith("/control/"):
            app = self._control
        else:
            app = html_page(404, "There is nothing at this address.")
        await app(scope, receive, send)

    def _connection(self, scope: Scope) -> asyncio.Transport:
        """Return the connection of a request."""
        return next(
            connection.transport
            for connection in self._server.server_state.connections
            if isinstance(connection, H11Protocol) and connection.client == scope["client"]
        )


class _Server(uvicorn.Server):
    """uvicorn that signals when it listens, and drops unanswered requests when it stops."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, H11Protocol):
                connection.transport.abort()
        await super().shutdown(sockets=sockets)

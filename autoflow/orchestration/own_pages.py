"""Filter for AutoFlow's own Prefect server, which accepts requests only from its own pages, not from others.

Prefect's UI has no login by default. So any page that a browser on this machine shows could use the API, unless the
server looks at what browsers add to each request. Programs other than browsers only have to use a name of the server.

- *Host* is the name under which the browser looked for the server. A page can have its own name point at this machine
  (DNS rebinding) and is then in the server's origin, under that name.
- *Origin* and *Sec-Fetch-Site* say which page sends the request. A page cannot change them.
"""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
"""The value of a Host header."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class OwnPagesOnly:
    """An application that passes allowed requests on to `app`, and refuses all others.

    `hosts` are the names of the server; those of the loopback interface, and the IP address that a request was sent to,
    need not be among them. `origins` are foreign ones that the operator allows; '*' allows all.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._app = app
        self._hosts = {comparable(name) for name in (*LOOPBACK, *hosts)}
        self._origins = {origin.strip().rstrip("/").lower() for origin in origins} - {""}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request or a WebSocket."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
        elif refusal := self._refusal(scope):
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, self._not_in_foreign_frames(send))

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        given = headers.getlist("host")
        host = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        own_address = str((scope.get("server") or ("",))[0])
        if host is None or comparable(host["name"]) not in {*self._hosts, comparable(own_address)}:
            return PlainTextResponse(_wrong_host(given), 400)
        if not self._is_foreign(scope, headers, host):
            return None
        return PlainTextResponse(_wrong_origin(headers.get("origin"), host.string), 403)

    def _is_foreign(self, scope: Scope, headers: Headers, host: re.Match[str]) -> bool:
        """Return whether a request comes from a page of another origin, and not of one that the operator allows."""
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none").lower()
        if self._origins & {"*", (origin or "").lower()} or site == "same-origin":
            return False
        if site == "none":
            # Also for programs that are not browsers, and browsers if the server has neither TLS nor a loopback name.
            return origin is not None and not _is_of(origin, host)
        is_link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        return not (is_link and origin is None and scope.get("method") in {"GET", "HEAD"})

    def _not_in_foreign_frames(self, send: Send) -> Send:
        """Keep foreign pages from showing the UI in a frame, where a click could be meant for something else."""
        ancestors = " ".join(["frame-ancestors 'self'", *sorted(self._origins)])

        async def with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("Content-Security-Policy", ancestors)
            await send(message)

        return with_header


def comparable(name: str) -> str:
    """Return a host name or an IP address in the one form in which it is compared with others."""
    name = name.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    return str(getattr(address, "ipv4_mapped", None) or address)


def _is_of(origin: str, host: re.Match[str]) -> bool:
    """Return whether `origin` is that of `host`. The scheme may differ: a proxy may add TLS."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return False
    usual = _DEFAULT_PORTS[parts.scheme]
    return (comparable(parts.hostname), port or usual) == (comparable(host["name"]), int(host["port"] or usual))


def _wrong_host(given: list[str]) -> str:
    return (
        f"AutoFlow's Prefect server does not answer to the host name {', '.join(map(repr, given)) or '(none)'}. "
        "If it is published under this name, add the name to AUTOFLOW_UI_HOSTS.\n"
    )


def _wrong_origin(origin: str | None, host: str) -> str:
    return (
        f"AutoFlow's Prefect server ({host}) does not answer to pages of {origin or 'other origins'}. If this is "
        "the address of Prefect's UI, the reverse proxy has to pass on the Host header with the port. To allow other "
        "pages, set PREFECT_SERVER_CORS_ALLOWED_ORIGINS.\n"
    )

"""Ask FlowAPI for its available dates: with a deadline, and without the token in any message."""

import base64
import contextlib
import datetime
import gzip
import hashlib
import json
import ssl
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as DeadlinePassed
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import jwt

from autoflow.dates.availability import Availability
from autoflow.errors import FlowApiError, TokenError
from autoflow.settings import Settings
from autoflow.system.lean_imports import postponed
from autoflow.utils import redact, without_warnings

# flowclient needs pandas for results of queries, not for dates.
with postponed("pandas", annotations=["DataFrame"]):
    import flowclient
    from flowclient.errors import FlowclientConnectionError

LONGEST_MESSAGE = 300
"""How much of an error message of FlowAPI is repeated, in characters."""

TOKEN_REFUSED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY})
"""The statuses with which FlowAPI refuses a token."""


@dataclass(frozen=True, kw_only=True)
class FlowApi:
    """A FlowAPI and the token for it.

    `timeout` limits a whole request, in seconds. `ssl_certificate` is a certificate to trust besides the system's.
    `token_problem` is why there is no token. A new one has to be put into `renewed_in`.
    """

    url: str
    token: str = field(repr=False)
    timeout: float = 60.0
    ssl_certificate: Path | None = None
    token_problem: str | None = None
    renewed_in: str = "FLOWAPI_TOKEN"

    @classmethod
    def of(cls, settings: Settings) -> "FlowApi":
        """Return the FlowAPI of `settings`, with the current token."""
        return cls(
            url=settings.flowapi_url,
            token=settings.current_flowapi_token(),
            timeout=settings.flowapi_timeout,
            ssl_certificate=settings.ssl_certificate,
            token_problem=settings.token_problem,
            renewed_in=settings.renewed_in,
        )

    def available_dates(self) -> Availability:
        """Return the dates with data, by type of CDR.

        Raises
        ------
        FlowApiError
            If FlowAPI cannot be reached, does not answer in time, refuses the token, or gives an unexpected answer.

        """
        with self._explaining_errors(), contextlib.closing(self._connect()) as session:
            answer = _within(self.timeout, session)
        return Availability(types=_dates(answer))

    def token_expiry(self) -> datetime.datetime | None:
        """Return when the token expires, in UTC; None if it never does or cannot be read."""
        try:
            claims = jwt.decode(self.token, options={"verify_signature": False})
            return datetime.datetime.fromtimestamp(claims["exp"], tz=datetime.UTC)
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, OverflowError, OSError):
            return None

    @property
    def token_id(self) -> str:
        """Return a value that identifies the token without revealing it."""
        return hashlib.sha256(self.token.encode()).hexdigest()[:8]

    def token_scopes(self) -> Mapping[str, frozenset[str]] | None:
        """Return the scopes that the token grants, by role; None if they cannot be read."""
        try:
            claims = jwt.decode(self.token, options={"verify_signature": False})
            roles = json.loads(gzip.decompress(base64.b64decode(claims["user_claims"])))
            return {str(role): frozenset(map(str, scopes)) for role, scopes in roles.items()}
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, AttributeError, OSError, EOFError, zlib.error):
            return None

    def _connect(self) -> "_Session":
        if self.token_problem:
            raise TokenError(self.token_problem)
        if not (self.token.isascii() and self.token.isprintable()):
            # It cannot be sent in a header, and the error from trying would quote it.
            raise _invalid_token()
        # flowclient warns about every URL without https, such as one within a docker network.
        with without_warnings():
            connection = flowclient.connect(url=self.url, token=self.token, ssl_certificate=self._trusted())
        connection.session.timeout = self.timeout
        connection.session.event_hooks = {"response": [self._refuse]}
        return _Session(connection)

    def _trusted(self) -> ssl.SSLContext | bool:
        """Return the certificates to trust, in the form that flowclient passes to httpx."""
        if self.ssl_certificate is None:
            return True
        try:
            context = ssl.create_default_context()
            context.load_verify_locations(self.ssl_certificate)
        except OSError as error:
            raise FlowApiError(f"SSL_CERTIFICATE_FILE: cannot load {self.ssl_certificate}: {error.strerror}") from error
        return context

    def _refuse(self, response: httpx.Response) -> None:
        """Raise FlowApiError for an error response, which flowclient would print to stdout."""
        if response.status_code == HTTPStatus.OK:
            return
        response.read()
        error = TokenError if response.status_code in TOKEN_REFUSED else FlowApiError
        # Redact before the text is cut, because a cut token would not be found.
        raise error(self._why_refused(response.status_code, redact(response.text, [self.token])))

    def _why_refused(self, status: int, body: str) -> str:
        said = f"FlowAPI at {self.url} answered {status}: {_message(body)}"
        if status == HTTPStatus.UNAUTHORIZED:
            return f"{said}; get a new token from FlowAuth and put it into {self.renewed_in}"
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return f"{said}; FLOWAPI_TOKEN is not for this FlowAPI, so get one from its FlowAuth"
        if status == HTTPStatus.FORBIDDEN:
            return f"{said}; get a token from FlowAuth that allows available_dates"
        if status == HTTPStatus.NOT_FOUND:
            return f"no FlowAPI at {self.url}: it has no /api/0/available_dates (404); check FLOWAPI_URL"
        if status < HTTPStatus.BAD_REQUEST:
            return f"{self.url} answered {status}, which FlowAPI never does; check FLOWAPI_URL"
        return said

    @contextmanager
    def _explaining_errors(self) -> Iterator[None]:
        try:
            yield
        except DeadlinePassed:
            raise FlowApiError(f"FlowAPI at {self.url} did not answer within {self.timeout:g} s") from None
        except FlowclientConnectionError as error:
            raise self._reason(error) from None
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            raise FlowApiError(f"FlowAPI at {self.url} did not answer with JSON") from None
        except (httpx.InvalidURL, UnicodeError):
            raise FlowApiError(f"{self.url} is not a valid URL; check FLOWAPI_URL") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FlowApiError(f"FlowAPI at {self.url} gave an unexpected answer ({type(error).__name__})") from None

    def _reason(self, error: FlowclientConnectionError) -> FlowApiError:
        """Return flowclient's error with its message on one line, without the token, which it may quote."""
        text = " ".join(str(error).split())
        if text.startswith(("Unable to decode token", "Token does not contain")):
            return _invalid_token()
        if not text.startswith("Unable to connect"):
            return FlowApiError(redact(text, [self.token]))
        if "timed out" in text:
            return FlowApiError(f"FlowAPI at {self.url} did not answer within {self.timeout:g} s")
        is_untrusted = "CERTIFICATE_VERIFY_FAILED" in text and "self-signed" in text
        hint = "; to trust its certificate, set SSL_CERTIFICATE_FILE to that file" if is_untrusted else ""
        reason = text.removeprefix(f"Unable to connect to FlowKit API at {self.url}: ")
        return FlowApiError(f"FlowAPI at {self.url} cannot be reached: {redact(reason, [self.token])}{hint}")


@dataclass(frozen=True)
class _Session:
    """A connection of flowclient that can be closed."""

    connection: Any

    def __call__(self) -> object:
        return flowclient.get_available_dates(connection=self.connection)

    def close(self) -> None:
        self.connection.session.close()


def _invalid_token() -> TokenError:
    return TokenError("FLOWAPI_TOKEN is not a valid token (a JSON web token); get one from FlowAuth")


def _message(body: str) -> str:
    """Return FlowAPI's error message on one line; the body may be an HTML page of a proxy instead."""
    try:
        return str(json.loads(body)["msg"]).splitlines()[0][:LONGEST_MESSAGE]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return "(no message)"


def _within(seconds: float, ask: Callable[[], object]) -> object:
    """Return what `ask` returns, or raise DeadlinePassed; a trickling answer would reset httpx's own timeouts."""
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flowapi")
    try:
        return executor.submit(ask).result(timeout=seconds + 1)
    finally:
        executor.shutdown(wait=False)


def _dates(answer: object) -> dict[str, frozenset[datetime.date]]:
    """Return the dates of each type in FlowAPI's answer, which lacks types without data."""
    if not isinstance(answer, Mapping):
        raise FlowApiError("FlowAPI's available dates are not a mapping of CDR types to dates")
    try:
        return {str(name): frozenset(map(datetime.date.fromisoformat, texts)) for name, texts in answer.items()}
    except (TypeError, ValueError):
        raise FlowApiError("FlowAPI's available dates contain an invalid date") from None

"""Which dates FlowAPI has, asked through flowclient, with a deadline and without its token in any message."""

import base64
import contextlib
import datetime
import gzip
import json
import ssl
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as DeadlinePassed
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import jwt

from autoflow.errors import FlowApiError
from autoflow.lean_imports import postponed
from autoflow.settings import Settings
from autoflow.utils import redact

# It makes data frames of results, and dates are none.
with postponed("pandas", annotations=["DataFrame"]):
    import flowclient
    from flowclient.errors import FlowclientConnectionError

NOT_A_TOKEN = "FLOWAPI_TOKEN is not a token of FlowAPI's (a JSON web token): get a new one from FlowAuth"  # noqa: S105 - a message

LONGEST_MESSAGE = 300
"""How much of what FlowAPI says is repeated, characters."""


@dataclass(frozen=True, kw_only=True)
class FlowApi:
    """A FlowAPI, and the token to ask it with.

    `timeout` is for a whole request, in seconds. `ssl_certificate` is of an authority to trust besides the system's.
    """

    url: str
    token: str = field(repr=False)
    timeout: float = 60.0
    ssl_certificate: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> "FlowApi":
        """Return the FlowAPI of `settings`, with the token as it is now."""
        return cls(
            url=settings.flowapi_url,
            token=settings.current_flowapi_token(),
            timeout=settings.flowapi_timeout,
            ssl_certificate=settings.ssl_certificate,
        )

    def available_dates(self, cdr_types: Iterable[str] | None = None) -> frozenset[datetime.date]:
        """Return the dates for which there is data of any of `cdr_types`, or of any type at all where that is None.

        Raises
        ------
        FlowApiError
            If FlowAPI cannot be reached or does not answer in time, refuses the token, or answers something else.

        """
        with self._explaining_errors(), contextlib.closing(self._connect()) as session:
            answer = _within(self.timeout, session)
        return _dates(answer, None if cdr_types is None else frozenset(cdr_types))

    def token_expiry(self) -> datetime.datetime | None:
        """Return when the token expires, in UTC; None if it never does or cannot be read."""
        try:
            claims = jwt.decode(self.token, options={"verify_signature": False})
            return datetime.datetime.fromtimestamp(claims["exp"], tz=datetime.UTC)
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, OverflowError, OSError):
            return None

    def token_scopes(self) -> Mapping[str, frozenset[str]] | None:
        """Return what the token allows, by its roles; None if that cannot be read."""
        try:
            claims = jwt.decode(self.token, options={"verify_signature": False})
            roles = json.loads(gzip.decompress(base64.b64decode(claims["user_claims"])))
            return {str(role): frozenset(map(str, scopes)) for role, scopes in roles.items()}
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, AttributeError, OSError, EOFError, zlib.error):
            return None

    def _connect(self) -> "_Session":
        if not (self.token.isascii() and self.token.isprintable()):
            # It could not even be sent, and what refuses to send it would quote it.
            raise FlowApiError(NOT_A_TOKEN)
        with warnings.catch_warnings():
            # flowclient warns of each URL that is not https, such as one inside of a docker network.
            warnings.simplefilter("ignore")
            connection = flowclient.connect(url=self.url, token=self.token, ssl_certificate=self._trusted())
        connection.session.timeout = self.timeout
        connection.session.event_hooks = {"response": [self._refuse]}
        return _Session(connection)

    def _trusted(self) -> ssl.SSLContext | bool:
        """Return whom to trust, as httpx takes it, to which flowclient hands it on."""
        if self.ssl_certificate is None:
            return True
        try:
            context = ssl.create_default_context()
            context.load_verify_locations(self.ssl_certificate)
        except OSError as error:
            raise FlowApiError(
                f"SSL_CERTIFICATE_FILE: {self.ssl_certificate} cannot be used: {error.strerror}"
            ) from error
        return context

    def _refuse(self, response: httpx.Response) -> None:
        """Turn an error into ours before flowclient prints the whole of it to stdout."""
        if response.status_code == HTTPStatus.OK:
            return
        response.read()
        # The token goes before the text is cut, which could leave a part of it.
        raise FlowApiError(self._why_refused(response.status_code, redact(response.text, [self.token])))

    def _why_refused(self, status: int, body: str) -> str:
        said = f"FlowAPI at {self.url} answered {status}: {_message(body)}"
        if status == HTTPStatus.UNAUTHORIZED:
            return f"{said}; get a new token from FlowAuth and put it into FLOWAPI_TOKEN"
        if status == HTTPStatus.UNPROCESSABLE_ENTITY:
            return f"{said}; FLOWAPI_TOKEN is not a token for this FlowAPI"
        if status == HTTPStatus.FORBIDDEN:
            return f"{said}; FLOWAPI_TOKEN does not allow available_dates"
        if status == HTTPStatus.NOT_FOUND:
            return f"{self.url} is not a FlowAPI: it has no /api/0/available_dates (404); check FLOWAPI_URL"
        if status < HTTPStatus.BAD_REQUEST:
            return f"{self.url} answered {status}, which FlowAPI never does; check FLOWAPI_URL"
        return said

    @contextmanager
    def _explaining_errors(self) -> Iterator[None]:
        try:
            yield
        except DeadlinePassed:
            raise FlowApiError(f"FlowAPI at {self.url} has not answered within {self.timeout:g} s") from None
        except FlowclientConnectionError as error:
            raise FlowApiError(self._told(error)) from None
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            raise FlowApiError(f"FlowAPI at {self.url} answered something that is not JSON") from None
        except (httpx.InvalidURL, UnicodeError):
            raise FlowApiError(f"{self.url} cannot be the address of a FlowAPI: check FLOWAPI_URL") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FlowApiError(
                f"FlowAPI at {self.url} gave an answer that makes no sense ({type(error).__name__})"
            ) from None

    def _told(self, error: FlowclientConnectionError) -> str:
        """Return what flowclient says, in a line, without the token that it likes to quote."""
        text = " ".join(str(error).split())
        if text.startswith(("Unable to decode token", "Token does not contain")):
            return NOT_A_TOKEN
        if not text.startswith("Unable to connect"):
            return redact(text, [self.token])
        if "timed out" in text:
            return f"FlowAPI at {self.url} has not answered within {self.timeout:g} s"
        is_untrusted = "CERTIFICATE_VERIFY_FAILED" in text and "self-signed" in text
        hint = "; to trust it, name the file of its certificate in SSL_CERTIFICATE_FILE" if is_untrusted else ""
        reason = text.removeprefix(f"Unable to connect to FlowKit API at {self.url}: ")
        return f"FlowAPI at {self.url} cannot be reached: {redact(reason, [self.token])}{hint}"


@dataclass(frozen=True)
class _Session:
    """A connection that can be closed, which flowclient's own cannot."""

    connection: Any

    def __call__(self) -> object:
        return flowclient.get_available_dates(connection=self.connection)

    def close(self) -> None:
        self.connection.session.close()


def _message(body: str) -> str:
    """Return what an error of FlowAPI's says, in a line; it may be a page of HTML from something in between."""
    try:
        return str(json.loads(body)["msg"]).splitlines()[0][:LONGEST_MESSAGE]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return "(no message)"


def _within(seconds: float, ask: Callable[[], object]) -> object:
    """Return what `ask` returns, or raise DeadlinePassed: an answer that only trickles resets httpx's own timeouts."""
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="flowapi")
    try:
        return executor.submit(ask).result(timeout=seconds + 1)
    finally:
        executor.shutdown(wait=False)


def _dates(answer: object, cdr_types: frozenset[str] | None) -> frozenset[datetime.date]:
    """Return the union of the dates of `cdr_types` in FlowAPI's answer; a type without data is absent from it."""
    if not isinstance(answer, Mapping):
        raise FlowApiError("FlowAPI's available dates are not a mapping from CDR types to dates")
    try:
        return frozenset(
            datetime.date.fromisoformat(text)
            for cdr_type, texts in answer.items()
            if cdr_types is None or cdr_type in cdr_types
            for text in texts
        )
    except (TypeError, ValueError):
        raise FlowApiError("FlowAPI's available dates hold something that is not a date") from None

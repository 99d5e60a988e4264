"""Tells people, by way of Apprise, of runs that are given up, of a FlowAPI that fails, and when all is well again."""

import datetime
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

import apprise

from autoflow.errors import FlowApiError, SettingsError
from autoflow.log import logger
from autoflow.runs.records import RunKey, utc_now
from autoflow.runs.run import EndedRun
from autoflow.settings import Settings
from autoflow.utils import redact, whole_file

NOTICES_FILE = "notices.json"
"""In the outputs folder: what people have been told, so that a restart does not tell it again."""

RETRY_SECONDS = (10.0, 60.0, 300.0)
"""How long to wait before a message that could not be sent is sent again."""

LAST_WAIT = 15.0
"""How long AutoFlow waits, at its end, for messages that are being sent, in seconds."""

LONGEST_REASON = 1000
"""Of an error in a message, in characters."""

MOST_LISTED = 20
"""So many runs are named in one message."""


@dataclass(frozen=True)
class Message:
    """What is sent; it holds no secrets."""

    title: str
    body: str
    kind: apprise.NotifyType


class Notifier:
    """Decides what people have to be told, each thing once, and sends it from a thread of its own.

    That goes on while the `with` block does. Without URLs nothing is decided, kept or sent.

    Raises
    ------
    SettingsError
        If Apprise does not know one of the URLs.

    """

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime.datetime] = utc_now) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._notices = _Notices(settings)
        self._sender = _Sender(settings.notify_urls)

    def __enter__(self) -> Self:
        """Begin to send."""
        self._sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send what is left, within `LAST_WAIT`."""
        self._sender.close()

    def run_ended(self, ended: EndedRun) -> None:
        """Tell that a run was given up, or that one succeeded which had been."""
        if ended.is_given_up:
            # Also where that was told before: somebody may have had it tried again.
            self._tell_given_up([ended.run.key], _failure(ended, self._settings), again=True)
        elif ended.state.is_success:
            self._tell_recovered(ended)

    def given_up(self, keys: Iterable[RunKey]) -> None:
        """Tell of those of `keys`, all that are given up now, of which it has not been told, as after crashes."""
        self._tell_given_up(keys, "AutoFlow does not try again by itself. The log and Prefect's UI say why.")

    def flowapi_failed(self, error: FlowApiError) -> None:
        """Tell that FlowAPI or the token does not work, once that has lasted for long enough."""
        if not self._settings.notify_urls:
            return
        now = self._clock()
        with self._lock, self._notices.changing() as notices:
            # Since a time in the future: the clock was set back meanwhile.
            since = min(now, datetime.datetime.fromisoformat(notices.get("flowapi_failing_since", now.isoformat())))
            notices["flowapi_failing_since"] = since.isoformat()
            is_new = not notices.get("flowapi_told") and (now - since).total_seconds() >= self._settings.notify_after
            notices["flowapi_told"] = notices.get("flowapi_told", False) or is_new
        if not is_new:
            return
        body = f"FlowAPI has been failing since {since:%Y-%m-%d %H:%M} UTC: {error}"
        self._send("AutoFlow: FlowAPI does not work", body, apprise.NotifyType.FAILURE)

    def flowapi_works(self) -> None:
        """Tell that FlowAPI works again, if it was told that it does not."""
        if not self._settings.notify_urls:
            return
        with self._lock, self._notices.changing() as notices:
            since = notices.pop("flowapi_failing_since", None)
            was_told = notices.pop("flowapi_told", False)
        if was_told:
            body = f"FlowAPI works again. It had been failing since {since[:16].replace('T', ' ')} UTC."
            self._send("AutoFlow: FlowAPI works again", body, apprise.NotifyType.SUCCESS)

    def _tell_given_up(self, keys: Iterable[RunKey], why: str, *, again: bool = False) -> None:
        if not self._settings.notify_urls:
            return
        with self._lock, self._notices.changing() as notices:
            told = notices["given_up"]
            new = {_notice(key): key for key in keys if again or _notice(key) not in told}
            notices["given_up"] = list(dict.fromkeys([*told, *new]))
        if not new:
            return
        names = [str(key) for key in new.values()]
        title = f"{names[0]} was given up" if len(names) == 1 else f"{len(names)} runs were given up"
        listed = [*names[:MOST_LISTED], *(["…"] if len(names) > MOST_LISTED else [])]
        body = why if len(names) == 1 else f"{why}\n" + "\n".join(listed)
        self._send(f"AutoFlow: {title}", body, apprise.NotifyType.FAILURE)

    def _tell_recovered(self, ended: EndedRun) -> None:
        if not self._settings.notify_urls:
            return
        notice = _notice(ended.run.key)
        with self._lock, self._notices.changing() as notices:
            was_told = notice in notices["given_up"]
            if was_told:
                notices["given_up"].remove(notice)
        if not was_told:
            return
        body = "It had been given up before.\n" + "\n".join(map(self._settings.address_of, ended.paths))
        self._send(f"AutoFlow: {ended.run} succeeded", body, apprise.NotifyType.SUCCESS)

    def _send(self, title: str, body: str, kind: apprise.NotifyType) -> None:
        secrets = self._settings.secrets
        self._sender.send(Message(redact(title, secrets), redact(body, secrets), kind))


class _Notices:
    """What people have been told, in a file that is replaced whole."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.outputs_dir / NOTICES_FILE

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Yield the notices, and write them at the end of the block if they have changed."""
        notices = self._read()
        before = json.dumps(notices)
        yield notices
        if json.dumps(notices) != before:
            self._write(notices)

    def _read(self) -> dict[str, Any]:
        # Each time, because a person's `autoflow run` may have changed it.
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            # Without the file, or with one that somebody has broken, people are told again: better than never.
            found = None
        return _sound(found if isinstance(found, dict) else {})

    def _write(self, notices: dict[str, Any]) -> None:
        try:
            with whole_file(self._file) as unfinished:
                unfinished.write_text(json.dumps(notices), encoding="utf-8")
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._file, error.strerror)


def _sound(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes sense of what is in the file."""
    told = found.get("given_up")
    notices: dict[str, Any] = {"given_up": []}
    if isinstance(told, list):
        notices["given_up"] = [each for each in told if isinstance(each, str)]
    with suppress(KeyError, TypeError, ValueError):
        since = datetime.datetime.fromisoformat(found["flowapi_failing_since"]).replace(tzinfo=None)
        notices |= {"flowapi_failing_since": since.isoformat(), "flowapi_told": found.get("flowapi_told") is True}
    return notices


class _Sender:
    """Sends messages one after the other, each to all URLs, and again where that failed."""

    def __init__(self, urls: Iterable[str]) -> None:
        # Its lines would go to stderr, and hold parts of URLs.
        logging.getLogger("apprise").addHandler(logging.NullHandler())
        logging.getLogger("apprise").propagate = False
        self._services = [_service(number, url) for number, url in enumerate(urls, 1)]
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, name="notify", daemon=True)] if self._services else []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closing.set()
        self._messages.put(None)
        for thread in self._threads:
            thread.join(LAST_WAIT)

    def send(self, message: Message) -> None:
        self._messages.put(message)

    def _go_on(self) -> None:
        while message := self._messages.get():
            unsent = [service for service in self._services if not _sent(service, message)]
            if unsent:
                logger.warning("a message could not be sent to all of AUTOFLOW_NOTIFY_URLS: '%s'", message.title)
            for seconds in RETRY_SECONDS:
                if not unsent or self._closing.wait(seconds):
                    break
                unsent = [service for service in unsent if not _sent(service, message)]


def _service(number: int, url: str) -> apprise.Apprise:
    service = apprise.Apprise()
    if not service.add(url):
        # Without the URL, which is a secret.
        raise SettingsError([f"AUTOFLOW_NOTIFY_URLS: number {number} is not a URL that Apprise knows"])
    return service


def _sent(service: apprise.Apprise, message: Message) -> bool:
    try:
        return bool(service.notify(title=message.title, body=message.body, notify_type=message.kind))
    except Exception:  # noqa: BLE001 - a plugin of Apprise's may raise anything, which holds its URL
        return False


def _notice(key: RunKey) -> str:
    return f"{key.workflow} {key.parameters_hash[:16]} {key.reference_date.isoformat()}"


def _failure(ended: EndedRun, settings: Settings) -> str:
    """Say why a run failed, and where to look."""
    attempts = ended.run.failures + 1
    lines = [f"It failed in {'its only attempt' if attempts == 1 else f'all of its {attempts} attempts'}."]
    lines.append(" ".join(str(ended.outcome.error or "").split())[:LONGEST_REASON])
    lines += [f"The executed notebook: {settings.address_of(path)}" for path in ended.failed_notebooks]
    return "\n".join(lines)

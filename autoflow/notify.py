"""Notifies people through Apprise when runs are given up or FlowAPI keeps failing, and when that is over."""

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
from autoflow.log import Outage, logger
from autoflow.runs.records import RunKey, utc_now
from autoflow.runs.run import EndedRun
from autoflow.settings import Settings
from autoflow.stop_signal import PeriodicThread
from autoflow.utils import redact, whole_file

NOTICES_FILE = "notices.json"
"""The file in the outputs folder that lists past notifications, so that none is repeated after a restart."""

RETRY_SECONDS = (10.0, 60.0, 300.0)
"""The pauses before each retry of a message that could not be sent."""

LONGEST_REASON = 1000
"""The longest excerpt from an error in a message, in characters."""

MOST_LISTED = 20
"""The highest number of runs that are listed in one message."""


@dataclass(frozen=True)
class Message:
    """A notification without secrets."""

    title: str
    body: str
    kind: apprise.NotifyType


class Notifier:
    """Sends each notification once, in the background, for the duration of the `with` block.

    Without URLs it does nothing.

    Raises
    ------
    SettingsError
        If Apprise does not support one of the URLs.

    """

    def __init__(self, settings: Settings, *, clock: Callable[[], datetime.datetime] = utc_now) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._notices = _Notices(settings)
        self._sender = _Sender([url.get_secret_value() for url in settings.notify_urls])

    def __enter__(self) -> Self:
        """Start to send messages."""
        self._sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Send the remaining messages, each at most once."""
        self._sender.close()

    def run_ended(self, ended: EndedRun) -> None:
        """Notify people if the run was given up, or if it succeeded after that."""
        if ended.is_given_up:
            # Again if it was given up before: someone has asked for a retry since.
            self._notify_given_up([ended.run.key], _failure(ended, self._settings), again=True)
        elif ended.state.is_success:
            self._notify_recovered(ended)

    def given_up(self, keys: Iterable[RunKey]) -> None:
        """Notify people of those `keys` that are new among all given-up runs, such as crashed ones."""
        self._notify_given_up(keys, "AutoFlow will not retry on its own. See the log or Prefect's UI for the reason.")

    def flowapi_failed(self, error: FlowApiError) -> None:
        """Notify people once FlowAPI, or the token, has been failing for AUTOFLOW_NOTIFY_AFTER."""
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
        self._send("AutoFlow: FlowAPI is failing", body, apprise.NotifyType.FAILURE)

    def flowapi_works(self) -> None:
        """Notify people that FlowAPI works again if they know that it was failing."""
        if not self._settings.notify_urls:
            return
        with self._lock, self._notices.changing() as notices:
            since = notices.pop("flowapi_failing_since", None)
            was_notified = notices.pop("flowapi_told", False)
        if was_notified:
            body = f"FlowAPI works again. It had been failing since {since[:16].replace('T', ' ')} UTC."
            self._send("AutoFlow: FlowAPI works again", body, apprise.NotifyType.SUCCESS)

    def _notify_given_up(self, keys: Iterable[RunKey], why: str, *, again: bool = False) -> None:
        if not self._settings.notify_urls:
            return
        with self._lock, self._notices.changing() as notices:
            known = notices["given_up"]
            new = {_notice(key): key for key in keys if again or _notice(key) not in known}
            notices["given_up"] = list(dict.fromkeys([*known, *new]))
        if not new:
            return
        names = [str(key) for key in new.values()]
        title = f"{names[0]} was given up" if len(names) == 1 else f"{len(names)} runs were given up"
        listed = [*names[:MOST_LISTED], *(["…"] if len(names) > MOST_LISTED else [])]
        body = why if len(names) == 1 else f"{why}\n" + "\n".join(listed)
        self._send(f"AutoFlow: {title}", body, apprise.NotifyType.FAILURE)

    def _notify_recovered(self, ended: EndedRun) -> None:
        if not self._settings.notify_urls:
            return
        notice = _notice(ended.run.key)
        with self._lock, self._notices.changing() as notices:
            was_notified = notice in notices["given_up"]
            if was_notified:
                notices["given_up"].remove(notice)
        if not was_notified:
            return
        body = "It had been given up before.\n" + "\n".join(map(self._settings.address_of, ended.paths))
        self._send(f"AutoFlow: {ended.run} succeeded", body, apprise.NotifyType.SUCCESS)

    def _send(self, title: str, body: str, kind: apprise.NotifyType) -> None:
        secrets = self._settings.secrets
        self._sender.send(Message(redact(title, secrets), redact(body, secrets), kind))


class _Notices:
    """The past notifications, in a file that is replaced atomically."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.outputs_dir / NOTICES_FILE
        self._outage = Outage()

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Yield the notices, and write them at the end of the block if they have changed."""
        notices = self._read()
        before = json.dumps(notices)
        yield notices
        if json.dumps(notices) != before:
            self._write(notices)

    def _read(self) -> dict[str, Any]:
        # Read each time, because an `autoflow run` in another process may have changed it.
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            # If the file is missing or broken, messages are sent again, which is better than not at all.
            found = None
        return _sound(found if isinstance(found, dict) else {})

    def _write(self, notices: dict[str, Any]) -> None:
        try:
            with whole_file(self._file) as unfinished:
                unfinished.write_text(json.dumps(notices), encoding="utf-8")
        except OSError as error:
            self._outage.begin("could not write %s: %s", self._file, error.strerror)
        else:
            self._outage.end("wrote %s again", self._file)


def _sound(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the valid part of the file's content."""
    given_up = found.get("given_up")
    notices: dict[str, Any] = {"given_up": []}
    if isinstance(given_up, list):
        notices["given_up"] = [each for each in given_up if isinstance(each, str)]
    with suppress(KeyError, TypeError, ValueError):
        since = datetime.datetime.fromisoformat(found["flowapi_failing_since"]).replace(tzinfo=None)
        notices |= {"flowapi_failing_since": since.isoformat(), "flowapi_told": found.get("flowapi_told") is True}
    return notices


class _Sender:
    """Sends messages one after the other, each to all URLs, with retries for those that fail."""

    def __init__(self, urls: Iterable[str]) -> None:
        # Apprise would log to stderr, with parts of URLs.
        logging.getLogger("apprise").addHandler(logging.NullHandler())
        logging.getLogger("apprise").propagate = False
        self._services = [_service(number, url) for number, url in enumerate(urls, 1)]
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._thread = PeriodicThread("notify", self._send_all, also_at_end=True)

    def start(self) -> None:
        if self._services:
            self._thread.__enter__()

    def close(self) -> None:
        if self._services:
            self._thread.__exit__()

    def send(self, message: Message) -> None:
        self._messages.put(message)
        self._thread.wake()

    def _send_all(self) -> None:
        while not self._messages.empty():
            self._send(self._messages.get())

    def _send(self, message: Message) -> None:
        unsent = [service for service in self._services if not _sent(service, message)]
        if unsent:
            logger.warning("could not send a message to all of AUTOFLOW_NOTIFY_URLS: '%s'", message.title)
        for seconds in RETRY_SECONDS:
            if not unsent or self._thread.pause(seconds):
                break
            unsent = [service for service in unsent if not _sent(service, message)]


def _service(number: int, url: str) -> apprise.Apprise:
    service = apprise.Apprise()
    if not service.add(url):
        # Without the URL, which is a secret.
        raise SettingsError([f"AUTOFLOW_NOTIFY_URLS: number {number} is not a URL that Apprise supports"])
    return service


def _sent(service: apprise.Apprise, message: Message) -> bool:
    try:
        return bool(service.notify(title=message.title, body=message.body, notify_type=message.kind))
    except Exception:  # noqa: BLE001 - Apprise's plugins may raise anything, with their URL in it
        return False


def _notice(key: RunKey) -> str:
    return f"{key.workflow} {key.parameters_hash[:16]} {key.reference_date.isoformat()}"


def _failure(ended: EndedRun, settings: Settings) -> str:
    """Return why a run failed, and where to look."""
    attempts = ended.run.failures + 1
    lines = ["Its only attempt failed." if attempts == 1 else f"All {attempts} attempts failed."]
    # Before it is cut: a part of a secret could not be found later.
    reason = redact(" ".join(str(ended.outcome.error or "").split()), settings.secrets)
    lines.append(reason[:LONGEST_REASON])
    lines += [f"Executed notebook: {settings.address_of(path)}" for path in ended.failed_notebooks]
    return "\n".join(lines)

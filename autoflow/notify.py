"""Notifies people through Apprise when a run is given up or something else needs attention, and when that is over."""

import datetime
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import apprise

from autoflow.dates.periods import Every
from autoflow.errors import SettingsError
from autoflow.runs.attention import Attention, Condition, Need, as_text, stuck_condition
from autoflow.runs.changes import Change
from autoflow.runs.naming import run_name
from autoflow.runs.records import RunKey, RunRecord, utc_now
from autoflow.runs.run import EndedRun
from autoflow.runs.statuses import in_ranges
from autoflow.runs.stuck import StuckRun
from autoflow.settings import Settings
from autoflow.specs import TriggerSpec
from autoflow.system.log import Outage, logger
from autoflow.system.stop_signal import PeriodicThread
from autoflow.utils import redact, whole_file

NOTICES_FILE = "notices.json"
"""The file in the outputs folder that lists past notifications, so that none is repeated after a restart."""

RETRY_SECONDS = (10.0, 60.0, 300.0)
"""The pauses before each retry of a message that could not be sent."""

LONGEST_REASON = 1000
"""The longest excerpt from an error in a message, in characters."""

LONGEST_TITLE = 200
"""The longest title of a message, in characters."""

MOST_LISTED = 20
"""The highest number of runs that are listed in one message."""

NOT_RETRIED = "AutoFlow will not retry on its own; 'autoflow retry' does."

NOT_RERUN = "AutoFlow will not run it again on its own; 'autoflow run --force' does."


@dataclass(frozen=True)
class Message:
    """A notification without secrets."""

    title: str
    body: str
    kind: apprise.NotifyType


class Notifier:
    """Sends each notification once, in the background, for the duration of the `with` block.

    Without URLs it does nothing. `last_run` returns the newest run of a date, which has the reason why it failed.

    Raises
    ------
    SettingsError
        If Apprise does not support one of the URLs.

    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], datetime.datetime] = utc_now,
        last_run: Callable[[RunKey], RunRecord | None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._last_run = last_run
        self._triggers: Sequence[TriggerSpec] = ()
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

    @property
    def counts(self) -> tuple[int, int]:
        """How many messages were sent, and how many attempts to send one failed, to each service."""
        return self._sender.sent, self._sender.failed

    def follow(self, triggers: Sequence[TriggerSpec]) -> None:
        """Use the sensor's entries from now on to distinguish runs of the same workflow in messages."""
        self._triggers = triggers

    def run_ended(self, ended: EndedRun) -> None:
        """Notify people if the run was given up, or if it succeeded after that."""
        if ended.is_given_up:
            # Again if it was given up before: someone has asked for a retry since.
            hint = NOT_RERUN if ended.run.is_rerun else NOT_RETRIED
            self._notify_given_up({ended.run.key: _failure(ended, self._settings)}, again=True, hint=hint)
        elif ended.state.is_success:
            self._notify_recovered(ended)

    def given_up(self, keys: Iterable[RunKey]) -> None:
        """Notify people of those `keys` that are new among all given-up runs, such as crashed ones."""
        self._notify_given_up(dict.fromkeys(keys))

    def days_changed(self, changes: Iterable[Change]) -> None:
        """Notify people of those `changes` that are new, in one message."""
        if not self._settings.notify_urls:
            return
        with self._lock, self._notices.changing() as notices:
            known = notices["changes"]
            new = [each for each in changes if known.get(_notice(each.key), "") < each.time.isoformat()]
            known |= {_notice(each.key): each.time.isoformat() for each in new}
        if not new:
            return
        names = [run_name(each.key, self._triggers) for each in new]
        lines = [f"{name}: {in_ranges(each.days)}" for name, each in zip(names, new, strict=True)]
        more = f" and {len(new) - 1} more" if len(new) > 1 else ""
        first = "Days that have arrived or changed since the run started:"
        body = f"{first}\n\n{_list(lines)}\n\n{NOT_RERUN}"
        self._send(f"AutoFlow: the data of {names[0]}{more} has changed", body, apprise.NotifyType.WARNING)

    def attend(self, attention: Attention) -> None:
        """Notify people of each condition that is new, and of each that is over.

        Whichever process executes a run notifies people that it is stuck.
        """
        self._notify_of([each for each in attention.conditions if each.need is not Need.STUCK], attention.is_over)

    def runs_are_stuck(self, runs: Iterable[StuckRun]) -> None:
        """Notify people that runs of this process are stuck."""
        name = partial(run_name, triggers=self._triggers)
        self._notify_of([stuck_condition(run, name) for run in runs])

    def _notify_of(self, conditions: Iterable[Condition], is_over: Callable[[str], bool] = lambda _: False) -> None:
        if not self._settings.notify_urls:
            return
        with self._lock, self._notices.changing() as notices:
            known = notices["conditions"]
            new = [each for each in conditions if each.key not in known and not each.is_warning]
            known |= {each.key: _notice_of(each, self._clock()) for each in new}
            over = {key: known.pop(key) for key in list(known) if is_over(key)}
        if new:
            self._send(_title(new), _list(map(_described, new)), apprise.NotifyType.FAILURE)
        for key, notice in over.items():
            self._send(*_recovery(key, notice), apprise.NotifyType.SUCCESS)

    def _notify_given_up(
        self, runs: Mapping[RunKey, Sequence[str] | None], *, again: bool = False, hint: str = NOT_RETRIED
    ) -> None:
        """Notify people of the new ones of `runs`, each with the reason and the links, or None to look them up."""
        if not self._settings.notify_urls:
            return
        with self._lock, self._notices.changing() as notices:
            known = notices["given_up"]
            new = {_notice(key): key for key in runs if again or _notice(key) not in known}
            notices["given_up"] = list(dict.fromkeys([*known, *new]))
        if not new:
            return
        names = {key: run_name(key, self._triggers) for key in new.values()}
        why = {key: runs[key] or self._why(key) for key in list(names)[:MOST_LISTED]}
        title, more = next(iter(names.values())), len(names) - 1
        if more:
            title += f" and {more} more"
            body = _list("\n".join([names[key], *why.get(key, ())]) for key in names)
        else:
            body = "\n".join(*why.values())
        was = "were" if more else "was"
        self._send(f"AutoFlow: {title} {was} given up", f"{body}\n{hint}", apprise.NotifyType.FAILURE)

    def _why(self, key: RunKey) -> list[str]:
        """Return why the last run of a date failed, and where its notebooks are."""
        record = self._last_run(key)
        if record is None or record.error is None:
            return ["See the log or Prefect's UI for the reason."]
        error = record.error
        paths = [Path(each["notebook"]) for label, each in record.outputs.items() if error.notebook in {None, label}]
        cells = [(path, error.cell) for path in paths if error.cell and error.notebook]
        return [_excerpt(str(error), self._settings), *_links(paths, cells, self._settings)]

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
        name = run_name(ended.run.key, self._triggers)
        self._send(f"AutoFlow: {name} succeeded", body, apprise.NotifyType.SUCCESS)

    def _send(self, title: str, body: str, kind: apprise.NotifyType) -> None:
        secrets = self._settings.secrets
        # Redact before the text is cut, because a cut secret would not be found.
        self._sender.send(Message(redact(title, secrets)[:LONGEST_TITLE], redact(body, secrets), kind))


class _Notices:
    """The past notifications, in a file that is replaced atomically."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.outputs_dir / NOTICES_FILE
        self._unwritten: dict[str, Any] | None = None
        self._outage = Outage()

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Yield the notices, and write them at the end of the block if they have changed."""
        notices = self._read()
        before = json.dumps(notices)
        yield notices
        if json.dumps(notices) != before or self._unwritten is not None:
            self._write(notices)

    def _read(self) -> dict[str, Any]:
        if self._unwritten is not None:
            return self._unwritten
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
            # On a full disk, people are still notified only once.
            self._unwritten = notices
            self._outage.begin("could not write %s: %s", self._file, error.strerror)
        else:
            self._unwritten = None
            self._outage.end("wrote %s again", self._file)


def _sound(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the valid part of the file's content."""
    given_up, conditions, changes = (found.get(name) for name in ("given_up", "conditions", "changes"))
    notices: dict[str, Any] = {"given_up": [], "conditions": {}, "changes": {}}
    if isinstance(given_up, list):
        notices["given_up"] = [each for each in given_up if isinstance(each, str)]
    if isinstance(conditions, dict):
        notices["conditions"] = {key: str(notice) for key, notice in conditions.items()}
    if isinstance(changes, dict):
        notices["changes"] = {key: str(time) for key, time in changes.items()}
    if found.get("flowapi_told") is True:  # written by an older version
        notices["conditions"].setdefault(Need.FLOWAPI.name.lower(), "")
    return notices


class _Sender:
    """Sends messages one after the other, each to all URLs, with retries for those that fail."""

    def __init__(self, urls: Iterable[str]) -> None:
        # Apprise would log to stderr, with parts of URLs.
        logging.getLogger("apprise").addHandler(logging.NullHandler())
        logging.getLogger("apprise").propagate = False
        self.sent = self.failed = 0
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
        unsent = self._unsent(self._services, message)
        if unsent:
            logger.warning("could not send a message to all of AUTOFLOW_NOTIFY_URLS: '%s'", message.title)
        for seconds in RETRY_SECONDS:
            if not unsent or self._thread.pause(seconds):
                break
            unsent = self._unsent(unsent, message)

    def _unsent(self, services: Sequence[apprise.Apprise], message: Message) -> list[apprise.Apprise]:
        """Send `message` to `services`; return those to which that failed."""
        unsent = [service for service in services if not _sent(service, message)]
        self.sent += len(services) - len(unsent)
        self.failed += len(unsent)
        return unsent


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
    every = "" if key.every is Every.DAY else f" {key.every}"
    return f"{key.workflow} {key.parameters_hash[:16]} {key.reference_date.isoformat()}{every}"


def _notice_of(condition: Condition, now: datetime.datetime) -> str:
    """Return the text for the message that the condition is over: what it was, and since when."""
    return f"{condition.reason.splitlines()[0]} (since {as_text(condition.since or now)})"


def _title(conditions: Sequence[Condition]) -> str:
    if conditions[0].need is Need.STUCK:
        title, more = _stuck_run(conditions[0].reason), len(conditions) - 1
        return f"AutoFlow: {title} and {more} more seem stuck" if more else f"AutoFlow: {title} seems stuck"
    return "AutoFlow: " + "; ".join(dict.fromkeys(condition.need.headline for condition in conditions))


def _stuck_run(text: str) -> str:
    """Return the name of the run in the reason, or the notice, that it is stuck."""
    return text.partition(" seems stuck")[0]


def _described(condition: Condition) -> str:
    since = f"Since {as_text(condition.since)}." if condition.since else ""
    hint = f"{condition.what_to_do[:1].upper()}{condition.what_to_do[1:]}." if condition.what_to_do else ""
    return "\n".join(line for line in (f"{condition.reason}.", *condition.details, since, hint) if line)


def _recovery(key: str, notice: str) -> tuple[str, str]:
    """Return the title and the body of the message that a condition is over."""
    need = Need[key.partition(" ")[0].upper()]
    body = f"Before: {notice}" if notice else "It had been failing."
    return f"AutoFlow: {f'{_stuck_run(notice)} is ' if need is Need.STUCK else ''}{need.over}", body


def _list(texts: Iterable[str]) -> str:
    """Return at most `MOST_LISTED` texts, an empty line between two."""
    texts = list(texts)
    more = len(texts) - MOST_LISTED
    return "\n\n".join([*texts[:MOST_LISTED], *([f"… and {more} more"] if more > 0 else [])])


def _excerpt(text: str, settings: Settings) -> str:
    """Return the beginning of an error on one line, without secrets: a secret that is cut would not be found later."""
    return redact(" ".join(text.split()), settings.secrets)[:LONGEST_REASON]


def _links(notebooks: Iterable[Path], cells: Iterable[tuple[Path, int]], settings: Settings) -> list[str]:
    """Return a line for each cell that failed, and for each executed notebook."""
    lines = [f"Cell {cell}: {settings.address_of_cell(path, cell)}" for path, cell in cells]
    return [*lines, *(f"Executed notebook: {settings.address_of(path)}" for path in notebooks)]


def _failure(ended: EndedRun, settings: Settings) -> list[str]:
    """Return why a run failed, and where to look."""
    attempts = ended.run.failures + 1
    lines = ["Its only attempt failed." if attempts == 1 else f"All {attempts} attempts failed."]
    if ended.run.is_rerun:
        lines.append(f"{in_ranges(ended.run.changed)} arrived or changed after the last run, whose report stays.")
    lines.append(_excerpt(str(ended.outcome.error or ""), settings))
    return lines + _links(ended.failed_notebooks, ended.failed_cells, settings)

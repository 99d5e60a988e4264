"""Notifies people when a run is given up or something else needs attention, and when that is over: once each."""

import datetime
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import apprise

from autoflow.errors import RunStoreError
from autoflow.messages.conditions import Known, key_of, news
from autoflow.messages.failures import Failures
from autoflow.messages.fields import fields_of
from autoflow.messages.message import Message
from autoflow.messages.notices_file import NoticesFile
from autoflow.messages.postbox import Postbox
from autoflow.messages.recipients import Recipients
from autoflow.messages.sender import Counts, Sender
from autoflow.messages.texts import described, listed, notice_of, recovery, title_of
from autoflow.model.messages import MessageStore, Topic
from autoflow.model.store import RunStore
from autoflow.runs.attention import Attention, Condition, Need, stuck_condition
from autoflow.runs.changes import Change
from autoflow.runs.naming import run_name
from autoflow.runs.records import RunKey, utc_now
from autoflow.runs.run import EndedRun
from autoflow.runs.stuck import StuckRun
from autoflow.settings import Settings
from autoflow.specs import TriggerSpec
from autoflow.system.log import Outage
from autoflow.system.stop_signal import PeriodicThread

LOOK_SECONDS = 2.0
"""How often the notifier checks whether it has something to do, which is quick if it has not."""

COLLECTED_SECONDS = 30.0
"""How long after the first of several failures one message is made of them all."""


@dataclass
class _News:
    """What has happened since the last look."""

    given_up: dict[RunKey, EndedRun | None] = field(default_factory=dict)
    since: float = 0.0
    succeeded: dict[RunKey, EndedRun] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    attentions: list[Attention] = field(default_factory=list)
    stuck: list[Condition] = field(default_factory=list)


class Notifier:
    """Sends each notification once, in the background, for the duration of the `with` block.

    Without URLs it does nothing. Other daemons with the same `store` send nothing that this one has sent. Without a
    store, or while it fails, conditions are recorded in a file. Failures at about the same time make one message.

    Raises
    ------
    SettingsError
        If Apprise does not support one of the URLs.

    """

    def __init__(
        self,
        settings: Settings,
        store: RunStore | None,
        *,
        clock: Callable[[], datetime.datetime] = utc_now,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._timer = timer
        self._triggers: Sequence[TriggerSpec] = ()
        self._messages = MessageStore(store) if store else None
        recipients = Recipients(settings)
        self.postbox = Postbox(settings, recipients)
        self._failures = Failures(settings, store, self.postbox) if store else None
        self._sender = Sender(recipients, self._messages)
        self._file = NoticesFile(settings)
        self._host = socket.gethostname()
        self._daemon = f"{self._host}:{settings.prefect_home}"
        self._last_known: Known = {}
        self._lock = threading.Lock()
        self._news = _News()
        self._is_ending = False
        self._outage = Outage()
        self._threads = ExitStack()
        self._thread = PeriodicThread("messages", self.look, LOOK_SECONDS, also_at_end=True)

    def __enter__(self) -> Self:
        """Start to send messages."""
        if self.postbox.is_used:
            self._threads.enter_context(self._sender)
            self._threads.enter_context(self._thread)
            self._threads.callback(self._end)
        return self

    def __exit__(self, *_: object) -> None:
        """Try to send what is left; what cannot be sent stays in the run store."""
        self._threads.close()

    def _end(self) -> None:
        self._is_ending = True

    @property
    def counts(self) -> Counts:
        """How many messages this process has sent, and how many attempts failed."""
        return self._sender.counts

    def wake(self) -> None:
        """Send soon what was posted."""
        self._sender.wake()

    def follow(self, triggers: Sequence[TriggerSpec]) -> None:
        """Use the sensor's entries from now on to distinguish runs of the same workflow in messages."""
        self._triggers = triggers

    def run_ended(self, ended: EndedRun) -> None:
        """Notify people if the run was given up, or if it succeeded after that."""
        if ended.is_given_up:
            self._add_given_up({ended.run.key: ended})
        elif ended.state.is_success:
            with self._lock:
                self._news.succeeded[ended.run.key] = ended
                self._news.given_up.pop(ended.run.key, None)
            self._thread.wake()

    def given_up(self, keys: Iterable[RunKey]) -> None:
        """Notify people of those `keys` that are new among all given-up runs, such as crashed ones."""
        self._add_given_up(dict.fromkeys(keys))

    def days_changed(self, changes: Iterable[Change]) -> None:
        """Notify people of those `changes` that are new, in one message."""
        with self._lock:
            self._news.changes = (*self._news.changes, *changes)
        self._thread.wake()

    def attend(self, attention: Attention) -> None:
        """Notify people of each condition that is new, and of each that is over.

        Whichever process executes a run notifies people that it is stuck.
        """
        with self._lock:
            self._news.attentions.append(attention)
        self._thread.wake()

    def runs_are_stuck(self, runs: Iterable[StuckRun]) -> None:
        """Notify people that runs of this process are stuck."""
        name = partial(run_name, triggers=self._triggers)
        with self._lock:
            self._news.stuck += [stuck_condition(run, name) for run in runs]
        self._thread.wake()

    def _add_given_up(self, runs: Mapping[RunKey, EndedRun | None]) -> None:
        with self._lock:
            given_up = self._news.given_up
            if runs and not given_up:
                self._news.since = self._timer()
            given_up |= {key: ended for key, ended in runs.items() if ended or key not in given_up}
        self._thread.wake()

    def look(self) -> None:
        """Record what has happened, and have people notified of what is new."""
        happened = self._taken()
        if self._messages and self._failures:
            try:
                self._move_file(self._messages)
                self._record(self._messages, self._failures, happened)
            except RunStoreError as error:
                self._outage.begin("could not record messages: %s", error)
                self._put_back(happened)
            else:
                self._outage.end("messages can be recorded again")
                self._sender.wake()
                return
        for attention in happened.attentions:
            self._notify_without_store(attention)

    def _taken(self) -> _News:
        with self._lock:
            happened, self._news = self._news, _News()
            if not self._is_ending and self._timer() < happened.since + COLLECTED_SECONDS:
                self._news.given_up, self._news.since = happened.given_up, happened.since
                happened.given_up = {}
        return happened

    def _put_back(self, happened: _News) -> None:
        """Try again later what could not be recorded, apart from conditions, which are found again."""
        with self._lock:
            self._news.given_up = happened.given_up | self._news.given_up
            self._news.succeeded = happened.succeeded | self._news.succeeded
            self._news.changes = (*happened.changes, *self._news.changes)
            self._news.stuck = [*happened.stuck, *self._news.stuck]

    def _move_file(self, messages: MessageStore) -> None:
        if self._file.is_there:
            with messages.writing() as record:
                self._file.move_into(record, daemon=self._daemon, host=self._host)
            self._file.put_aside()

    def _record(self, messages: MessageStore, failures: Failures, happened: _News) -> None:
        failures.triggers = self._triggers
        if happened.stuck:
            self._notify(messages, happened.stuck)
            happened.stuck = []
        while happened.attentions:
            found = happened.attentions[0]
            # The process that executes a run notifies people that it is stuck.
            self._notify(messages, (each for each in found.conditions if each.need is not Need.STUCK), found)
            happened.attentions.pop(0)
        if happened.succeeded:
            failures.succeeded(happened.succeeded)
            happened.succeeded = {}
        if happened.given_up:
            failures.given_up(happened.given_up)
            happened.given_up = {}
        if happened.changes:
            failures.changed(happened.changes)
            happened.changes = ()

    def _notify(
        self, messages: MessageStore, conditions: Iterable[Condition], attention: Attention | None = None
    ) -> None:
        """Notify people of those `conditions` that are new and of those that are over, according to `attention`."""
        find = partial(
            news, tuple(conditions), is_over=partial(_is_over, attention), daemon=self._daemon, host=self._host
        )
        with messages.reading() as record:
            known = record.known(Topic.CONDITION)
            if not find(known, now=record.now).is_any:
                self._last_known = known
                return
        with messages.writing() as record:
            found = find(record.known(Topic.CONDITION), now=record.now)
            notices = {key: notice_of(each, self._clock()) for key, each in found.seen.items()}
            record.note(Topic.CONDITION, notices, daemon=self._daemon)
            record.forget(Topic.CONDITION, found.over)
            record.forget(Topic.CONDITION, found.gone, daemon=self._daemon)
            for message in _about(found.new, found.over):
                self.postbox.post(record, message)
            known = record.known(Topic.CONDITION)
        # Only now is it recorded.
        self._last_known = known

    def _notify_without_store(self, attention: Attention) -> None:
        """Notify people of new conditions although the run store fails, or there is none."""
        known = {*self._last_known, *self._file.conditions}
        conditions = {key_of(each, self._host): each for each in attention.conditions if not each.is_warning}
        new = {key: each for key, each in conditions.items() if key not in known and each.need is not Need.STUCK}
        if new:
            self._file.add({key: notice_of(each, self._clock()) for key, each in new.items()})
        for message in _about(tuple(new.values()), {}):
            self._sender.send_unrecorded(self.postbox.without_secrets(message))


def _is_over(attention: Attention | None, key: str) -> bool:
    need = key.partition(" ")[0]
    # The keys of disks name their host.
    return attention is not None and attention.is_over(need if need == Need.DISK.name.lower() else key)


def _about(new: Sequence[Condition], over: Mapping[str, str]) -> Iterator[Message]:
    """Yield the message about conditions that are new, and one for each that is over."""
    if new:
        body = listed(map(described, new))
        yield Message(title=title_of(new), body=body, kind=apprise.NotifyType.FAILURE, fields=fields_of("failing"))
    for key, text in over.items():
        title, body = recovery(key, text)
        yield Message(title=title, body=body, kind=apprise.NotifyType.SUCCESS, fields=fields_of("works again"))

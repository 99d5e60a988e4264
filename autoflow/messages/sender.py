"""Sends the messages that the run store holds, in the background, again and again for a day if need be."""

import datetime as dt
import queue
from collections import Counter
from dataclasses import dataclass
from typing import Self

from autoflow.errors import RunStoreError
from autoflow.messages.message import Message
from autoflow.messages.recipients import Recipients
from autoflow.model.messages import Delivery, MessageStore
from autoflow.settings import UNNAMED
from autoflow.system.log import Outage, logger
from autoflow.system.stop_signal import PeriodicThread

RETRY_PAUSES = tuple(dt.timedelta(seconds=seconds) for seconds in (10, 60, 300, 900, 1800))
"""The pauses before a message that could not be sent is tried again; the last one repeats."""

RETRIED_FOR = dt.timedelta(days=1)
"""How long a message is tried again."""

KEPT_FOR = 2 * RETRIED_FOR
"""How long a message is kept whose recipient has no URL any more."""

LEASE = dt.timedelta(minutes=10)
"""How long sending a message to one URL may take before another process tries."""

LOOK_SECONDS = 5.0
"""How often messages are looked for that are to be tried again, which costs one query."""


LAST_SECONDS = 20.0
"""How long AutoFlow waits at its end for messages to be sent; the next start sends the others."""


@dataclass
class Counts:
    """What this process has done, for each URL: messages sent, attempts that failed, and messages given up."""

    sent: int = 0
    failed: int = 0
    given_up: int = 0


class Sender:
    """Sends messages one after the other, in a thread of its own, for the duration of the `with` block."""

    def __init__(self, recipients: Recipients, store: MessageStore | None) -> None:
        self.counts = Counts()
        self._recipients = recipients
        self._store = store
        self._unrecorded: queue.SimpleQueue[Message] = queue.SimpleQueue()
        # Those that were sent, and that the database could not remove yet.
        self._sent: set[int] = set()
        self._outages: dict[tuple[str, int], Outage] = {}
        self._store_outage = Outage()
        self._thread = PeriodicThread(
            "messages-sender", self.send_due, LOOK_SECONDS, also_at_end=True, last_wait=LAST_SECONDS
        )

    def __enter__(self) -> Self:
        """Start to send."""
        if self._recipients.numbers:
            self._thread.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Try what is due once more; the rest stays in the run store for the next process."""
        if self._recipients.numbers:
            self._thread.__exit__()

    def wake(self) -> None:
        """Send soon."""
        self._thread.wake()

    def send_unrecorded(self, message: Message) -> None:
        """Send a message to the URLs without a name, although it cannot be recorded: the database fails."""
        self._unrecorded.put(message)
        self._thread.wake()

    def send_due(self) -> None:
        """Send all messages that are due, each at most once."""
        self._send_unrecorded()
        if self._store is None:
            return
        try:
            while delivery := self._next(self._store):
                self._send(self._store, delivery)
        except RunStoreError as error:
            self._store_outage.begin("could not look for messages to send: %s", error)
        else:
            self._store_outage.end("messages can be sent again")

    def _next(self, store: MessageStore) -> Delivery | None:
        numbers = self._recipients.numbers
        with store.reading() as record:
            if not record.is_due(numbers):
                return None
        try:
            with store.writing() as record:
                for recipient, number in Counter(record.remove_before(record.now - KEPT_FOR, numbers)).items():
                    logger.error(
                        "gave up on %d messages to %s, who has no URL any more",
                        number,
                        recipient or "URLs without a name",
                    )
                return record.take(numbers, LEASE)
        except RunStoreError:
            # On a full disk, people still get the message that it is full.
            with store.reading() as record:
                own = record.own(numbers, without=self._sent)
            if own is None:
                raise
            return own

    def _send(self, store: MessageStore, delivery: Delivery) -> None:
        message = Message.of_json(delivery.content)
        is_sent = delivery.id in self._sent or self._recipients.send(message, delivery.recipient, delivery.number)
        if is_sent:
            self._sent.add(delivery.id)
        with store.writing() as record:
            is_over = is_sent or record.now - delivery.created_at >= RETRIED_FOR
            if is_over:
                record.remove(delivery)
            else:
                pause = RETRY_PAUSES[min(delivery.attempts, len(RETRY_PAUSES) - 1)]
                record.postpone(delivery, min(record.now + pause, delivery.created_at + RETRIED_FOR))
        self._sent.discard(delivery.id)
        self._log(message, delivery, is_sent=is_sent, is_over=is_over)
        self._count(is_sent=is_sent)
        self.counts.given_up += is_over and not is_sent

    def _log(self, message: Message, delivery: Delivery, *, is_sent: bool, is_over: bool) -> None:
        """Log the first failure of a URL, and each message that is given up."""
        to = self._recipients.shown(delivery.recipient, delivery.number)
        outage = self._outages.setdefault((delivery.recipient, delivery.number), Outage())
        if is_sent:
            outage.end("messages to %s can be sent again", to)
        elif is_over:
            logger.error("could not send a message to %s for a day, and gave up: '%s'", to, message.title)
        else:
            outage.begin("could not send a message to %s, trying again for a day: '%s'", to, message.title)

    def _send_unrecorded(self) -> None:
        while not self._unrecorded.empty():
            message = self._unrecorded.get()
            for number in range(1, self._recipients.numbers.get(UNNAMED, 0) + 1):
                is_sent = self._recipients.send(message, UNNAMED, number)
                if not is_sent:
                    to = self._recipients.shown(UNNAMED, number)
                    logger.warning("could not send a message to %s: '%s'", to, message.title)
                self._count(is_sent=is_sent)

    def _count(self, *, is_sent: bool) -> None:
        self.counts.sent += is_sent
        self.counts.failed += not is_sent

"""Where messages are posted: each once for every URL of its recipients, without secrets."""

from collections.abc import Iterable
from dataclasses import replace

from autoflow.messages.message import LONGEST_TITLE, Message
from autoflow.messages.recipients import Recipients
from autoflow.model.messages import MessageRecord
from autoflow.settings import UNNAMED, Settings
from autoflow.utils import redact

NOBODY_ELSE = (UNNAMED,)
"""The recipients of messages about AutoFlow itself, and of failures of entries that name nobody."""


class Postbox:
    """Posts messages into the run store, from where they are sent in the background."""

    def __init__(self, settings: Settings, recipients: Recipients) -> None:
        self._settings = settings
        self._recipients = recipients

    @property
    def is_used(self) -> bool:
        """Whether there is a recipient at all."""
        return bool(self._recipients.numbers)

    def post(self, record: MessageRecord, message: Message, names: Iterable[str] = NOBODY_ELSE) -> None:
        """Have `message` sent to the recipients with these names; those without a URL here are left out."""
        content = self.without_secrets(message).as_json()
        for name in dict.fromkeys(names):
            record.post(name, range(1, self._recipients.numbers.get(name, 0) + 1), content)

    def without_secrets(self, message: Message) -> Message:
        """Return the message redacted; before its title is cut, because a cut secret would not be found."""
        secrets = self._settings.secrets
        title = " ".join(redact(message.title, secrets).split())
        title = title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1]}…"
        return replace(message, title=title, body=redact(message.body, secrets))

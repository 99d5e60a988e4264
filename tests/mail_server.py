"""A mail server on this machine."""

import email
import email.policy
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from autoflow.orchestration.prefect_api import free_port


@dataclass(frozen=True)
class MailServer:
    """Takes all mail. `mails` are those that have arrived."""

    port: int
    mails: "queue.Queue[EmailMessage]" = field(default_factory=queue.Queue)

    def url(self, to: str) -> str:
        """Return the URL by which Apprise sends mail to somebody."""
        return f"mailto://127.0.0.1:{self.port}?from=autoflow@example.org&to={to}&mode=insecure"

    def taken(self) -> list[EmailMessage]:
        """Return the mails that have arrived since the last call."""
        return [self.mails.get_nowait() for _ in range(self.mails.qsize())]

    async def handle_DATA(  # noqa: N802 - the library calls it by this name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.put(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """Run a mail server for the duration of the block."""
    server = MailServer(free_port())
    controller = Controller(server, hostname="127.0.0.1", port=server.port)
    controller.start()
    try:
        yield server
    finally:
        controller.stop()

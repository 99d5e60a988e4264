"""Those who get messages, and the services by which Apprise sends them."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import apprise
from apprise.attachment.file import AttachFile

from autoflow.errors import SettingsError
from autoflow.messages.fields import fields_of
from autoflow.messages.message import MOST_ATTACHED, Attachment, Message
from autoflow.settings import UNNAMED, Settings
from autoflow.settings.checks import name_and_url

_JSON = "jsons"
"""The protocol of the service whose messages are for programs."""


class Recipients:
    """The recipients in AUTOFLOW_NOTIFY_URLS.

    Raises
    ------
    SettingsError
        If Apprise does not support one of the URLs.

    """

    def __init__(self, settings: Settings) -> None:
        # Apprise would log to stderr, with parts of URLs.
        logging.getLogger("apprise").addHandler(logging.NullHandler())
        logging.getLogger("apprise").propagate = False
        self._urls = {name: [url.get_secret_value() for url in urls] for name, urls in settings.recipients.items()}
        _check(settings)

    @property
    def numbers(self) -> Mapping[str, int]:
        """How many URLs each recipient has."""
        return {name: len(urls) for name, urls in self._urls.items()}

    def shown(self, recipient: str, number: int) -> str:
        """Return one of the URLs of a recipient for people, without the URL itself."""
        number_of = f"URL {number} of {len(self._urls.get(recipient, ()))}"
        return f"{number_of} without a name" if recipient == UNNAMED else f"{recipient} ({number_of})"

    def send(self, message: Message, recipient: str, number: int) -> bool:
        """Send a message to one URL of a recipient, counted from 1; return whether the service has accepted it."""
        try:
            return _sent(self._urls[recipient][number - 1], message)
        except Exception:  # noqa: BLE001 - Apprise's plugins may raise anything, with their URL in it
            return False


def _check(settings: Settings) -> None:
    """Raise SettingsError if Apprise does not support one of the URLs."""
    for number, given in enumerate(settings.notify_urls, 1):
        _, url = name_and_url(given.get_secret_value())
        if not apprise.Apprise().add(url):
            # Without the URL, which is a secret.
            raise SettingsError([f"AUTOFLOW_NOTIFY_URLS: number {number} is not a URL that Apprise supports"])


def _sent(url: str, message: Message) -> bool:
    # The sender's name, where the URL gives none.
    service = apprise.Apprise(asset=apprise.AppriseAsset(app_id="AutoFlow", app_desc="AutoFlow"))
    service.add(url)
    (plugin,) = service
    if plugin.secure_protocol == _JSON:
        # Extra fields in the URL count.
        plugin.payload_extras = {**message.fields, **plugin.payload_extras}
    files, lines = _attached(message.attachments) if plugin.attachment_support else ((), _links(message.attachments))
    return bool(
        service.notify(
            title=message.title,
            body="\n".join(filter(None, (message.body, *lines))),
            notify_type=message.kind,
            body_format=apprise.NotifyFormat.TEXT,
            attach=list(map(_file, files)) or None,
        )
    )


def _file(path: Path) -> AttachFile:
    # Without the hash of the parameters and the time of the run, which end the names of outputs.
    name = f"{path.stem.rsplit('__', 2)[0]}{path.suffix}"
    return AttachFile(str(path), name=name)  # type: ignore[no-untyped-call]


def _attached(attachments: Iterable[Attachment]) -> tuple[Sequence[Path], Sequence[str]]:
    """Return the files to attach, and a line for each that is gone, or for which there is no room."""
    files: list[Path] = []
    lines: list[str] = []
    room = MOST_ATTACHED
    for each in attachments:
        size = _size(each.path)
        if size is not None and size <= room:
            files.append(each.path)
            room -= size
        else:
            lines.append(f"Too large to attach: {each.address}" if size else f"Report: {each.address}")
    return files, lines


def _links(attachments: Iterable[Attachment]) -> Sequence[str]:
    return [f"Report: {each.address}" for each in attachments]


def _size(path: Path) -> int | None:
    """Return the size of a file in bytes; None if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def sample_message(settings: Settings) -> Message:
    """Return a message by which people can see that messages arrive."""
    return Message(
        title="AutoFlow: test message",
        body=f"Messages from AutoFlow arrive here. It runs what is in {settings.inputs_dir}.",
        kind=apprise.NotifyType.INFO,
        fields=fields_of("test"),
    )

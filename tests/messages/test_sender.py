"""How messages are sent: again and again while a receiver is down, and by one of several processes."""

import base64
import datetime
import threading
from contextlib import closing
from pathlib import Path

import apprise
import pytest

from autoflow.messages.message import MOST_ATTACHED, Attachment, Message
from autoflow.messages.postbox import Postbox
from autoflow.messages.recipients import Recipients
from autoflow.messages.sender import Sender
from autoflow.model.messages import MessageStore
from autoflow.model.store import RunStore
from autoflow.settings import Settings
from tests.conftest import TOKEN_OF_NO_USE, Deployed
from tests.model.conftest import Clock
from tests.receiver import Receiver

# Apprise's own, as its plugins are imported.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

MINUTE, DAY = datetime.timedelta(minutes=1), datetime.timedelta(days=1)


@pytest.fixture
def settings(deployed: Deployed, receiver: Receiver) -> Settings:
    """Settings with a recipient who has two URLs, and one without a name."""
    return deployed.settings(AUTOFLOW_NOTIFY_URLS=f"boss={receiver.url}a boss={receiver.url}b {receiver.url}c")


def post(settings: Settings, store: RunStore, title: str, *names: str) -> None:
    message = Message(title=title, body=f"a {TOKEN_OF_NO_USE}", kind=apprise.NotifyType.INFO)
    with MessageStore(store).writing() as record:
        Postbox(settings, Recipients(settings)).post(record, message, names)


def sender(settings: Settings, store: RunStore) -> Sender:
    return Sender(Recipients(settings), MessageStore(store))


def test_each_url_of_a_recipient_gets_a_message_without_secrets(
    settings: Settings, store: RunStore, receiver: Receiver
) -> None:
    post(settings, store, f"first {TOKEN_OF_NO_USE}", "boss")
    post(settings, store, "second", "")
    post(settings, store, "nobody", "unknown")
    sends = sender(settings, store)
    sends.send_due()
    sends.send_due()
    messages = receiver.taken()
    assert [message["title"] for message in messages] == ["first [secret]", "first [secret]", "second"]
    assert messages[0]["message"] == "a [secret]"
    assert (sends.counts.sent, sends.counts.failed) == (3, 0)


def test_a_receiver_that_is_down_for_an_hour_gets_each_message_once_even_after_restarts(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver, uri: str, logged: list[str]
) -> None:
    post(settings, store, "the report", "boss")
    receiver.is_down.set()
    for _ in range(6):
        with closing(RunStore(uri, clock=clock)) as restarted:
            sends = sender(settings, restarted)
            for _ in range(10):
                sends.send_due()
                clock.now += MINUTE
    assert 8 <= len(receiver.refused) <= 14
    receiver.is_down.clear()
    sends = sender(settings, store)
    for _ in range(60):
        sends.send_due()
        clock.now += MINUTE
    assert receiver.titles() == ["the report", "the report"]
    assert sends.counts.sent == 2
    assert not [line for line in logged if "gave up" in line]


def test_a_message_to_a_receiver_that_is_down_for_two_days_is_given_up_after_one_with_one_line(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver, logged: list[str]
) -> None:
    post(settings, store, "the report", "")
    receiver.is_down.set()
    sends = sender(settings, store)
    start = clock.now
    for _ in range(2 * 24 * 6):
        sends.send_due()
        clock.now += 10 * MINUTE
        if clock.now - start < DAY:
            assert not [line for line in logged if "gave up" in line]
    assert 30 <= len(receiver.refused) <= 60
    lines = [line for line in logged if "gave up" in line]
    assert [line.partition(" for a day")[0] for line in lines] == [
        "could not send a message to URL 1 of 1 without a name"
    ]
    assert len(logged) == 2  # the other is the first failure
    assert (sends.counts.failed, sends.counts.given_up) == (len(receiver.refused), 1)
    receiver.is_down.clear()
    sends.send_due()
    assert receiver.titles() == []


def test_of_several_processes_one_sends_a_message_and_another_only_if_that_one_does_not(
    settings: Settings, store: RunStore, clock: Clock, receiver: Receiver, uri: str
) -> None:
    with closing(RunStore(uri, clock=clock)) as second, closing(RunStore(uri, clock=clock)) as third:
        for number in range(10):
            post(settings, store, f"message {number}", "boss")
        others = [sender(settings, each) for each in (second, third)]
        for other in others:
            other.send_due()
        assert receiver.titles() == []

        clock.now += 3 * MINUTE
        threads = [threading.Thread(target=other.send_due) for other in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sender(settings, store).send_due()
    assert sorted(receiver.titles()) == sorted(2 * [f"message {number}" for number in range(10)])


def test_reports_that_cannot_be_attached_are_links(
    deployed: Deployed, store: RunStore, receiver: Receiver, tmp_path: Path
) -> None:
    settings = deployed.settings(AUTOFLOW_NOTIFY_URLS=receiver.url)
    small, large, other = (tmp_path / f"{name} å%20$HOME__n__2016-01-01__ab__T.pdf" for name in ("small", "large", "b"))
    small.write_bytes(b"%PDF")
    large.write_bytes(bytes(MOST_ATTACHED))
    other.write_bytes(b"%PDF-")
    files = [Attachment(path, f"https://x/{path.stem[:5]}") for path in (small, large, other, tmp_path / "gone.pdf")]
    message = Message(title="t", body="b", kind=apprise.NotifyType.SUCCESS, attachments=files)
    with MessageStore(store).writing() as record:
        Postbox(settings, Recipients(settings)).post(record, message)
    sender(settings, store).send_due()
    (found,) = receiver.taken()
    names = [each["filename"] for each in found["attachments"]]
    assert names == ["small å%20$HOME__n__2016-01-01.pdf", "b å%20$HOME__n__2016-01-01.pdf"]
    assert [base64.b64decode(each["base64"]) for each in found["attachments"]] == [b"%PDF", b"%PDF-"]
    assert found["message"] == "b\nToo large to attach: https://x/large\nReport: https://x/gone"

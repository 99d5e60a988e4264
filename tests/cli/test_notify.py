import pytest

from tests.cli.conftest import Cli
from tests.receiver import Receiver

# Apprise's own, as its plugins are imported.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


def test_notify_sends_a_test_message_to_a_name_or_to_everybody(cli: Cli, receiver: Receiver) -> None:
    urls = f"boss={receiver.url}a?x=1=2, boss={receiver.url}b {receiver.url}c"
    named = cli.with_environ(AUTOFLOW_NOTIFY_URLS=urls)
    assert named("notify", "boss") == 0
    assert named.printed() == "boss (URL 1 of 2): sent\nboss (URL 2 of 2): sent\n"
    assert receiver.titles() == ["AutoFlow: test message"] * 2

    found = named.json("notify")
    assert found["good"]
    assert [(each["name"], each["url"]) for each in found["messages"]] == [("boss", 1), ("boss", 2), (None, 1)]
    assert [(message["state"], message["workflow"]) for message in receiver.taken()] == [("test", None)] * 3


def test_notify_fails_if_a_service_does_not_accept_the_message_and_never_shows_a_url(
    cli: Cli, receiver: Receiver
) -> None:
    urls = f"boss={receiver.url} ops=json://user:my-password@127.0.0.1:9/my-path"
    named = cli.with_environ(AUTOFLOW_NOTIFY_URLS=urls)
    assert named("notify") == 1
    printed = named.printed()
    assert "boss (URL 1 of 1): sent" in printed
    assert "ops (URL 1 of 1): not sent: check this URL" in printed
    assert not any(secret in printed for secret in ("my-password", "127.0.0.1", "my-path"))
    assert named.fails("notify", "bos") == "Error: there is no 'bos' in AUTOFLOW_NOTIFY_URLS, which has boss, ops\n"
    assert "AUTOFLOW_NOTIFY_URLS is not set" in cli.fails("notify")


@pytest.mark.parametrize(
    ("urls", "note", "problem", "warned"),
    [
        ("boss=json://a boss=json://b json://c", "boss (2 URLs), 1 URL without a name", "", False),
        ("boss=json://a", "boss (1 URL)", "", True),
        ("boss=json://a,ops=nonsense://my-password", "", "AUTOFLOW_NOTIFY_URLS: number 2 is not a URL", False),
        ("", "to nobody: AUTOFLOW_NOTIFY_URLS is not set", "", False),
    ],
)
def test_validate_shows_who_gets_messages(cli: Cli, urls: str, note: str, problem: str, *, warned: bool) -> None:
    named = cli.with_environ(AUTOFLOW_NOTIFY_URLS=urls)
    found = named.json("validate", "--offline", code=1 if problem else 0)
    (check,) = [check for check in found["checks"] if check["subject"] == "messages"]
    assert check["note"] == note
    assert [line.startswith(problem) for line in check["problems"]] == ([True] if problem else [])
    assert bool(check["warnings"]) == warned
    assert "my-password" not in str(found)

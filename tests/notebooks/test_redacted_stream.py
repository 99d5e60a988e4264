import html
import json
import random
import string
import time
import urllib.parse
from collections.abc import Iterator

import pytest

from autoflow.notebooks.redacted_stream import RedactedStream
from autoflow.notebooks.redaction import SHORTEST_WRAPPED, Redaction
from tests.notebooks.running import SECRET

TOKEN = "eyJhbGciOi" + "".join(random.Random(1).choices(string.ascii_letters + string.digits + "-_", k=600)) + ".sig_na"
SECRETS = (SECRET, TOKEN, "hunter2!", "pa$$w0rd")


def forms(secret: str) -> Iterator[str]:
    yield from (secret, html.escape(secret), json.dumps(secret), repr(secret), urllib.parse.quote(secret))
    yield "\x1b[31m".join(secret)
    if len(secret) >= SHORTEST_WRAPPED:
        yield "\n".join(secret[begin : begin + 50] for begin in range(0, len(secret), 50))


def taken_in_pieces(text: str, redaction: Redaction, chance: random.Random) -> str:
    stream, taken = RedactedStream(redaction, most=64_000), ""
    while text:
        length = chance.choice((1, 2, 3, 5, 40, 300))
        stream.add(text[:length])
        text = text[length:]
        taken += stream.take() if chance.random() < 0.7 else ""
    return taken + stream.take(is_end=True)


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_no_secret_is_seen_wherever_the_text_is_cut(secret: str) -> None:
    redaction, chance = Redaction(SECRETS), random.Random(2)
    for form in forms(secret):
        text = f"before, {form} and after\nmore\n"
        for _ in range(10):
            taken = taken_in_pieces(text, redaction, chance)
            # Of a long secret, which begins like many words, two characters may be shown.
            begin = len("before, ") + 2
            assert taken[:begin].startswith("before, ")
            assert taken.partition("[secret]")[0] in {text[:length] for length in range(begin + 8)}
            assert taken.endswith("[secret]" + redaction.of_text(text).rpartition("[secret]")[2])


def test_text_is_shown_at_once() -> None:
    stream = RedactedStream(Redaction(SECRETS), most=64_000)
    for text in ("step 1\n", "step 2", "…", " done\n", "50 %\r", "75 %\r", "<b>"):
        stream.add(text)
        assert stream.take() == text


def test_only_the_newest_of_much_text_is_kept_and_the_end_of_a_secret_is_no_part_of_it() -> None:
    stream = RedactedStream(Redaction(SECRETS), most=1000)
    stream.add("first\n" + "x" * 5_000)
    stream.add(TOKEN)
    stream.add("y" * (1000 - len(TOKEN) // 2))
    assert stream.take() == "[secret]" + "y" * (1000 - len(TOKEN) // 2)
    assert stream.left_out == len("first\n") + 5_000 + len(TOKEN) - len(TOKEN) // 2
    stream.add("more")
    assert stream.take() == "more"


def test_much_text_takes_little_time_and_memory() -> None:
    stream, piece, began = RedactedStream(Redaction(SECRETS), most=64_000), "x" * 60_000 + "\n", time.process_time()
    for _ in range(10_000):
        stream.add(piece)
    assert len(stream.take()) == 64_000
    assert time.process_time() - began < 30

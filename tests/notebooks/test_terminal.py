"""Printed text as a terminal leaves it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoflow.notebooks.terminal import as_shown


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("a\r\nb\n", "a\r\nb\n"),
        (" 10%\r 50%\r100%\n", "100%\n"),
        ("\r  0%\r 50%", " 50%"),
        ("abc\rX", "Xbc"),
        ("abc\b\bX", "aXc"),
        ("seventeem\bn", "seventeen"),
        ("\b\bx", "x"),
        ("long text\r\x1b[Kshort", "short"),
        ("long text\x1b[2K\rshort", "short"),
        ("ab\x1b[1Kc\r", "  c"),
        ("one\x1b[5Gtwo\x1b[1D!", "one tw!"),
        ("outer 1\n\rinner 1\x1b[A\router 2\n\rinner 2\x1b[A\n", "outer 2\ninner 2"),
        ("1\n2\n3\x1b[2A\x1b[Jnew", "1new"),
        ("1\n2\x1b[Fone", "one\n2"),
        ("old\n\x1b[2Jnew", "new"),
        ("bar\r   \rmessage\nbar\r", "message\nbar"),
        ("\x1b[31mred\x1b[0m\rb", "b\x1b[31med\x1b[0m"),
        ("x\r\x1b[1;32mgreen\x1b[m plain", "\x1b[1;32mgreen\x1b[0m plain"),
        ("a\x1b[999BX\r", "aX"),
        ("a\x1b[999AX\r", "aX"),
    ],
)
def test_text_is_what_a_terminal_leaves(printed: str, shown: str) -> None:
    assert as_shown(printed) == shown


@given(st.text(alphabet="ab\r\n\b\x1b[;0123ABCDEFGJKm "))
def test_any_text_is_shown_and_shown_again_it_stays(printed: str) -> None:
    shown = as_shown(printed)
    assert "\b" not in shown
    assert "\r" not in shown.replace("\r\n", "\n")
    assert as_shown(shown) == shown


@pytest.mark.parametrize(
    "printed",
    [
        "".join(f"\r{number}%|{'#' * 50}" for number in range(50_000)),
        "\x1b[1m" * 50_000 + "x\r",
        "\x1b[31mx\x1b[32m" * 30_000 + "\r",
        "\x1b[99999Cx\n" * 30_000,
        "x\b\b" * 100_000,
        "y" * 200_000 + "\n" + "\x1b[Ax\n" * 20_000,
    ],
)
def test_hostile_text_takes_no_more_than_seconds_and_little_room(printed: str) -> None:
    started = time.process_time()
    assert len(as_shown(printed)) < 3_000_000
    assert time.process_time() - started < 10

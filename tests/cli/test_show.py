import io
import sys

import pytest

from autoflow.cli.show import print_table


class Terminal(io.StringIO):
    """Collects what is printed, as a terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    for name, value in {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    return terminal


def test_in_a_narrow_terminal_short_texts_stay_on_a_line_and_long_ones_are_wrapped(terminal: Terminal) -> None:
    days = ["2016-03-16", "2016-03-17", "2016-03-20"]
    row = ["2016-03-14", "2016-03-20", "before earliest_date", "2026-11-29", f"missing {', '.join(days)}"]
    print_table(["first day", "date", "status", "arrived", "why"], [row])
    lines = terminal.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = (line for line in lines if "2016-03-14" in line)
    assert line.split()[:5] == ["2016-03-14", "2016-03-20", "before", "earliest_date", "2026-11-29"]
    assert all(day in terminal.getvalue() for day in days)


def test_in_a_narrow_terminal_no_part_of_a_long_name_is_lost(terminal: Terminal) -> None:
    name = "x" * 200
    print_table(["workflow", "date"], [[name, "2016-03-14"]])
    assert terminal.getvalue().count("x") == 200
    assert max(map(len, terminal.getvalue().splitlines())) <= 80

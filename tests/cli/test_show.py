import io
import sys

import click
import pytest

from autoflow.cli.show import print_table


class Terminal(io.StringIO):
    """Collects what is printed, as a terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


def printed(columns: list[str], row: list[str]) -> str:
    """Return what a terminal of 80 columns shows of a table."""
    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        for name, value in {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "xterm"}.items():
            patch.setenv(name, value)
        print_table(columns, [row])
    return click.unstyle(terminal.getvalue())


def test_in_a_narrow_terminal_short_texts_stay_on_a_line_and_long_ones_are_wrapped() -> None:
    days = ["2016-03-16", "2016-03-17", "2016-03-20"]
    row = ["2016-03-14", "2016-03-20", "before earliest_date", "2026-11-29", f"missing {', '.join(days)}"]
    text = printed(["first day", "date", "status", "arrived", "why"], row)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    (line,) = (line for line in lines if "2016-03-14" in line)
    assert line.split()[:5] == ["2016-03-14", "2016-03-20", "before", "earliest_date", "2026-11-29"]
    assert all(day in text for day in days)


def test_in_a_narrow_terminal_no_part_of_a_long_name_is_lost() -> None:
    text = printed(["workflow", "date"], ["x" * 200, "2016-03-14"])
    assert text.count("x") == 200
    assert max(map(len, text.splitlines())) <= 80

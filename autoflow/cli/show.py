"""How verbs print: tables and text for users, JSON for programs."""

import datetime
import json
import shutil
import sys
from collections.abc import Iterable, Sequence

import click
from rich import box
from rich.console import Console, OverflowMethod
from rich.table import Table
from rich.text import Text

WIDE = 10_000
"""The width of output that goes to a file or another program, where lines are not wrapped; in columns."""

COLOURS = {
    "done": "green",
    "succeeded": "green",
    "skipped": "green",
    "running": "cyan",
    "rerunning": "cyan",
    "due": "yellow",
    "failed": "red",
    "given up": "red",
    "crashed": "red",
}
"""Colours of states; others have the terminal's own colour."""

SHORT = 20
"""How many characters a text may have that is not wrapped, however narrow the terminal is, such as a date."""


def console(*, stderr: bool = False) -> Console:
    """Return a console that colours and wraps only on a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    # Emoji codes are off everywhere: a parameter may hold something like :100:.
    return Console(stderr=stderr, width=None if stream.isatty() else WIDE, emoji=False, highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table; a column whose name ends with `#`, which is not printed, holds numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    lines = [["" if value is None else str(value) for value in row] for row in rows]
    for place, column in enumerate(columns):
        name = column.removesuffix("#")
        is_short = all(len(line[place]) <= SHORT for line in lines)
        overflow: OverflowMethod = "ellipsis" if is_short else "fold"
        table.add_column(name, justify="right" if name != column else "left", no_wrap=is_short, overflow=overflow)
    for line in lines:
        table.add_row(*(Text(text, style=COLOURS.get(text.partition(",")[0], "")) for text in line))
    console().print(table)


def count(number: int, noun: str, nouns: str | None = None) -> str:
    """Return "1 file", "2 files" and so on; `nouns` is a plural without "s"."""
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def print_json(value: object) -> None:
    """Print `value` as JSON, with dates, paths and enums as text."""
    click.echo(as_json_text(value), nl=False)


def as_json_text(value: object) -> str:
    """Return `value` as JSON with a line break at its end, with dates, paths and enums as text."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"


def iso_time(time: datetime.datetime | None) -> str | None:
    """Return a time from the run store, which is in UTC, in ISO format with its time zone."""
    return None if time is None else time.replace(tzinfo=datetime.UTC).isoformat(timespec="seconds")


def program() -> str:
    """Return how to call AutoFlow: by its own command, as in the image, or as a module of Python."""
    return "autoflow" if shutil.which("autoflow") else "python -m autoflow"

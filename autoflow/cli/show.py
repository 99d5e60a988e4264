"""How the verbs print: tables and text where a person looks, JSON where a program does."""

import datetime
import json
import sys
from collections.abc import Iterable, Sequence

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 10_000
"""Where output goes to a file or another program, lines are not wrapped; columns."""

COLOURS = {
    "done": "green",
    "succeeded": "green",
    "running": "cyan",
    "rerunning": "cyan",
    "due": "yellow",
    "failed": "red",
    "given up": "red",
    "crashed": "red",
}
"""Colours of states and standings; what is not here has the terminal's own."""


def console(*, stderr: bool = False) -> "Console":
    """Return a console that colours and wraps on a terminal only."""
    stream = sys.stderr if stderr else sys.stdout
    # Emoji codes are off everywhere: a parameter may well hold something like :100:.
    return Console(stderr=stderr, width=None if stream.isatty() else WIDE, emoji=False, highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table; a column whose name ends with `#` has numbers, and is printed without that sign."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name = column.removesuffix("#")
        table.add_column(name, justify="right" if name != column else "left", overflow="fold")
    for row in rows:
        texts = ["" if value is None else str(value) for value in row]
        table.add_row(*(Text(text, style=COLOURS.get(text, "")) for text in texts))
    console().print(table)


def print_json(value: object) -> None:
    """Print `value` as JSON; what JSON has no form for, such as a date, as text."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def iso_time(time: datetime.datetime | None) -> str | None:
    """Return a time of the run store's, as ISO text that says that it is in UTC."""
    return None if time is None else time.replace(tzinfo=datetime.UTC).isoformat(timespec="seconds")

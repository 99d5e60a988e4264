"""How the verbs print: tables and text where a person looks, JSON where a program does."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

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
    from rich.console import Console  # noqa: PLC0415 - so that --help is quick

    stream = sys.stderr if stderr else sys.stdout
    # Emoji codes are off everywhere: a parameter may well hold something like :100:.
    return Console(stderr=stderr, width=None if stream.isatty() else WIDE, emoji=False, highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table; a column whose name ends with `#` has numbers, and is printed without that sign."""
    from rich import box  # noqa: PLC0415 - so that --help is quick
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

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

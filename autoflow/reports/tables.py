"""Tables as asciidoc: aligned, fitted to the page, clipped with a line that says so."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoflow.reports.markup import escape_line
from autoflow.reports.reading import Node

_ALIGNMENTS = {"AlignLeft": "<", "AlignRight": ">", "AlignCenter": "^"}
_NUMBER = re.compile(
    r"\s*[-+\u2212]?[$€£]?\s?\d[\d\s.,'\u202f\u00a0]*(?:[eE][-+]?\d+)?\s?%?\s*|\s*(NaN|NaT|nan|-|—)?\s*"
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: its asciidoc, its words, how many columns and rows it covers, and where its text stands."""

    markup: str
    text: str
    columns: int = 1
    rows: int = 1
    alignment: str = ""
    is_header: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells; a cell that covers more than one place is in the first of them only."""

    caption: str
    alignments: tuple[str, ...]
    head: tuple[tuple[Cell, ...], ...]
    body: tuple[tuple[Cell, ...], ...]


def table_of(contents: Any, cell_of: Callable[[Sequence[Node]], Cell]) -> Table:
    """Return the table in pandoc's `contents`; `cell_of` makes a cell of its blocks."""
    _, (_, caption), columns, (_, head), bodies, (_, foot) = contents

    def rows(given: Sequence[Any], headers: int = 0) -> tuple[tuple[Cell, ...], ...]:
        return tuple(
            tuple(
                replace(
                    cell_of(blocks),
                    columns=across,
                    rows=down,
                    alignment=_ALIGNMENTS.get(alignment["t"], ""),
                    is_header=place < headers,
                )
                for place, (_, alignment, down, across, blocks) in enumerate(cells)
            )
            for _, cells in given
        )

    body = tuple(row for _, headers, first, rest in bodies for row in rows([*first, *rest], headers))
    return Table(
        caption=cell_of(caption).text,
        alignments=tuple(_ALIGNMENTS.get(alignment["t"], "") for alignment, _ in columns),
        head=rows(head),
        body=body + rows(foot),
    )


def write_table(table: Table) -> str:
    """Return `table` as asciidoc."""
    count = len(table.alignments)
    columns = ",".join(f"{_alignment(table, column)}{width}" for column, width in enumerate(_widths(table, count)))
    title = f".{escape_line(table.caption)}\n" if table.caption else ""
    has_header = len(table.head) >= 1 and all(cell.rows == 1 for cell in table.head[0])
    options = "%header%unbreakable" if has_header and len(table.body) < 12 else "%header" if has_header else ""
    rows = [*table.head, *table.body]
    lines = []
    for number, row in enumerate(rows):
        for cell in row:
            in_head = number < len(table.head)
            lines.append(_cell(cell, is_header=cell.is_header or (in_head and not (has_header and number == 0))))
        lines.append("")
    body = "\n".join(lines)
    return f'{title}[{options},cols="{columns}"]\n|===\n{body}|===\n\n'


def _cell(cell: Cell, *, is_header: bool) -> str:
    span = ""
    if cell.columns > 1 or cell.rows > 1:
        span = f"{cell.columns if cell.columns > 1 else ''}{f'.{cell.rows}' if cell.rows > 1 else ''}+"
    return f"{span}{cell.alignment}{'h' if is_header else ''}|{cell.markup}"


def _alignment(table: Table, column: int) -> str:
    if table.alignments[column]:
        return table.alignments[column]
    texts = [row[column].text for row in table.body if len(row) == len(table.alignments)]
    return ">" if texts and all(_NUMBER.fullmatch(text) for text in texts) else "<"


def _widths(table: Table, count: int) -> list[int]:
    widths = [3] * count
    for row in (*table.head, *table.body):
        if len(row) == count:
            for column, cell in enumerate(row):
                widths[column] = max(widths[column], min(len(cell.text), 40))
    return widths

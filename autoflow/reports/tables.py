"""Write tables as asciidoc: aligned, fitted to the page, split or clipped if they are too large."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from autoflow.reports.markup import escape_line
from autoflow.reports.nodes import Node

MOST_ROWS = 100
MOST_COLUMNS = 60
_LONGEST_TEXT = 2000

_PORTRAIT, _LANDSCAPE = 480.0, 725.0
"""Width between the margins of an A4 page, in points."""

_PORTRAIT_SIZES = (8.5, 8.0, 7.5, 7.0)
_LANDSCAPE_SIZES = (8.0, 7.5, 7.0, 6.5)
_SPLIT_SIZE = 7.5
_CHARACTER = 0.6
"""Mean width of a character, relative to the font size."""
_PADDING = 9.0
_WORTH_A_PAGE = 15
"""A table with at most this many rows is split, not turned, because turning leaves much of two pages empty."""
_WRAPPED = 26
"""Text is wrapped after this many characters, between words."""

_ALIGNMENTS = {"AlignLeft": "<", "AlignRight": ">", "AlignCenter": "^"}
_NUMBER = re.compile(
    r"[-+\u2212(]?\s?[$€£]?\s?\d[\d\s.,'\u202f\u00a0]*(?:[eE][-+]?\d+)?\s?%?\)?|NaN|NaT|nan|None|<NA>|[-\u2013\u2014]|\.\.\.|…|"
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: its asciidoc, its plain text, the number of columns and rows it covers, and its style.

    `alignment` is asciidoc's sign, or empty for that of the column; `background` is six hexadecimal digits, or empty.
    """

    markup: str
    text: str
    columns: int = 1
    rows: int = 1
    alignment: str = ""
    is_header: bool = False
    background: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; every row has an item for each column, which is None if another cell spans it.

    `head` is the number of rows in the head, `index` that of columns that label the rows. `notes` are lines below it.
    """

    caption: str
    alignments: tuple[str, ...]
    rows: tuple[tuple[Cell | None, ...], ...]
    head: int
    index: int
    notes: tuple[str, ...] = field(default=())


def table_of(contents: Node, cell_of: Callable[[Node], Cell]) -> Table:
    """Return the table in pandoc's `contents`; `cell_of` converts pandoc's cells."""
    (_, _, attributes), (_, caption), columns, (_, head), bodies, (_, foot) = contents
    body = [row for _, _, first, rest in bodies for row in (*first, *rest)] + foot
    clipped = body[:MOST_ROWS]
    count = max(int(dict(attributes).get("data-rows", 0)) - len(head), len(body))
    notes = [] if count == len(clipped) else [f"The first {MOST_ROWS:,} of {count:,} rows are shown."]
    index = max((headers for _, headers, _, _ in bodies), default=0)
    rows = [[cell_of(cell) for cell in cells] for _, cells in (*head, *clipped)]
    table = Table(
        caption=cell_of([["", [], []], {"t": "AlignDefault"}, 1, 1, caption]).text,
        alignments=tuple(_ALIGNMENTS.get(alignment["t"], "") for alignment, _ in columns),
        rows=tuple(_with_index(row, index) for row in _placed(rows, len(columns))),
        head=len(head),
        index=index,
        notes=tuple(notes),
    )
    return _clipped(table)


def alignment_sign(pandoc_name: str) -> str:
    """Return asciidoc's sign for pandoc's alignment; empty for the default."""
    return _ALIGNMENTS.get(pandoc_name, "")


def write_table(table: Table) -> str:
    """Return `table` as asciidoc: on a portrait page if it fits, on a landscape page, or in parts that fit."""
    widths = _widths(table)
    for size in _PORTRAIT_SIZES:
        if _needed(widths, size) <= _PORTRAIT:
            return _written(table, widths, size, _PORTRAIT)
    for size in _LANDSCAPE_SIZES if len(table.rows) > _WORTH_A_PAGE else ():
        if _needed(widths, size) <= _LANDSCAPE:
            return turned(_written(table, widths, size, _LANDSCAPE))
    parts = list(_parts(table, widths))
    return "".join(_written(part, _widths(part), _SPLIT_SIZE, _PORTRAIT) for part in parts)


def turned(block: str) -> str:
    """Return a block of asciidoc on a turned page of its own."""
    return f"{_page('landscape')}{block}{_page('portrait')}"


def _page(layout: str) -> str:
    return f"[page-layout={layout}]\n<<<\n\n"


def _placed(rows: Sequence[Sequence[Cell]], count: int) -> Iterator[tuple[Cell | None, ...]]:
    """Yield each row with a cell or None for each column; cut spans at the edges of the table."""
    taken: dict[int, int] = {}
    for number, row in enumerate(rows):
        cells = iter(row)
        placed: list[Cell | None] = []
        while len(placed) < count:
            column = len(placed)
            if taken.get(column, 0):
                placed.append(None)
                continue
            cell = next(cells, Cell(markup="", text=""))
            free = next((after for after in range(1, count - column) if taken.get(column + after, 0)), count - column)
            cell = replace(cell, columns=min(cell.columns, free), rows=min(cell.rows, len(rows) - number))
            placed += [cell] + [None] * (cell.columns - 1)
            taken |= {column + offset: cell.rows for offset in range(cell.columns)}
        taken = {column: left - 1 for column, left in taken.items() if left > 1}
        yield tuple(placed)


def _with_index(row: Sequence[Cell | None], index: int) -> tuple[Cell | None, ...]:
    """Return `row` with the cells of its first columns marked as headers."""
    return (*(cell and replace(cell, is_header=True) for cell in row[:index]), *row[index:])


def _clipped(table: Table) -> Table:
    """Return `table` without the columns after the last that is shown."""
    count = len(table.alignments)
    if count <= MOST_COLUMNS:
        return table
    note = f"The first {MOST_COLUMNS:,} of {count:,} columns are shown."
    return replace(_columns(table, range(MOST_COLUMNS)), notes=(*table.notes, note))


def _columns(table: Table, wanted: Sequence[int]) -> Table:
    """Return `table` with the `wanted` columns only."""
    return replace(
        table,
        alignments=tuple(table.alignments[column] for column in wanted),
        rows=tuple(tuple(_cut(row, wanted)) for row in table.rows),
    )


def _cut(row: Sequence[Cell | None], wanted: Sequence[int]) -> Iterator[Cell | None]:
    """Yield the cells of the `wanted` columns; a span that begins before them begins with the first it covers."""
    origins: dict[int, int] = {}
    for column, cell in enumerate(row):
        if cell is not None:
            origins |= {column + offset: column for offset in range(cell.columns)}
    previous = None
    for column in wanted:
        origin = origins.get(column)
        cell = None if origin is None else row[origin]
        if cell is None or origin == previous:
            yield None
        else:
            yield replace(cell, columns=sum(origins.get(other) == origin for other in wanted))
        previous = origin


def _parts(table: Table, widths: Sequence[int]) -> Iterator[Table]:
    """Yield parts of `table` that fit a portrait page, each with the columns that label the rows."""
    index = list(range(table.index or 1))
    rest = list(range(len(index), len(widths)))
    parts: list[list[int]] = [[]]
    for column in rest:
        wanted = [*index, *parts[-1], column]
        if parts[-1] and _needed([widths[each] for each in wanted], _SPLIT_SIZE) > _PORTRAIT:
            parts.append([])
        parts[-1].append(column)
    for number, part in enumerate(parts, start=1):
        caption = f"{table.caption} ({number}/{len(parts)})".strip()
        notes = table.notes if number == len(parts) else ()
        yield replace(_columns(table, [*index, *part]), caption=caption, notes=notes)


def _widths(table: Table) -> list[int]:
    """Return the width of each column, in characters."""
    widths = [2] * len(table.alignments)
    for row in table.rows:
        for column, cell in enumerate(row):
            if cell is not None and cell.columns == 1:
                widths[column] = max(widths[column], _width(cell.text))
    for row in table.rows:
        for column, cell in enumerate(row):
            if cell is not None and cell.columns > 1:
                covered = range(column, column + cell.columns)
                lacking = _width(cell.text) - sum(widths[each] for each in covered)
                for each in covered:
                    widths[each] += max(0, -(-lacking // cell.columns))
    return widths


def _width(text: str) -> int:
    """Return the width of `text`: all of it, or its longest word if it can be wrapped."""
    longest = max((_columns_of(word) for word in text.split()), default=0)
    return min(max(longest, min(_columns_of(text), _WRAPPED)), 2 * _WRAPPED)


def _columns_of(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _needed(widths: Sequence[int], size: float) -> float:
    return sum(width * _CHARACTER * size + _PADDING for width in widths)


def _written(table: Table, widths: Sequence[int], size: float, available: float) -> str:
    shares = [_needed([width], size) for width in widths]
    table = replace(table, alignments=tuple(_alignment(table, column) for column in range(len(shares))))
    columns = ",".join(f"{sign}{round(share)}" for sign, share in zip(table.alignments, shares, strict=True))
    percent = min(100, max(8, round(100 * sum(shares) / available)))
    has_head = table.head > 0 and all(
        cell is None or cell.rows == 1 for row in table.rows[: table.head] for cell in row
    )
    attributes = {
        "cols": f'"{columns}"',
        "width": f"{percent}%",
        "text-size": f"{size:g}",
        "options": '"header"' if has_head else '""',
        "head-rows": str(table.head if has_head else 0),
        "grid": "rows",
        "frame": "ends",
    }
    named = ",".join(f"{name}={value}" for name, value in attributes.items())
    title = f".{escape_line(table.caption).strip()}\n" if table.caption.strip() else ""
    table = _with_backgrounds(table)
    lines = "\n".join(_lines(table, has_head=has_head, shares=shares, size=size))
    notes = "".join(f"[.clipped]\n{escape_line(note)}\n\n" for note in table.notes)
    after = ":!cellbgcolor:\n\n" if "{set:cellbgcolor" in lines else ""
    return f"{title}[{named}]\n|===\n{lines}\n|===\n\n{after}{notes}"


def _with_backgrounds(table: Table) -> Table:
    """Return `table` with a background or a ``!`` for every cell if one has any; asciidoc's lasts until the next."""
    if not any(cell and cell.background for row in table.rows for cell in row):
        return table
    rows = (
        tuple(cell and replace(cell, background=f":#{cell.background}" if cell.background else "!") for cell in row)
        for row in table.rows
    )
    return replace(table, rows=tuple(rows))


def _lines(table: Table, *, has_head: bool, shares: Sequence[float], size: float) -> Iterator[str]:
    for number, row in enumerate(table.rows):
        for column, cell in enumerate(row):
            if cell is not None:
                room = sum(shares[column : column + cell.columns])
                is_head = number < table.head
                is_marked = cell.is_header or (is_head and not (has_head and number == 0))
                alignment = cell.alignment or ("^" if cell.columns > 1 and is_head else table.alignments[column])
                yield _cell(replace(_short(cell, room, size), alignment=alignment), is_marked=is_marked)
        yield ""


def _short(cell: Cell, room: float, size: float) -> Cell:
    """Return `cell` clipped to half a page, because a row is never split between pages."""
    most = min(_LONGEST_TEXT, int(room / (size * _CHARACTER)) * 25)
    return cell if len(cell.text) <= most else replace(cell, markup=escape_line(cell.text[:most]) + "…")


def _cell(cell: Cell, *, is_marked: bool) -> str:
    """Return a cell with all its attributes, because asciidoctor assigns cells after a span to the wrong column."""
    down = f".{cell.rows}" if cell.rows > 1 else ""
    across = str(cell.columns) if cell.columns > 1 else ""
    span = f"{across}{down}+" if across or down else ""
    background = f"{{set:cellbgcolor{cell.background}}}" if cell.background else ""
    return f"{span}{cell.alignment}{'h' if is_marked else ''}|{background}{cell.markup}"


def _alignment(table: Table, column: int) -> str:
    if table.alignments[column]:
        return table.alignments[column]
    texts = [cell.text.strip() for row in table.rows[table.head :] if (cell := row[column]) is not None]
    has_numbers = any(any(map(str.isdigit, text)) for text in texts)
    return ">" if has_numbers and column >= table.index and all(map(_NUMBER.fullmatch, texts)) else "<"

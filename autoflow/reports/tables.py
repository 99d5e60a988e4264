"""Write tables as asciidoc: aligned, fitted to the page, split or clipped if they are too large."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from autoflow.reports.cells import Cell, Row, lines_of, placed, short_rows, width_of
from autoflow.reports.markup import escape_line
from autoflow.reports.nodes import Node

MOST_ROWS = 100
MOST_COLUMNS = 60

_PORTRAIT, _LANDSCAPE = 480.0, 725.0
"""Width between the margins of an A4 page, in points."""

_PORTRAIT_SIZES = (8.5, 8.0, 7.5, 7.0)
_LANDSCAPE_SIZES = (8.0, 7.5, 7.0, 6.5)
_SPLIT_SIZE = 7.5
_CHARACTER = 0.6
"""Mean width of a character, relative to the font size."""
_PADDING = 9.0
_LONGEST_CAPTION = 1000
_MOST_LINES_OF_HEAD = 8
"""A longer head is not repeated on each page."""
_WORTH_A_PAGE = 15
"""A table with at most this many rows is split, not turned, because turning leaves much of two pages empty."""
_WRAPPED = 26
"""Text is wrapped after this many characters, between words."""
_LONG = 130
"""Text of more characters gets the room that is free on the page."""

_ALIGNMENTS = {"AlignLeft": "<", "AlignRight": ">", "AlignCenter": "^"}
_NUMBER = re.compile(
    r"[-+\u2212(]?\s?[$€£]?\s?\d[\d\s.,'\u202f\u00a0]*(?:[eE][-+]?\d+)?\s?%?\)?|NaN|NaT|nan|None|<NA>|[-\u2013\u2014]|\.\.\.|…|"
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; every row has an item for each column, which is None if another cell spans it.

    `head` is the number of rows in the head, `index` that of columns that label the rows. `notes` are lines below it.
    """

    caption: str
    alignments: tuple[str, ...]
    rows: tuple[Row, ...]
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
        caption=cell_of([["", [], []], {"t": "AlignDefault"}, 1, 1, caption]).cut(_LONGEST_CAPTION).text,
        alignments=tuple(_ALIGNMENTS.get(alignment["t"], "") for alignment, _ in columns),
        rows=tuple(_with_index(row, index) for row in placed(rows, len(columns))),
        head=len(head),
        index=index,
        notes=tuple(notes),
    )
    return _clipped(table, max(int(dict(attributes).get("columns", 0)), len(columns)))


def alignment_sign(pandoc_name: str) -> str:
    """Return asciidoc's sign for pandoc's alignment; empty for the default."""
    return _ALIGNMENTS.get(pandoc_name, "")


def write_table(table: Table, *, paged: bool) -> str:
    """Return `table` as asciidoc: on a portrait page if it fits, on a landscape page, or in parts that fit.

    If the report is `paged`, no row is longer than a page.
    """
    widths = _widths(table)
    for size in _PORTRAIT_SIZES:
        if (needed := _needed(widths, size)) <= _PORTRAIT:
            wider = _with_free_room(table, widths, int((_PORTRAIT - needed) / (size * _CHARACTER)))
            return _written(table, _Layout(wider, size, _PORTRAIT), paged=paged)
    for size in _LANDSCAPE_SIZES if len(table.rows) > _WORTH_A_PAGE else ():
        if _needed(widths, size) <= _LANDSCAPE:
            return turned(_written(table, _Layout(widths, size, _LANDSCAPE), paged=paged))
    parts = ((part, _Layout(_widths(part), _SPLIT_SIZE, _PORTRAIT)) for part in _parts(table, widths))
    return "".join(_written(part, layout, paged=paged) for part, layout in parts)


def turned(block: str) -> str:
    """Return a block of asciidoc on a turned page of its own."""
    return f"{_page('landscape')}{block}{_page('portrait')}"


def _page(layout: str) -> str:
    return f"[page-layout={layout}]\n<<<\n\n"


def _with_index(row: Sequence[Cell | None], index: int) -> Row:
    """Return `row` with the cells of its first columns marked as headers."""
    return (*(cell and replace(cell, is_header=True) for cell in row[:index]), *row[index:])


def _clipped(table: Table, count: int) -> Table:
    """Return `table` without the columns after the last that is shown; there were `count`."""
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
    index = [0]
    while len(index) < table.index and _needed(widths[: len(index) + 1], _SPLIT_SIZE) <= _PORTRAIT / 2:
        index.append(len(index))
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


def _with_free_room(table: Table, widths: Sequence[int], free: int) -> list[int]:
    """Return `widths` with the `free` characters of a line given to the columns with long text."""
    long = {
        column
        for row in table.rows
        for column, cell in enumerate(row)
        if cell is not None and cell.columns == 1 and len(cell.text) > _LONG
    }
    return [width + (free // len(long) if column in long else 0) for column, width in enumerate(widths)]


def _width(text: str) -> int:
    """Return the width of `text`: all of it, or its longest word if it can be wrapped."""
    longest = max((width_of(word) for word in text.split()), default=0)
    return min(max(longest, min(width_of(text), _WRAPPED)), 2 * _WRAPPED)


def _needed(widths: Sequence[int], size: float) -> float:
    return sum(width * _CHARACTER * size + _PADDING for width in widths)


@dataclass(frozen=True)
class _Layout:
    """The widths of columns in characters, the font size in points, and the width of the page."""

    widths: Sequence[int]
    size: float
    available: float

    @property
    def shares(self) -> list[float]:
        """The widths that the columns need, in points."""
        return [_needed([width], self.size) for width in self.widths]

    @property
    def percent(self) -> int:
        """The share of the page's width."""
        return min(100, max(8, round(100 * sum(self.shares) / self.available)))

    @property
    def characters(self) -> list[float]:
        """The number of characters that fit in a line of each column."""
        scale = self.available * self.percent / 100 / sum(self.shares)
        return [max(1.0, (share * scale - _PADDING) / (self.size * _CHARACTER)) for share in self.shares]


def _written(table: Table, layout: _Layout, *, paged: bool) -> str:
    table = replace(table, alignments=tuple(_alignment(table, column) for column in range(len(layout.widths))))
    if paged:
        table = _in_short_rows(table, layout)
    columns = ",".join(f"{sign}{round(share)}" for sign, share in zip(table.alignments, layout.shares, strict=True))
    has_head = _has_head(table)
    attributes = {
        "cols": f'"{columns}"',
        "width": f"{layout.percent}%",
        "text-size": f"{layout.size:g}",
        "options": '"header"' if has_head else '""',
        "head-rows": str(table.head if has_head else 0),
        "continued": f'"{" ".join(_continued(table))}"',
        "grid": "rows",
        "frame": "ends",
    }
    named = ",".join(f"{name}={value}" for name, value in attributes.items())
    title = f".{escape_line(table.caption).strip()}\n" if table.caption.strip() else ""
    table = _with_backgrounds(table)
    lines = "\n".join(_lines(table, has_head=has_head))
    notes = "".join(f"[.clipped]\n{escape_line(note)}\n\n" for note in table.notes)
    after = ":!cellbgcolor:\n\n" if "{set:cellbgcolor" in lines else ""
    return f"{title}[{named}]\n|===\n{lines}\n|===\n\n{after}{notes}"


def _in_short_rows(table: Table, layout: _Layout) -> Table:
    """Return `table` with rows that are shorter than a page; a head that is not becomes part of the body."""
    divided = list(short_rows(table.rows, layout.characters))
    head = sum(map(len, divided[: table.head]))
    rows = tuple(row for rows in divided for row in rows)
    lines = sum(lines_of(row, layout.characters) for row in rows[:head])
    marked = tuple(_with_index(row, len(row)) for row in rows[:head])
    return replace(table, rows=(*marked, *rows[head:]), head=head if lines <= _MOST_LINES_OF_HEAD else 0)


def _has_head(table: Table) -> bool:
    """Return whether the head can be repeated on each page; asciidoc's cannot have cells over several rows."""
    return table.head > 0 and all(cell is None or cell.rows == 1 for row in table.rows[: table.head] for cell in row)


def _continued(table: Table) -> Iterator[str]:
    """Yield row and column of each cell that continues the one above it."""
    for number, row in enumerate(table.rows):
        yield from (f"{number}.{column}" for column, cell in enumerate(row) if cell and cell.continues)


def _with_backgrounds(table: Table) -> Table:
    """Return `table` with a background or a ``!`` for every cell if one has any; asciidoc's lasts until the next."""
    if not any(cell and cell.background for row in table.rows for cell in row):
        return table
    rows = (
        tuple(cell and replace(cell, background=f":#{cell.background}" if cell.background else "!") for cell in row)
        for row in table.rows
    )
    return replace(table, rows=tuple(rows))


def _lines(table: Table, *, has_head: bool) -> Iterator[str]:
    for number, row in enumerate(table.rows):
        is_head = number < table.head
        for column, cell in enumerate(row):
            if cell is not None:
                is_marked = (cell.is_header or is_head) and not (has_head and number == 0)
                alignment = cell.alignment or ("^" if cell.columns > 1 and is_head else table.alignments[column])
                yield _cell(replace(cell, alignment=alignment), is_marked=is_marked)
        yield ""


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

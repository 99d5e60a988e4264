"""The cells of tables, and how their rows are divided so that each is much shorter than a page."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from autoflow.reports.markup import escape_line

MOST_IN_A_CELL = 50_000
"""Characters; the rest is cut, with a note."""

MOST_LINES = 15
"""The height of a row, in lines; a quarter of a page, because lines and widths are only estimated."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a cell's content: its asciidoc, and its plain text, in which line breaks are kept."""

    markup: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: its content in pieces, the number of columns and rows it covers, and its style.

    `alignment` is asciidoc's sign, or empty for that of the column; `background` is six hexadecimal digits, or empty.
    `continues` is set if no line separates the cell from the one above.
    """

    pieces: tuple[Piece, ...] = ()
    columns: int = 1
    rows: int = 1
    alignment: str = ""
    is_header: bool = False
    background: str = ""
    continues: bool = False

    @property
    def text(self) -> str:
        """The plain text, on one line."""
        return "".join(piece.text for piece in self.pieces).replace("\n", " ").strip()

    @property
    def markup(self) -> str:
        """The asciidoc."""
        return "".join(piece.markup for piece in self.pieces).strip(" \n").removesuffix(" +").strip(" \n")

    def cut(self, most: int = MOST_IN_A_CELL) -> "Cell":
        """Return the cell with at most `most` characters, and a note if there were more."""
        total = sum(len(piece.text) for piece in self.pieces)
        if total <= most:
            return self
        kept: list[Piece] = []
        left = most
        for piece in self.pieces:
            left -= len(piece.text)
            if left < 0:
                break
            kept.append(piece)
        note = f"… [{total - sum(len(piece.text) for piece in kept):,} more characters]"
        return replace(self, pieces=(*kept, Piece(markup=escape_line(note), text=note)))


Row: TypeAlias = tuple[Cell | None, ...]
"""An item for each column, which is None if another cell covers it."""


def placed(rows: Sequence[Sequence[Cell]], count: int) -> Iterator[Row]:
    """Yield each row with a cell or None for each column; cut spans at the edges of the table."""
    taken: dict[int, int] = {}
    for number, row in enumerate(rows):
        cells = iter(row)
        given: list[Cell | None] = []
        while len(given) < count:
            column = len(given)
            if taken.get(column, 0):
                given.append(None)
                continue
            cell = next(cells, Cell())
            free = next((after for after in range(1, count - column) if taken.get(column + after, 0)), count - column)
            cell = replace(cell, columns=min(cell.columns, free), rows=min(cell.rows, len(rows) - number))
            given += [cell] + [None] * (cell.columns - 1)
            taken |= {column + offset: cell.rows for offset in range(cell.columns)}
        taken = {column: left - 1 for column, left in taken.items() if left > 1}
        yield tuple(given)


def short_rows(rows: Sequence[Row], characters: Sequence[float]) -> Iterator[tuple[Row, ...]]:
    """Yield for each row the rows to show instead of it: none has more than `MOST_LINES` lines or a cell from above.

    `characters` is the number of characters that fit in a line of each column. A cell that covered several rows is
    followed by empty ones that continue it. A cell with more lines than a row may have is continued in further rows.
    """
    above: dict[int, tuple[Cell, int]] = {}
    """The cell that covers a column from above, at its first column, and how many more rows it covers."""
    for row in rows:
        parts: dict[int, list[Cell]] = {}
        for column, cell in enumerate(row):
            if cell is not None:
                above.pop(column, None)
                parts[column] = list(_parts(cell, sum(characters[column : column + cell.columns])))
            elif column in above:
                parts[column] = [_empty(above[column][0])]
        count = max((len(cells) for cells in parts.values()), default=1)
        yield tuple(_part(parts, number, len(row)) for number in range(count))
        above = {column: (cell, left - 1) for column, (cell, left) in above.items() if left > 1}
        above |= {column: (cell, cell.rows - 1) for column, cell in enumerate(row) if cell and cell.rows > 1}


def _part(parts: dict[int, list[Cell]], number: int, count: int) -> Row:
    """Return the row with the part of each cell with this number."""
    return tuple(None if column not in parts else _part_of(parts[column], number) for column in range(count))


def _part_of(cells: Sequence[Cell], number: int) -> Cell:
    return cells[number] if number < len(cells) else _empty(cells[-1])


def _empty(cell: Cell) -> Cell:
    return replace(cell, pieces=(), rows=1, continues=True)


def _parts(cell: Cell, characters: float) -> Iterator[Cell]:
    """Yield parts of `cell` that have at most `MOST_LINES` lines of `characters` each."""
    begun: list[Piece] = []
    continues = cell.continues
    for piece in cell.pieces:
        if begun and _lines([*begun, piece], characters) > MOST_LINES:
            yield replace(cell, pieces=tuple(begun), rows=1, continues=continues)
            begun, continues = [], True
        begun.append(piece)
    yield replace(cell, pieces=tuple(begun), rows=1, continues=continues)


def lines_of(row: Row, characters: Sequence[float]) -> int:
    """Return how many lines `row` takes."""
    return max(
        (
            _lines(cell.pieces, sum(characters[column : column + cell.columns]))
            for column, cell in enumerate(row)
            if cell
        ),
        default=1,
    )


def _lines(pieces: Sequence[Piece], characters: float) -> int:
    lines = "".join(piece.text for piece in pieces).rstrip("\n").split("\n")
    return sum(1 + int(width_of(line) // characters) for line in lines)


def width_of(text: str) -> int:
    """Return how many columns of characters `text` takes; East Asian letters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)

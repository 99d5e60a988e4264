"""Find the places of the cells in an HTML table, as a browser does, and correct the spans that pandoc would misread."""

import bisect
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_MOST_COLUMNS = 100
"""Of a table; pandoc makes as many columns as a cell claims to span."""
_MOST_ROWS = 65534
"""Of a cell, as in browsers."""


@dataclass
class _Span:
    """A cell: the number of its start tag in the document, its place, and what it covers."""

    tag: int
    row: int
    column: int
    columns: int
    rows: int


@dataclass
class Spans:
    """The cells of a table, added in the order of the document.

    A row without cells is lost in pandoc, and so are cells in columns that are only there because of cells above.
    """

    count: int = 0
    """The number of columns if some of them are left out, otherwise 0."""
    _cells: list[_Span] = field(default_factory=list)
    _sections: list[int] = field(default_factory=lambda: [0])
    _taken: dict[int, int] = field(default_factory=dict)
    """The columns that cells above cover, and the rows after the last that they cover."""
    _ends: dict[int, int] = field(default_factory=dict)
    """The number of the end tag of each row."""
    _row: int = -1
    _column: int = 0
    _beyond: int = 0

    def begin_section(self) -> None:
        """Begin a head, body or foot, which no cell from above reaches into."""
        self._sections.append(self._row + 1)
        self._taken = {}

    def begin_row(self) -> None:
        """Begin a row."""
        self._row += 1
        self._column = self._beyond = 0

    def end_row(self, tag: int) -> None:
        """End the row, at the end tag with this number."""
        self._ends[self._row] = tag

    def is_beyond(self) -> bool:
        """Return whether the next cell is in a column that is left out, and count it."""
        if self._column < _MOST_COLUMNS:
            return False
        self._beyond += 1
        self.count = max(self.count, self._column + self._beyond)
        return True

    def add(self, tag: int, attributes: Mapping[str, str]) -> None:
        """Add a cell whose start tag has this number and these attributes."""
        self._row = max(self._row, 0)
        while self._taken.get(self._column, 0) > self._row:
            self._column += 1
        columns = min(_number(attributes.get("colspan", "")) or 1, _MOST_COLUMNS)
        rows = min(_number(attributes.get("rowspan", "")) or _MOST_ROWS, _MOST_ROWS)
        covered = range(self._column, self._column + columns)
        columns = next((n for n, column in enumerate(covered) if self._taken.get(column, 0) > self._row), columns)
        self._cells.append(_Span(tag, self._row, self._column, columns, rows))
        self._taken |= dict.fromkeys(covered[:columns], self._row + rows)
        self._column += columns

    def corrected(self) -> Iterator[tuple[int, int, int]]:
        """Yield for each cell the number of its tag, and the columns and rows that it covers."""
        filled = {cell.row for cell in self._cells}
        filled_before = list(itertools.accumulate((row in filled for row in range(self._row + 1)), initial=0))
        ends = [*self._sections, self._row + 1]
        for cell in self._cells:
            last = min(cell.row + cell.rows, ends[bisect.bisect_right(ends, cell.row)])
            yield cell.tag, cell.columns, max(1, filled_before[last] - filled_before[cell.row])

    def missing(self) -> tuple[int, int]:
        """Return how many columns all rows lack, and the number of the end tag of a row that can be filled up."""
        widths: dict[int, int] = {}
        for cell in self._cells:
            widths[cell.row] = widths.get(cell.row, 0) + cell.columns
        count = max((cell.column + cell.columns for cell in self._cells), default=0)
        first = min(widths, default=-1)
        if first not in self._ends or count <= max(widths.values()):
            return 0, 0
        return count - widths[first], self._ends[first]


def _number(text: str) -> int:
    digits = text.strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 9 else 1

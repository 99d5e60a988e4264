"""Read an executed notebook: when it ran, for how long, and its cells as its author counts them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoflow.runs.checks import Checks

_ADDED = frozenset({"injected-parameters", "papermill-error-cell-tag"})
"""Tags of cells that papermill adds to a notebook."""

_NUMBER = "cell_number"
"""The key of a cell's metadata with its number; "autoflow" would be redacted where that is the database's password."""

_PEAK_MEMORY = "peak_memory"
"""The key of a notebook's metadata with the most memory that it used, in bytes."""

_CHECKS = "checks"
"""The key of a notebook's metadata with its checks, as `Checks.as_json` has them."""

LONGEST_CODE = 80
"""The longest excerpt from a cell in an error, in characters."""


@dataclass(frozen=True, kw_only=True)
class ExecutedNotebook:
    """An executed notebook; `started_at` (ISO text) and `seconds` (its duration) are None if not recorded.

    `sources` are those of its cells by their numbers. `peak_memory` is the most memory that it used with all that it
    had started, in bytes; None if that was not recorded. It `is_complete` if all cells have run and no check failed.
    """

    path: Path
    started_at: str | None
    seconds: float | None
    sources: Mapping[int, str]
    peak_memory: int | None = None
    is_complete: bool = True

    @classmethod
    def read(cls, path: Path) -> "ExecutedNotebook | None":
        """Read the file; None if it is gone, or no longer an executed notebook."""
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            record = content["metadata"].get("papermill", {})
            sources = {number: text_of(cell["source"]) for number, cell in _as_reported(content["cells"]) if number}
            peak = content["metadata"].get(_PEAK_MEMORY)
            return cls(
                path=path,
                started_at=record.get("start_time"),
                seconds=record.get("duration"),
                sources=sources,
                peak_memory=peak if isinstance(peak, int) else None,
                is_complete=_is_complete(content),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def source(self, cell: int) -> str | None:
        """Return the source of the cell with a number; None if there is no such cell."""
        return self.sources.get(cell)


def _is_complete(content: Mapping[str, Any]) -> bool:
    if content["metadata"].get("papermill", {}).get("exception") or recorded_checks(content["metadata"]).failed_errors:
        return False
    states = (cell["metadata"] for cell in content["cells"] if cell["cell_type"] == "code")
    return not any(
        each.get("papermill", {}).get("status") == "pending" and "skip-execution" not in each.get("tags", ())
        for each in states
    )


def number_cells(cells: Iterable[Any]) -> None:
    """Record the number of each cell of a notebook, as its author counts them, before others are added to it."""
    for number, cell in enumerate(cells, 1):
        cell["metadata"][_NUMBER] = number


def record_peak_memory(metadata: dict[str, Any], peak: int | None) -> None:
    """Record the most memory that a notebook has used, in bytes, in its metadata; None if that is unknown."""
    metadata.pop(_PEAK_MEMORY, None)
    if peak is not None:
        metadata[_PEAK_MEMORY] = peak


def record_checks(metadata: dict[str, Any], checks: Checks) -> None:
    """Record the checks of a notebook in its metadata."""
    metadata.pop(_CHECKS, None)
    if checks:
        metadata[_CHECKS] = checks.as_json()


def recorded_checks(metadata: Mapping[str, Any]) -> Checks:
    """Return the checks in the metadata of an executed notebook."""
    try:
        return Checks.of_json(metadata[_CHECKS])
    except (LookupError, TypeError, ValueError):
        return Checks()


def checks_of(executed: Path) -> Checks:
    """Return the checks of an executed notebook; none if it cannot be read."""
    try:
        return recorded_checks(json.loads(executed.read_text(encoding="utf-8"))["metadata"])
    except (OSError, ValueError, LookupError, TypeError):
        return Checks()


def cell_numbers(cells: Sequence[Mapping[str, Any]]) -> list[int | None]:
    """Return the number of each cell of an executed notebook, counted from 1; None for cells that were added to it."""
    numbers = [_number(cell) for cell in cells]
    if any(numbers):
        return numbers
    # No numbers: AutoFlow has not executed it, or an old version has.
    counted, count = list[int | None](), 0
    for cell in cells:
        is_added = not _ADDED.isdisjoint(cell.get("metadata", {}).get("tags", ()))
        count += not is_added
        counted.append(None if is_added else count)
    return counted


def prompt_of(cell: Mapping[str, Any]) -> str:
    """Return the beginning of a cell as Jupyter shows it: "In [5]: total = 1 / 0"."""
    code = first_line_of(cell)
    return f"In [{cell.get('execution_count') or ' '}]: {code}" if cell["cell_type"] == "code" else code


def first_line_of(cell: Mapping[str, Any]) -> str:
    """Return the beginning of the source of a cell, on one line."""
    line = next((line.strip() for line in text_of(cell["source"]).splitlines() if line.strip()), "")
    return line if len(line) <= LONGEST_CODE else f"{line[:LONGEST_CODE]}…"


def text_of(value: str | list[str]) -> str:
    """Return a text of a notebook, which may be written as a list of lines."""
    return value if isinstance(value, str) else "".join(value)


def _number(cell: Mapping[str, Any]) -> int | None:
    number = cell.get("metadata", {}).get(_NUMBER)
    return number if isinstance(number, int) else None


def _as_reported(cells: Sequence[Mapping[str, Any]]) -> Iterable[tuple[int | None, Mapping[str, Any]]]:
    """Return the cells with the numbers that errors call them by: old versions counted all cells."""
    has_numbers = any(map(_number, cells))
    return zip(cell_numbers(cells), cells, strict=True) if has_numbers else enumerate(cells, 1)

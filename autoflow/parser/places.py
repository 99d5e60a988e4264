"""The place of each value: the keys that lead to it, and its line in the file."""

import re
from typing import TypeAlias

from autoflow.parser.wording import show

Place: TypeAlias = tuple[str | int, ...]
"""The keys and the indices that lead to a value; empty for the whole file."""


class PlacesInFile:
    """The lines, counted from 1, of the values of a file and of the keys that lead to them."""

    def __init__(self) -> None:
        self._lines: dict[Place, tuple[int, int]] = {(): (1, 1)}
        self._misspelt: dict[Place, str] = {}

    def add(self, place: Place, *, key_line: int, value_line: int) -> None:
        """Record the lines of the value at `place` and of its key."""
        self._lines[place] = (key_line, value_line)

    def add_misspelt(self, place: Place, written: str) -> None:
        """Record that the last key of `place` is spelt `written` in the file."""
        self._misspelt[place] = written

    def as_written(self, place: Place) -> Place:
        """Return `place` with its keys spelt as in the file."""
        return tuple(self._misspelt.get(place[: index + 1], key) for index, key in enumerate(place))

    def line(self, place: Place, *, at_key: bool = False) -> int:
        """Return the line of the value at `place`, or of its key; if it is not in the file, of the value around it."""
        place = self.as_written(place)
        while place not in self._lines:
            place = place[:-1]
        key_line, value_line = self._lines[place]
        return key_line if at_key else value_line


def show_place(place: Place) -> str:
    """Write `place` as in ``workflows[0].notebooks.report``."""
    parts = []
    for key in place:
        if isinstance(key, str) and re.fullmatch(r"[\w-]{1,100}", key):
            parts.append(f".{key}")
        else:
            parts.append(f"[{key if isinstance(key, int) else show(key)}]")
    return "".join(parts).removeprefix(".")

"""Read an executed notebook: when it ran, for how long, and its sources."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ExecutedNotebook:
    """An executed notebook; `started_at` (ISO text) and `seconds` (its duration) are None if not recorded."""

    path: Path
    started_at: str | None
    seconds: float | None
    sources: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "ExecutedNotebook | None":
        """Read the file; None if it is gone, or no longer an executed notebook."""
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            record = content["metadata"].get("papermill", {})
            sources = tuple(_text(cell["source"]) for cell in content["cells"])
            return cls(path=path, started_at=record.get("start_time"), seconds=record.get("duration"), sources=sources)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def source(self, cell: int) -> str | None:
        """Return the source of the cell with a number, counted from 1; None if there is no such cell."""
        return self.sources[cell - 1] if 1 <= cell <= len(self.sources) else None


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)

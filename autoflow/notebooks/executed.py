"""What an executed notebook tells of its run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ExecutedNotebook:
    """An executed notebook; `started_at` is ISO text, `seconds` how long it took, both None where it does not say."""

    path: Path
    started_at: str | None
    seconds: float | None
    sources: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "ExecutedNotebook | None":
        """Read the file; None if it is no longer there, or somebody has made something else of it."""
        try:
            content: Any = json.loads(path.read_text(encoding="utf-8"))
            record = content["metadata"].get("papermill", {})
            sources = tuple(_text(cell["source"]) for cell in content["cells"])
            return cls(path=path, started_at=record.get("start_time"), seconds=record.get("duration"), sources=sources)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def source(self, cell: int) -> str | None:
        """Return the source of a cell, which is counted from 1; None if there is no such cell."""
        return self.sources[cell - 1] if 1 <= cell <= len(self.sources) else None


def _text(source: str | list[str]) -> str:
    return source if isinstance(source, str) else "".join(source)

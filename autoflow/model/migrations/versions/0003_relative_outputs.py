"""Keep paths of outputs relative to the outputs folder, and record that folder at the time.

Older rows hold absolute paths below a folder that may have been moved since. Which part of them was the outputs
folder follows from the folders as they are set now or, if these do not match, from AutoFlow's defaults. No path is
lost: the two columns together say what the one said before, and a path that matches nothing stays absolute.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

DEFAULTS = {"notebooks": "notebooks", "reports": "reports"}
"""Where the folders for each kind of output are in the outputs folder, if nothing else is set."""


def upgrade() -> None:
    """Add the column, and convert the paths of all runs."""
    op.add_column("runs", sa.Column("outputs_dir", sa.Text))
    config = op.get_context().config
    layout = _Layout((config.attributes.get("folders") if config else None) or {})
    runs = sa.table("runs", sa.column("id"), sa.column("outputs"), sa.column("outputs_dir"))
    connection = op.get_bind()
    rows = connection.execute(sa.select(runs.c.id, runs.c.outputs).where(runs.c.outputs.is_not(None))).all()
    changes = [{"row": row.id, **change} for row in rows if (change := _change(row.outputs, layout))]
    if changes:
        values: dict[str, Any] = {
            "outputs": sa.bindparam("new_outputs"),
            "outputs_dir": sa.bindparam("new_outputs_dir"),
        }
        connection.execute(sa.update(runs).where(runs.c.id == sa.bindparam("row")).values(values), changes)


class _Layout:
    """Where outputs are now: `folders` has the outputs folder and the folder for each kind, if they are known."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self.root = str(folders["outputs"]) if folders else None
        self.folders = {kind: str(folders[kind]) for kind in DEFAULTS if folders}
        self.inside = {kind: end for kind in self.folders if (end := _end(folders[kind], folders["outputs"]))}

    def is_outside(self, kind: str, path: str) -> bool:
        """Return whether a path is in the folder for its kind, and that is not in the outputs folder."""
        return kind not in self.inside and os.path.dirname(path) == self.folders.get(kind)

    def roots(self, paths: Sequence[tuple[str, str]]) -> Iterator[str | None]:
        """Yield what was the outputs folder of `paths`, the best guess first; None is no guess."""
        folders = [(kind, os.path.dirname(path)) for kind, path in paths]
        yield from (_without(folder, self.inside.get(kind)) for kind, folder in folders)
        yield from (self.root for _, path in paths if self.root and path.startswith(_start(self.root)))
        yield from (_without(folder, DEFAULTS[kind]) for kind, folder in folders)


def _change(text: str, layout: _Layout) -> dict[str, str] | None:
    """Return the new values of a row whose outputs are `text`; None if it stays as it is."""
    try:
        outputs = json.loads(text)
        paths = [(kind, path) for kind, path in _paths(outputs) if not layout.is_outside(kind, path)]
        root = next(filter(None, layout.roots(paths)), None)
    except (ValueError, TypeError, AttributeError):
        return None  # Not written by AutoFlow.
    if root is None:
        return None
    relative = {path: path.removeprefix(_start(root)) for _, path in paths}
    for files in outputs.values():
        if "notebook" in files:
            files["notebook"] = relative.get(files["notebook"], files["notebook"])
        if "reports" in files:
            files["reports"] = [relative.get(path, path) for path in files["reports"]]
    return {"new_outputs": json.dumps(outputs, ensure_ascii=False), "new_outputs_dir": root}


def _paths(outputs: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the kind and path of each output."""
    for files in outputs.values():
        if "notebook" in files:
            yield "notebooks", files["notebook"]
        for path in files.get("reports", ()):
            yield "reports", path


def _end(folder: Path, root: Path) -> str | None:
    """Return the path of `folder` in the outputs folder; None if it is outside."""
    for inner, outer in ((folder, root), (folder.resolve(), root.resolve())):
        if inner.is_relative_to(outer):
            return str(inner.relative_to(outer))
    return None


def _without(folder: str, end: str | None) -> str | None:
    """Return `folder` without `end`, its last part or parts; None if it does not end so, or nothing is left."""
    if end is None or not os.path.isabs(folder):
        return None
    if end == os.curdir:
        return folder
    return folder.removesuffix(f"/{end}") if folder.endswith(f"/{end}") and len(folder) > len(end) + 1 else None


def _start(root: str) -> str:
    """Return what the paths below `root` start with."""
    return f"{root.rstrip('/')}/"

"""Where the output of running notebooks is, and how to read it.

Each run has a folder as long as it is in progress, with a file for each of its notebooks; see `live`. Without a file,
the executed notebook has the same.
"""

import json
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from autoflow.notebooks.executed import cell_numbers, first_line_of, text_of
from autoflow.utils import owned_folder, remove_abandoned_folders

SUFFIX = ".jsonl"
"""The end of the names of the files."""

LONGEST_END = 500
"""How many bytes at the end of a file have its last event, which says which cell runs."""


@dataclass(frozen=True, kw_only=True)
class LiveEvent:
    """Something that happens in the notebook with the label `notebook`.

    `kind` is "cell" when a cell starts, whose beginning is `text`; "end"; or that of an output. `cell` is the number of
    the current cell, counted from 1, of so many `cells`.
    """

    notebook: str
    kind: str
    text: str = ""
    cell: int = 0
    cells: int = 0


@dataclass(frozen=True)
class RunProgress:
    """How far a run is: in words, such as "cell 3 of 10 of maps", and in percent of its cells."""

    text: str
    percent: float


@contextmanager
def live_folder(outputs_dir: Path, run_id: int, notebooks: int) -> Iterator[Path | None]:
    """Yield a folder for the output of a run of so many notebooks while the block lasts; None if it cannot be made."""
    place, folder = _place(outputs_dir), None
    with ExitStack() as stack:
        with suppress(OSError):
            place.mkdir(exist_ok=True)
            folder = stack.enter_context(owned_folder(f"{run_id}-{notebooks}-", place))
            folder.chmod(stat.S_IMODE(place.stat().st_mode))  # for all who may read the outputs
        yield folder


def live_name(folder: Path, notebook: str) -> str:
    """Return the name, from the outputs folder on, of the file for the output of a notebook."""
    return f"{_place(Path()) / folder.name / notebook}{SUFFIX}"


def remove_abandoned_live_folders(outputs_dir: Path) -> None:
    """Remove the folders of runs whose processes were killed."""
    remove_abandoned_folders(_place(outputs_dir), "")


def find_live_folder(outputs_dir: Path, run_id: int) -> Path | None:
    """Return the folder of a run in progress; None if there is none."""
    return next(_place(outputs_dir).glob(f"{run_id}-*"), None)


def progress_of_run(outputs_dir: Path, run_id: int) -> RunProgress | None:
    """Return how far a run in progress is; None if no notebook of it has shown anything, or all have ended."""
    folder = find_live_folder(outputs_dir, run_id)
    return _progress_in(folder) if folder else None


def progress_of_runs(outputs_dir: Path) -> dict[int, RunProgress]:
    """Return how far the runs in progress are, by their IDs."""
    found = {_run_of(folder): _progress_in(folder) for folder in _place(outputs_dir).glob("*-*-*")}
    return {run_id: progress for run_id, progress in found.items() if progress}


def _run_of(folder: Path) -> int:
    run_id = folder.name.partition("-")[0]
    return int(run_id) if run_id.isdecimal() else 0


def _progress_in(folder: Path) -> RunProgress | None:
    notebooks = folder.name.split("-")[1]
    try:
        found = [_progress(file) for file in sorted(folder.glob(f"*{SUFFIX}"))]
    except OSError:
        return None
    text = ", ".join(text for text, _ in found if text)
    total = max(len(found), int(notebooks) if notebooks.isdecimal() else 0)
    return RunProgress(text, 100 * sum(share for _, share in found) / total) if text else None


def _progress(file: Path) -> tuple[str, float]:
    """Return which cell of a notebook runs, in words and as a share of all its cells; empty if it has ended."""
    with file.open("rb") as content:
        header = _parsed(content.readline())
        content.seek(max(0, file.stat().st_size - LONGEST_END))
        lines = content.read().splitlines()
    last = _parsed(lines[-1]) if lines else {}
    if "cells" not in last:
        return "", float("is_end" in last)
    text = f"cell {last['cell']} of {last['cells']} of {header.get('notebook')}"
    return text, (last["cell"] - 1) / last["cells"]


class LiveFile:
    """Reads the file of a running notebook. `executed` is the name of its executed notebook, once that is known.

    `cell` is the number of the last cell that was read, and `is_complete` whether the end was.
    """

    def __init__(self, path: Path) -> None:
        self.executed: str | None = None
        self.cell = 0
        self.is_complete = False
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        self._notebook = ""

    def new_events(self) -> Iterator[LiveEvent]:
        """Yield what has been written since the last call; nothing if the file cannot be read."""
        try:
            # It is kept open: it can be read to its end even if it is removed.
            self._file = self._file or self._path.open("rb", buffering=0)
            content = self._rest + (self._file.read() or b"")
        except OSError:
            return
        *lines, self._rest = content.split(b"\n")
        for line in lines:
            yield from self._events(_parsed(line))

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def _events(self, content: Mapping[str, Any]) -> Iterator[LiveEvent]:
        if "notebook" in content:
            # A worker that takes over begins anew.
            self._notebook, self.executed, self.is_complete = content["notebook"], content["executed"], False
        elif "source" in content:
            self.cell = content["cell"]
            yield LiveEvent(
                notebook=self._notebook, kind="cell", text=content["source"], cell=self.cell, cells=content["cells"]
            )
        elif "kind" in content:
            yield LiveEvent(notebook=self._notebook, kind=content["kind"], text=content["text"], cell=self.cell)
        elif "is_end" in content:
            self.is_complete = True
            yield LiveEvent(notebook=self._notebook, kind="end", cell=self.cell)


def events_of_executed(path: Path, notebook: str, *, first: int = 1) -> Iterator[LiveEvent]:
    """Yield what would have been shown of an executed notebook from cell `first` on; nothing if it cannot be read."""
    try:
        cells: Any = json.loads(path.read_text(encoding="utf-8"))["cells"]
        numbers = cell_numbers(cells)
        total = max(filter(None, numbers), default=0)
        for number, cell in zip(numbers, cells, strict=True):
            if number and number >= first and cell["cell_type"] == "code" and _has_run(cell):
                yield LiveEvent(notebook=notebook, kind="cell", text=first_line_of(cell), cell=number, cells=total)
                for kind, text in _outputs(cell["outputs"]):
                    yield LiveEvent(notebook=notebook, kind=kind, text=text, cell=number, cells=total)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return


def _has_run(cell: Mapping[str, Any]) -> bool:
    return cell["metadata"].get("papermill", {}).get("status") in {"completed", "failed"}


def _outputs(outputs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for output in outputs:
        if output["output_type"] == "stream":
            yield output["name"], text_of(output["text"])
        elif output["output_type"] == "error":
            yield "error", "\n".join(output["traceback"]) + "\n"
        elif "text/plain" in output["data"]:
            yield "result", text_of(output["data"]["text/plain"]) + "\n"


def _place(outputs_dir: Path) -> Path:
    return outputs_dir / ".live"


def _parsed(line: bytes) -> Mapping[str, Any]:
    """Return a line of a file; empty if it is not yet whole."""
    try:
        content: Mapping[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return content

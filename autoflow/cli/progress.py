"""The progress of runs in the foreground: live on a terminal, else as lines of the log."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from autoflow.cli.session import Session
from autoflow.cli.show import console
from autoflow.runs.records import RunKey
from autoflow.system.log import set_up_logging


class Watch:
    """Shows runs while they run; safe to use from their threads. `progress` is None if there is no terminal."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._tasks: dict[tuple[RunKey, str], TaskID] = {}
        self._overall = progress.add_task("all dates", total=total) if progress and total > 1 else None

    def cell(self, run: RunKey, notebook: str, number: int, cells: int) -> None:
        """Show that a cell starts; `number` counts from 1."""
        if self._progress is None:
            return
        key = (run, notebook)
        if key not in self._tasks:
            name = f"{run.reference_date}: {notebook}" if self._overall is not None else notebook
            self._tasks[key] = self._progress.add_task(name, total=cells)
        self._progress.update(self._tasks[key], completed=number, total=cells)

    def ended(self, run: RunKey) -> None:
        """Show that `run` has ended."""
        if self._progress is None or self._overall is None:
            return
        for key in [key for key in self._tasks if key[0] == run]:
            self._progress.remove_task(self._tasks.pop(key))
        self._progress.advance(self._overall)


@contextmanager
def watching(session: Session, *, total: int) -> Iterator[Watch]:
    """Yield a watch of `total` runs."""
    settings = session.settings
    if not sys.stderr.isatty():
        set_up_logging("INFO", lambda: settings.secrets)
        yield Watch(None, total)
        return
    terminal = console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(separator=" of "),
        TextColumn("in"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal) as progress:
        # Lines of the log go above the bars, not between them.
        set_up_logging("WARNING", lambda: settings.secrets, stream=cast("TextIO", _Above(terminal)))
        try:
            yield Watch(progress, total)
        finally:
            set_up_logging("WARNING", lambda: settings.secrets)


class _Above(io.TextIOBase):
    """A stream whose lines `console` prints above its progress bars."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def write(self, text: str) -> int:
        if text.strip():
            self._console.print(text.rstrip("\n"), markup=False, soft_wrap=True)
        return len(text)

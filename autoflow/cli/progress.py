"""How far runs in the foreground are: live on a terminal, a line for each start and end elsewhere."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO, cast

from autoflow.cli.session import Session
from autoflow.cli.show import console
from autoflow.log import set_up_logging

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from autoflow.runs.records import RunKey


class Watch:
    """Shows runs while they run; safe to use from their threads. `progress` is None where nobody looks."""

    def __init__(self, progress: "Progress | None", total: int) -> None:
        self._progress = progress
        self._tasks: dict[tuple[RunKey, str], TaskID] = {}
        self._overall = progress.add_task("all dates", total=total) if progress and total > 1 else None

    def cell(self, run: "RunKey", notebook: str, number: int, cells: int) -> None:
        """Show that a cell starts; `number` counts from 1."""
        if self._progress is None:
            return
        key = (run, notebook)
        if key not in self._tasks:
            name = f"{run.reference_date}: {notebook}" if self._overall is not None else notebook
            self._tasks[key] = self._progress.add_task(name, total=cells)
        self._progress.update(self._tasks[key], completed=number, total=cells)

    def ended(self, run: "RunKey") -> None:
        """Show no longer what `run` does: it has ended."""
        if self._progress is None or self._overall is None:
            return
        for key in [key for key in self._tasks if key[0] == run]:
            self._progress.remove_task(self._tasks.pop(key))
        self._progress.advance(self._overall)


@contextmanager
def watching(session: Session, *, total: int) -> Iterator[Watch]:
    """Yield what shows `total` runs."""
    settings = session.settings
    if not sys.stderr.isatty():
        set_up_logging("INFO", lambda: settings.secrets)
        yield Watch(None, total)
        return
    from rich.progress import (  # noqa: PLC0415 - so that --help is quick
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

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
        # Lines of the log go above what is drawn, not into it.
        set_up_logging("WARNING", lambda: settings.secrets, stream=cast("TextIO", _Above(terminal)))
        try:
            yield Watch(progress, total)
        finally:
            set_up_logging("WARNING", lambda: settings.secrets)


class _Above(io.TextIOBase):
    """A stream whose lines `console` prints above its progress bars."""

    def __init__(self, console: "Console") -> None:
        super().__init__()
        self._console = console

    def write(self, text: str) -> int:
        if text.strip():
            self._console.print(text.rstrip("\n"), markup=False, soft_wrap=True)
        return len(text)

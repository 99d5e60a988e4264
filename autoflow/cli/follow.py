"""Shows the cells of a run with their output while it runs, in whichever process that is."""

import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import click
from rich.text import Text

from autoflow.cli.session import Session
from autoflow.errors import AutoflowError
from autoflow.model.store import RunStore
from autoflow.notebooks.executed import ExecutedNotebook
from autoflow.notebooks.live_files import LiveEvent, LiveFile, events_of_executed, find_live_folder
from autoflow.notebooks.redaction import Redaction
from autoflow.notebooks.terminal import plain
from autoflow.runs.records import RunRecord

POLL_SECONDS = 0.4
"""How often the files and the run store are read."""

COLOURS = ("cyan", "magenta", "green", "blue", "yellow")
"""The colours of notebooks, in the order in which they start."""

OUTPUT_COLOURS: Mapping[str, str] = {"error": "red", "note": "yellow"}

LONGEST_LINE = 10_000
"""How much of a line that has not ended is kept, in characters."""


def follow(session: Session, run_id: int) -> RunRecord:
    """Show the output of a run until it has ended, from its start on; return its record.

    Raises
    ------
    AutoflowError
        If there is no such run, and newer ones have started.

    """
    screen = Screen(Redaction(session.settings.secrets))
    follower = Follower(session.settings.outputs_dir, screen)
    try:
        _wait_for_start(session, run_id)
        with session.store() as store:
            record = run_of(store, run_id)
            name = session.run_name(record.key, label=record.label)
            click.echo(f"run {run_id} of {name}, attempt {record.attempt}: {record.state}")
            while record.state.is_active:
                follower.look(run_id)
                time.sleep(POLL_SECONDS)
                store.give_up_crashed()
                record = run_of(store, run_id)
            follower.finish(record)
    finally:
        follower.close()
        screen.end_line()
    return record


def run_of(store: RunStore, run_id: int) -> RunRecord:
    """Return a run; raise AutoflowError if there is none."""
    if record := store.run(run_id):
        return record
    raise AutoflowError(f"there is no run {run_id}; 'autoflow runs' lists the runs")


def _wait_for_start(session: Session, run_id: int) -> None:
    """Wait until a run has started; return at once if its number is not higher than that of every other."""
    is_waiting = False
    while True:
        # Opened each time: the database may not exist yet.
        with session.store() as store:
            newest = next(iter(store.runs(limit=1)), None)
        if newest and newest.id >= run_id:
            return
        if not is_waiting:
            click.echo(f"run {run_id} has not started yet; waiting for it", err=True)
        is_waiting = True
        time.sleep(POLL_SECONDS)


class Follower:
    """Reads the output of a run, and shows it on `screen`."""

    def __init__(self, outputs_dir: Path, screen: "Screen") -> None:
        self._outputs_dir = outputs_dir
        self._screen = screen
        self._files: dict[Path, LiveFile] = {}

    def look(self, run_id: int) -> None:
        """Show what is new while the run is in progress."""
        folder = find_live_folder(self._outputs_dir, run_id)
        try:
            for path in sorted(folder.iterdir()) if folder else ():
                self._files.setdefault(path, LiveFile(path))
        except OSError:
            pass  # it has just been removed
        self._read()

    def finish(self, record: RunRecord) -> None:
        """Show the rest after the run has ended; that of a file that could not be read is in the executed notebook."""
        self._read()
        files = {file.executed: file for file in self._files.values()}
        paths = {label: Path(outputs["notebook"]) for label, outputs in record.outputs.items() if "notebook" in outputs}
        for label, path in sorted(paths.items(), key=lambda each: _start_of(each[1])):
            file = files.get(path.name)
            if file is None or not file.is_complete:
                for event in events_of_executed(path, label, first=file.cell if file else 1):
                    self._screen.show(event)
                self._screen.show(LiveEvent(notebook=label, kind="end"))

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _read(self) -> None:
        for file in self._files.values():
            for event in file.new_events():
                self._screen.show(event)


def _start_of(path: Path) -> str:
    notebook = ExecutedNotebook.read(path)
    return (notebook and notebook.started_at) or ""


class Screen:
    """Prints the output of notebooks, each line with the notebook's label.

    On a terminal, a line that has not ended, such as a progress bar, is shown as it changes; elsewhere, once it has.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._is_terminal = sys.stdout.isatty()
        self._has_open_line = False
        self._begun: dict[str, tuple[str, str]] = {}
        self._prefixes: dict[str, str] = {}

    def show(self, event: LiveEvent) -> None:
        """Show what has happened."""
        text = self._redaction.of_text(event.text)
        kind, begun = self._begun.get(event.notebook, (event.kind, ""))
        if kind != event.kind and begun:
            self._print(event.notebook, kind, plain(begun))
            begun = ""
        if event.kind == "cell":
            self._print(event.notebook, "cell", f"cell {event.cell} of {event.cells}: {plain(text)}")
            text = ""
        lines, newline, rest = (begun + text).rpartition("\n")
        if newline:
            for line in plain(lines).split("\n"):
                # Tracebacks begin with a line of dashes, too long for most terminals.
                if event.kind != "error" or line.strip("-"):
                    self._print(event.notebook, event.kind, line)
        self._begun[event.notebook] = event.kind, rest[-LONGEST_LINE:]
        self._show_begun(event.notebook)

    def end_line(self) -> None:
        """Leave the last line as it is, so that what follows begins on a new one."""
        if self._has_open_line:
            click.echo()
        self._has_open_line = False

    def _print(self, notebook: str, kind: str, line: str) -> None:
        self._erase_open_line()
        is_cell = kind == "cell"
        styled = click.style(line if is_cell else f"  {line}", bold=is_cell, fg=OUTPUT_COLOURS.get(kind))
        click.echo(f"{self._prefix(notebook)}{styled}".rstrip())

    def _show_begun(self, notebook: str) -> None:
        kind, begun = self._begun[notebook]
        if not self._is_terminal or not begun:
            return
        self._erase_open_line()
        line = Text(f"  {plain(begun)}")
        room = shutil.get_terminal_size().columns - 1 - len(click.unstyle(self._prefix(notebook)))
        line.truncate(max(1, room))
        click.echo(self._prefix(notebook) + click.style(line.plain, fg=OUTPUT_COLOURS.get(kind)), nl=False)
        self._has_open_line = True

    def _erase_open_line(self) -> None:
        if self._has_open_line:
            click.echo("\r\x1b[K", nl=False)
        self._has_open_line = False

    def _prefix(self, notebook: str) -> str:
        if notebook not in self._prefixes:
            colour = COLOURS[len(self._prefixes) % len(COLOURS)]
            self._prefixes[notebook] = click.style(f"{plain(notebook)} | ", fg=colour)
        return self._prefixes[notebook]

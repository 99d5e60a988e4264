"""Writes the page after runs have ended, and converts executed notebooks to HTML, in the background."""

import datetime
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from autoflow.errors import RunStoreError
from autoflow.model.opening import PAGE_NAME
from autoflow.model.revisions import EntryYear
from autoflow.model.store import RunStore
from autoflow.notebooks.redaction import Redaction
from autoflow.page.banner import write_banner
from autoflow.page.page import Page, View
from autoflow.runs.attention import Condition
from autoflow.runs.naming import run_name
from autoflow.runs.records import utc_now
from autoflow.runs.run import EndedRun
from autoflow.settings import Settings
from autoflow.specs import TriggerSpec
from autoflow.system.disk import full_disk
from autoflow.system.log import Outage, logger
from autoflow.system.stop_signal import PeriodicThread
from autoflow.utils import readable_path

LOOK_SECONDS = 30.0
"""How often the page is compared with the run store, which other processes change as well."""

SHORTEST_PAUSE = 3.0
"""The shortest pause between two updates of the page, in seconds."""

PAUSE_FACTOR = 20.0
"""The shortest pause in multiples of an update's duration, so that the page uses at most a twentieth of a CPU."""

NOTEBOOKS_AT_ONCE = 20
"""The number of notebooks that one child process converts to HTML."""

SECONDS_FOR_NOTEBOOKS = 120.0
"""How long such a child process may take."""

# Garbage collections would take a third of the time of the imports.
_CONVERTER = "import gc; gc.disable(); from autoflow.page.readable import main; gc.freeze(); gc.enable(); main()"

_ROOT = Path(__file__).parent.parent.parent


def write_page(
    settings: Settings,
    store: RunStore,
    *,
    triggers: Iterable[TriggerSpec] = (),
    clock: Callable[[], datetime.datetime] = utc_now,
    conditions: Sequence[Condition] = (),
    looked_at: datetime.datetime | None = None,
) -> list[Path]:
    """Write the page once, see `View` and `Page.write`; return executed notebooks that have no HTML, newest first."""
    page = Page(settings, store)
    page.write(View(triggers=tuple(triggers), conditions=conditions, looked_at=looked_at), clock=clock)
    return [path for _, _, path in page.unreadable(NOTEBOOKS_AT_ONCE)]


class PageWriter:
    """Updates the page in the background for the duration of the `with` block, and once more at its end.

    It starts with the first `follow`: the status of a failed date depends on workflows.yml.
    """

    def __init__(self, settings: Settings, store: RunStore, *, shortest_pause: float = SHORTEST_PAUSE) -> None:
        self._settings = settings
        self._shortest_pause = shortest_pause
        self._page = Page(settings, store)
        # The banner stays as it is until its conditions are known: it may be that of a daemon.
        self._view = View(conditions=None)
        self._is_following = False
        self._lock = threading.Lock()
        self._outage = Outage()
        self._lock_of_child = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = PeriodicThread("page", self._update, LOOK_SECONDS, also_at_end=True)

    def __enter__(self) -> Self:
        """Start to update the page after changes."""
        self._thread.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Update the page a last time; notebooks without HTML are converted after the next start."""
        self._thread.end()
        with self._lock_of_child:
            if self._child:
                self._child.kill()
        self._thread.join()

    def finish(self) -> None:
        """Write the page and convert all remaining notebooks to HTML, now."""
        while self._write():
            pass

    def run_ended(self, _ended: EndedRun) -> None:
        """Update the page soon."""
        self._thread.wake()

    def refresh(self) -> None:
        """Update the page soon: outputs have been deleted, or runs in progress are further."""
        self._thread.wake()

    def follow(self, triggers: Sequence[TriggerSpec], cdr_types: Sequence[str] | None = None) -> None:
        """Use `triggers` from now on to decide the status of dates, for which data of `cdr_types` count (None: all)."""
        self._is_following = True
        self._show(replace(self._view, triggers=tuple(triggers), cdr_types=cdr_types))

    def show(self, conditions: Sequence[Condition], looked_at: datetime.datetime | None) -> None:
        """Show `conditions` in the banner from now on, and the dates that were given up after `looked_at`, in UTC."""
        self._show(replace(self._view, conditions=tuple(conditions), looked_at=looked_at))

    def _show(self, view: View) -> None:
        if view != self._view:
            self._view = view
            self._thread.wake()

    def _update(self) -> None:
        started = time.monotonic()
        if self._write():
            self._thread.wake()
        self._thread.pause(max(self._shortest_pause, PAUSE_FACTOR * (time.monotonic() - started)))

    def _write(self) -> bool:
        """Write the page, then convert some notebooks; return whether the page has to be updated with their HTML."""
        if not self._is_following:
            return False
        view = self._view
        with self._lock:
            try:
                self._write_page(view)
                self._outage.end("wrote %s again", self._settings.outputs_dir / PAGE_NAME)
                return not self._thread.is_ending and self._make_readable(view)
            except (RunStoreError, OSError) as error:
                self._outage.begin("could not write %s: %s", self._settings.outputs_dir / PAGE_NAME, error)
                return False

    def _write_page(self, view: View) -> None:
        """Write the page or, if the run store fails or the disk is full, only its banner."""
        try:
            self._page.write(view)
        except (RunStoreError, OSError):
            if view.conditions is not None:
                with suppress(OSError):
                    write_banner(self._settings, view.conditions)
            raise

    def _make_readable(self, view: View) -> bool:
        """Convert notebooks in a child process, as they may contain anything; return whether any was converted."""
        notebooks = self._page.unreadable(NOTEBOOKS_AT_ONCE)
        if not notebooks:
            return False
        redaction = Redaction(self._settings.secrets)
        titles = [redaction.of_text(f"{run_name(key, view.triggers)}: {label}") for key, label, _ in notebooks]
        paths = [path for _, _, path in notebooks]
        if (status := self._convert(zip(paths, titles, strict=True))) is None:
            return False
        self._page.changed.update(EntryYear(key.workflow_key, key.reference_date.year) for key, *_ in notebooks)
        failed = [path for path in paths if not readable_path(path).exists()]
        if status:
            del failed[1:]  # it was converting the first; the others have not had their turn
        if not full_disk(self._settings.written_folders):
            self._page.unconvertible.update(failed)
        return len(failed) < len(notebooks)

    def _convert(self, notebooks: Iterable[tuple[Path, str]]) -> int | None:
        """Convert notebooks, given with their titles; return the exit status of the process, None without one."""
        command = [sys.executable, "-c", _CONVERTER]
        environment = {"PATH": os.defpath, "PYTHONPATH": str(_ROOT), "PYTHONUTF8": "1"}
        with self._lock_of_child:
            if self._thread.is_ending:
                return None
            self._child = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        with self._child as child:
            try:
                _, said = child.communicate(
                    "\0".join(f"{path}\0{title}" for path, title in notebooks).encode(), timeout=SECONDS_FOR_NOTEBOOKS
                )
                for line in said.decode(errors="replace").splitlines():
                    logger.warning("%s", line)
            except subprocess.TimeoutExpired:
                child.kill()
        self._child = None
        return child.returncode

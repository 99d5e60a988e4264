"""Writes the page after runs have ended, and converts executed notebooks to HTML, in the background."""

import base64
import datetime
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import jinja2

from autoflow.errors import RunStoreError
from autoflow.model.opening import PAGE_NAME
from autoflow.model.store import RunStore
from autoflow.notebooks.redaction import Redaction
from autoflow.page.content import STATUSES, Compact, Links, given_up_dates, lists_of, read_contents
from autoflow.runs.attention import Condition, as_text, given_up
from autoflow.runs.naming import run_name
from autoflow.runs.records import utc_now
from autoflow.runs.run import EndedRun
from autoflow.settings import Settings
from autoflow.specs import TriggerSpec
from autoflow.system.disk import full_disk
from autoflow.system.log import Outage, logger
from autoflow.system.stop_signal import PeriodicThread
from autoflow.utils import readable_path, whole_file

SHORTEST_PAUSE = 3.0
"""The shortest pause between two updates of the page, in seconds."""

PAUSE_FACTOR = 20.0
"""The shortest pause in multiples of an update's duration, so that the page uses at most a twentieth of a CPU."""

NOTEBOOKS_AT_ONCE = 20
"""The number of notebooks that one child process converts to HTML."""

SECONDS_FOR_NOTEBOOKS = 120.0
"""How long such a child process may take."""

BANNER_BEGIN = "<!-- begin of the banner -->"
BANNER_END = "<!-- end of the banner -->"
"""Marks around the banner in the page. No text in the page can contain them, because a "<" is escaped there."""

ROOM_FOR_BANNER = 4000
"""The shortest banner with its spaces, in bytes."""

MOST_IN_SHORT = 4
"""The highest number of conditions in a banner that has to fit into the place of the one before."""

_FOLDER = Path(__file__).parent
_ROOT = _FOLDER.parent.parent


def write_page(
    settings: Settings,
    store: RunStore,
    *,
    triggers: Iterable[TriggerSpec] = (),
    clock: Callable[[], datetime.datetime] = utc_now,
    conditions: Sequence[Condition] = (),
    looked_at: datetime.datetime | None = None,
) -> list[tuple[Path, str]]:
    """Write the page atomically; return the executed notebooks that have no HTML yet, newest first, with their titles.

    `triggers` decide which dates are retried, and after how many attempts they are given up. The banner shows the
    `conditions`, and the dates that were given up after `looked_at`, in UTC.

    Raises
    ------
    RunStoreError, OSError
        If the run store cannot be read, or the outputs folder cannot be written.

    """
    links, triggers = Links(settings.outputs_dir, settings.notebooks_dir), tuple(triggers)
    contents = read_contents(store, triggers)
    series = contents.series
    redaction = Redaction(settings.secrets)
    compact = Compact(links, redaction)
    shown = [_without_secrets(compact.series(each), redaction) for each in series]
    reasons = {"reasons": list(compact.reasons), "places": compact.places}
    content = {"states": STATUSES, "series": shown, **_without_secrets(reasons, redaction)}
    warning = given_up(given_up_dates(series), looked_at, name=partial(run_name, triggers=triggers))
    banner = _banner([*conditions, *([warning] if warning else [])], clock(), redaction)
    lists = _without_secrets(lists_of(contents, links), redaction)
    html = _rendered(content, lists, clock(), banner=banner)
    with whole_file(settings.outputs_dir / PAGE_NAME) as unfinished:
        unfinished.write_text(html, encoding="utf-8")
    unreadable = links.unreadable.items()
    return [(path, redaction.of_text(f"{run_name(key, triggers)}: {label}")) for path, (key, label) in unreadable]


def write_banner(
    settings: Settings, conditions: Sequence[Condition], *, clock: Callable[[], datetime.datetime] = utc_now
) -> None:
    """Show the `conditions` in the banner of the existing page, also on a full disk, and leave the rest as it was.

    Raises
    ------
    OSError
        If there is no page yet, or it cannot be written.

    """
    page, redaction = settings.outputs_dir / PAGE_NAME, Redaction(settings.secrets)
    before, begin, rest = page.read_bytes().partition(BANNER_BEGIN.encode())
    old, end, after = rest.partition(BANNER_END.encode())
    if not (begin and end):
        return
    banner = _padded(_banner(conditions, clock(), redaction)).encode()
    try:
        with whole_file(page) as unfinished:
            unfinished.write_bytes(before + begin + banner + end + after)
    except OSError:
        if len(banner) > len(old):
            short = [replace(each, details=()) for each in conditions[:MOST_IN_SHORT]]
            banner = _banner(short, clock(), redaction).encode()
        if len(banner) > len(old):
            raise
        # This needs no more room on the disk.
        with page.open("r+b") as file:
            os.pwrite(file.fileno(), banner.ljust(len(old)), len(before + begin))


def _padded(banner: str) -> str:
    """Return the banner with space for a longer one, which can then be written even if the disk is full."""
    return banner + " " * max(0, ROOM_FOR_BANNER - len(banner.encode()))


def _banner(conditions: Sequence[Condition], made_at: datetime.datetime, redaction: Redaction) -> str:
    shown = [
        {
            "reason": redaction.of_text(each.reason),
            "since": as_text(each.since) if each.since else "",
            "what_to_do": redaction.of_text(f"{each.what_to_do[:1].upper()}{each.what_to_do[1:]}"),
            "details": [redaction.of_text(line) for line in each.details],
        }
        for each in conditions
    ]
    is_warning = all(each.is_warning for each in conditions)
    return _template("banner.html").render(conditions=shown, is_warning=is_warning, made=as_text(made_at))


def _template(name: str) -> jinja2.Template:
    return jinja2.Environment(autoescape=True).from_string((_FOLDER / name).read_text(encoding="utf-8"))


def _rendered(content: Mapping[str, Any], lists: Mapping[str, Any], made_at: datetime.datetime, *, banner: str) -> str:
    # A "<" could end the script element that contains the text.
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    script, style = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    return _template("page.html").render(
        **lists,
        banner=f"{BANNER_BEGIN}{_padded(banner)}{BANNER_END}",
        content=text,
        made=as_text(made_at),
        script=script,
        script_hash=_hash(script),
        style=style,
        style_hash=_hash(style),
        states=STATUSES,
    )


def _without_secrets(value: Any, redaction: Redaction) -> Any:
    """Return `value` with secrets removed from its strings; keys stay, even if one happens to equal a secret."""
    if isinstance(value, str):
        return redaction.of_text(value)
    if isinstance(value, Mapping):
        return {key: _without_secrets(item, redaction) if key != "days" else item for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(item, redaction) for item in value]
    return value


def _hash(text: str) -> str:
    """Return the source expression with which a Content-Security-Policy allows an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


class PageWriter:
    """Updates the page in the background for the duration of the `with` block, and once more at its end.

    It starts with the first `follow`: the status of a failed date depends on workflows.yml.
    """

    def __init__(self, settings: Settings, store: RunStore, *, shortest_pause: float = SHORTEST_PAUSE) -> None:
        self._settings = settings
        self._store = store
        self._shortest_pause = shortest_pause
        self._triggers: Sequence[TriggerSpec] | None = None
        self._conditions: Sequence[Condition] = ()
        self._looked_at: datetime.datetime | None = None
        self._lock = threading.Lock()
        self._unconvertible: set[Path] = set()
        self._outage = Outage()
        self._lock_of_child = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = PeriodicThread("page", self._update, also_at_end=True)

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

    def outputs_deleted(self) -> None:
        """Update the page soon."""
        self._thread.wake()

    def follow(self, triggers: Sequence[TriggerSpec]) -> None:
        """Use `triggers` from now on to decide the status of dates that failed."""
        if triggers != self._triggers:
            self._triggers = triggers
            self._thread.wake()

    def show(self, conditions: Sequence[Condition], looked_at: datetime.datetime | None) -> None:
        """Show `conditions` in the banner from now on, and the dates that were given up after `looked_at`, in UTC."""
        if (tuple(conditions), looked_at) != (self._conditions, self._looked_at):
            self._conditions, self._looked_at = tuple(conditions), looked_at
            self._thread.wake()

    def _update(self) -> None:
        started = time.monotonic()
        if self._write():
            self._thread.wake()
        self._thread.pause(max(self._shortest_pause, PAUSE_FACTOR * (time.monotonic() - started)))

    def _write(self) -> bool:
        """Write the page, then convert some notebooks; return whether the page has to be updated with their HTML."""
        if self._triggers is None:
            return False
        with self._lock:
            try:
                missing = self._write_page()
                self._outage.end("wrote %s again", self._settings.outputs_dir / PAGE_NAME)
                missing = [each for each in missing if each[0] not in self._unconvertible][:NOTEBOOKS_AT_ONCE]
                return not self._thread.is_ending and self._make_readable(missing)
            except (RunStoreError, OSError) as error:
                self._outage.begin("could not write %s: %s", self._settings.outputs_dir / PAGE_NAME, error)
                return False

    def _write_page(self) -> list[tuple[Path, str]]:
        """Write the page or, if the run store fails or the disk is full, only its banner."""
        try:
            return write_page(
                self._settings,
                self._store,
                triggers=self._triggers or (),
                conditions=self._conditions,
                looked_at=self._looked_at,
            )
        except (RunStoreError, OSError):
            with suppress(OSError):
                write_banner(self._settings, self._conditions)
            raise

    def _make_readable(self, notebooks: Sequence[tuple[Path, str]]) -> bool:
        """Convert notebooks in a child process, as they may contain anything; return whether any was converted."""
        if not notebooks:
            return False
        command = [sys.executable, "-m", "autoflow.page.readable"]
        environment = {"PATH": os.defpath, "PYTHONPATH": str(_ROOT), "PYTHONUTF8": "1"}
        with self._lock_of_child:
            if self._thread.is_ending:
                return False
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
        failed = [path for path, _ in notebooks if not readable_path(path).exists()]
        if child.returncode:
            del failed[1:]  # it was converting the first; the others have not had their turn
        if not full_disk(self._settings.written_folders):
            self._unconvertible.update(failed)
        return len(failed) < len(notebooks)

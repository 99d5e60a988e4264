"""Small pure helpers that two modules or more use."""

import datetime as dt
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{12}\.part(\..*)?", re.DOTALL)
_A_DAY = 24 * 3600


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, else remove it.

    A reader of `path` sees no file, the old file, or all of the new one. The temporary name starts with a dot and has
    the suffix of `path`, for tools that look at it.

    Raises
    ------
    OSError
        If the folder is not writable.

    """
    # A name may be 255 bytes long, which is fewer characters in many scripts.
    beginning = os.fsdecode(os.fsencode(path.stem)[:100])
    temporary = path.with_name(f".{beginning}.{uuid.uuid4().hex[:12]}.part{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files of `whole_file` from `folder` that are older than a day: their writers were killed."""
    for path in folder.iterdir():
        with suppress(OSError):
            if _UNFINISHED.fullmatch(path.name) and is_old(path.stat()):
                path.unlink()


def is_old(status: os.stat_result) -> bool:
    """Return whether a file was last written over a day ago, or while a clock was ahead by over a day."""
    return abs(time.time() - status.st_mtime) > _A_DAY


def as_yaml(value: object) -> str:
    """Write a value on one line, as it would stand in a YAML file."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{as_yaml(key)}: {as_yaml(item)}' for key, item in value.items())}}}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, dt.date) else repr(value)


def first_line(error: BaseException) -> str:
    """Return the first line of the message of `error`, or its class name if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


SHORTEST_SECRET = 6
"""In characters; shorter secrets are not redacted, because they occur in texts by chance."""


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with every one of `secrets` replaced."""
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "[secret]")
    return text


def keep_sqlite_path(uri: str) -> str:
    """Return `uri` so that SQLAlchemy opens the file whose path it spells out, if it is one for SQLite.

    SQLAlchemy decodes percent signs from version 2.1 on: without this, `b%20c` would open the file `b c`.
    """
    if not uri.startswith("sqlite"):
        return uri
    path, mark, query = uri.partition("?")
    return path.replace("%", "%25") + mark + query


SET_BACK_SECONDS = 60.0
"""By how much the system's clock has to be set back at once for `ClockWatch` to notice."""


def _seconds_ahead() -> float:
    """Return how far the system's clock is ahead of one that nobody can set."""
    return time.time() - time.monotonic()


class ClockWatch:
    """Notices that the system's clock was set back, when it is asked."""

    def __init__(self, seconds_ahead: Callable[[], float] = _seconds_ahead) -> None:
        self._seconds_ahead = seconds_ahead
        self._before = seconds_ahead()

    def was_set_back(self) -> bool:
        """Return whether the clock was set back since the last call."""
        before, self._before = self._before, self._seconds_ahead()
        return self._before < before - SET_BACK_SECONDS

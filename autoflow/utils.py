"""Small pure helpers that two modules or more use."""

import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_UNFINISHED = re.compile(r"\..*\.[0-9a-f]{12}\.part(\..*)?", re.DOTALL)
_A_DAY = 24 * 3600


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`, which becomes `path` when the block ends well and is removed when not.

    A reader of `path` sees nothing, or the old file, or all of the new one. The temporary name starts with a dot,
    and ends with the suffix of `path`, for tools that go by it.

    Raises
    ------
    OSError
        If the folder cannot be written.

    """
    # A name may be 255 bytes long, which is fewer characters in most scripts.
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
    """Remove what processes that were killed while they wrote a `whole_file` into `folder` have left for a day."""
    for path in folder.iterdir():
        with suppress(OSError):
            if _UNFINISHED.fullmatch(path.name) and is_old(path.stat()):
                path.unlink()


def is_old(status: os.stat_result) -> bool:
    """Return whether a file was last written over a day ago, or while a clock was ahead by over a day."""
    return abs(time.time() - status.st_mtime) > _A_DAY


def first_line(error: BaseException) -> str:
    """Return the first line of what `error` says or, where it says nothing, of which class it is."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


SHORTEST_SECRET = 6
"""Shorter secrets are not looked for in texts, where they would stand by chance, characters."""


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

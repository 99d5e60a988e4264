"""Small pure helpers that two modules or more use."""

import datetime as dt
import errno
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from autoflow.ownership import owned_file, remove_if_abandoned, this_machine

_UNFINISHED = re.compile(r"\..*\.([0-9a-f]{6})[0-9a-f]{6}\.part(\..*)?", re.DOTALL)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, else remove it.

    A reader of `path` sees no file, the old file, or all of the new one. The temporary name starts with a dot and has
    the suffix of `path`, for tools that look at it.

    Raises
    ------
    OSError
        If the folder is not writable, or the block writes nothing.

    """
    # A name may be 255 bytes long, which is fewer characters in many scripts.
    beginning = os.fsdecode(os.fsencode(path.stem)[:100])
    temporary = path.with_name(f".{beginning}.{this_machine()}{uuid.uuid4().hex[:6]}.part{path.suffix}")
    with owned_file(temporary):
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
                if not os.fstat(file.fileno()).st_size:
                    raise FileNotFoundError(errno.ENOENT, "nothing was written", str(temporary))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files of `whole_file` from `folder` whose writers were killed.

    Those from another machine that shares the folder, or from before the last boot, are removed after a day.
    """
    for path in folder.iterdir():
        if match := _UNFINISHED.fullmatch(path.name):
            remove_if_abandoned(path, only_after_a_day=match[1] != this_machine())


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

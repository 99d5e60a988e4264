"""Small helpers that two modules or more use.

Temporary files and folders have an owner, a lock (`flock`) that the operating system releases when the owner dies. So
whatever is not locked was left by a process that was killed, and can be removed at once. Locks do not depend on
process ids: they also work between containers, and over NFS.
"""

import contextlib
import datetime as dt
import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
import unicodedata
import urllib.parse
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_UNFINISHED = re.compile(r"\..*\.([0-9a-f]{6})[0-9a-f]{6}\.part(\..*)?", re.DOTALL)

LONGEST_NAME_PART = 60
"""The longest part of a filename that comes from a workflow's or notebook's name, in bytes; a filename may have 255."""

THUMBNAILS_FOLDER = "thumbnails"
"""The folder in that of the reports with pictures of their first pages."""

_A_DAY = 24 * 3600
"""The age at which files that may be in use elsewhere are removed, in seconds."""


@contextmanager
def whole_file(path: Path, confirm: Callable[[], None] | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block succeeds, else remove it.

    A reader of `path` sees no file, the old file, or all of the new one. The temporary name starts with a dot and has
    the suffix of `path`, for tools that look at it. `confirm` is called right before the file is renamed; if it raises,
    the file is removed instead.

    Raises
    ------
    OSError
        If the folder is not writable, or the block writes nothing.

    """
    # A name may be 255 bytes long, which is fewer characters in many scripts.
    beginning = os.fsdecode(os.fsencode(path.stem)[:100])
    temporary = path.with_name(f".{beginning}.{_this_machine()}{uuid.uuid4().hex[:6]}.part{path.suffix}")
    with _owned_file(temporary):
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
                if not os.fstat(file.fileno()).st_size:
                    raise FileNotFoundError(errno.ENOENT, "nothing was written", str(temporary))
            if confirm:
                confirm()
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files of `whole_file` from `folder` whose writers were killed.

    Those from another machine that shares the folder, or from before the last boot, are removed after a day.
    """
    for path in folder.iterdir():
        if match := _UNFINISHED.fullmatch(path.name):
            _remove_if_abandoned(path, only_after_a_day=match[1] != _this_machine())


def _this_machine() -> str:
    """Return six hexadecimal digits that are the same for all processes, also in containers, until the next boot."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    except OSError:
        boot = uuid.uuid4().bytes
    return hashlib.sha256(boot).hexdigest()[:6]


@contextmanager
def _owned_file(path: Path) -> Iterator[None]:
    """Create the empty file `path`, owned by this process for the duration of the block."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with _closing(descriptor):
            if _is_locked_now(descriptor, path):
                yield
                return


@contextmanager
def owned_folder(prefix: str, place: Path) -> Iterator[Path]:
    """Yield a new folder in `place`, owned by this process for the duration of the block and removed at its end."""
    folder, descriptor = _new_owned_folder(prefix, place)
    with _closing(descriptor):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _new_owned_folder(prefix: str, place: Path) -> tuple[Path, int]:
    """Return a new folder and a file descriptor that owns it until it is closed."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
        # Another process may take it for abandoned, and remove it, before it is locked.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_DIRECTORY)
            if _is_locked_now(descriptor, folder):
                return folder, descriptor
            os.close(descriptor)


def remove_abandoned_folders(place: Path, prefix: str) -> None:
    """Remove folders of `owned_folder` whose owner was killed; those of other users stay."""
    for folder in place.glob(f"{prefix}*"):
        with contextlib.suppress(OSError), _closing(os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)) as descriptor:
            if os.fstat(descriptor).st_uid == os.getuid() and _is_abandoned(descriptor):
                shutil.rmtree(folder, ignore_errors=True)


def _remove_if_abandoned(path: Path, *, only_after_a_day: bool) -> None:
    """Remove a file of `whole_file` if its owner was killed."""
    with contextlib.suppress(OSError), _closing(os.open(path, os.O_RDWR | os.O_NOFOLLOW)) as descriptor:
        if (not only_after_a_day or _is_old(descriptor)) and _is_abandoned(descriptor):
            path.unlink()


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_locked_now(descriptor: int, path: Path) -> bool:
    """Lock a new file or folder; return False if another process took it for abandoned before that."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _is_abandoned(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return _is_old(descriptor)  # a file system without locks
    return True


def _is_old(descriptor: int) -> bool:
    """Return whether a file was last written over a day ago, or while a clock was ahead by over a day."""
    return abs(time.time() - os.fstat(descriptor).st_mtime) > _A_DAY


_warnings_lock = threading.Lock()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore warnings for the duration of the block.

    With Python's own way alone, warnings would stay ignored if the blocks of two threads overlapped.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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


def name_part(name: str) -> str:
    """Return `name` without characters that are unsafe in filenames, still different for different names."""
    clean = re.sub(r"[^\w.-]+", "-", name).strip("-.").encode()[:LONGEST_NAME_PART].decode(errors="ignore")
    if clean == name:
        return name
    return f"{clean}-{hashlib.sha256(name.encode()).hexdigest()[:6]}".lstrip("-")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits; raise OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def thumbnail_path(report: Path) -> Path:
    """Return the path of the picture of a PDF report's first page, which may not exist."""
    return report.parent / THUMBNAILS_FOLDER / f"{report.stem}.png"


def readable_path(notebook: Path) -> Path:
    """Return the path of an executed notebook's copy as HTML."""
    return notebook.with_name(readable_name(notebook.name))


def readable_name(notebook: str) -> str:
    """Return the name or path, as text, of an executed notebook's copy as HTML."""
    return notebook.removesuffix(".ipynb") + ".html"


def cell_anchor(number: int) -> str:
    """Return the part of an address that leads to a cell in an executed notebook's copy as HTML."""
    return f"#cell-{number}"


SHORTEST_SECRET = 6
"""In characters; shorter secrets are not redacted, because they occur in texts by chance."""


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with every one of `secrets` replaced."""
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "[secret]")
    return text


def attachment_name(address: str, names: Iterable[str]) -> str | None:
    """Return which of the `names` of a cell's attachments the rest of an ``attachment:`` address means; None if none.

    Editors write it as it is or URL-encoded, and may compose accents differently. The closest name counts.
    """
    known = tuple(names)
    for seen in (str, urllib.parse.unquote, _composed, lambda name: _composed(name).casefold()):
        for name in known:
            if seen(name) == seen(address) or name == seen(address):
                return name
    return None


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", urllib.parse.unquote(name)).strip()


def keep_sqlite_path(uri: str) -> str:
    """Return `uri` so that SQLAlchemy opens the file whose path it spells out, if it is one for SQLite.

    SQLAlchemy decodes percent signs from version 2.1 on: without this, `b%20c` would open the file `b c`.
    """
    if not uri.startswith("sqlite"):
        return uri
    path, mark, query = uri.partition("?")
    return path.replace("%", "%25") + mark + query


SET_BACK_SECONDS = 60.0
"""The smallest step back of the system's clock that `ClockWatch` notices, in seconds."""


def _seconds_ahead() -> float:
    """Return how far the system's clock is ahead of a clock that cannot be set."""
    return time.time() - time.monotonic()


class ClockWatch:
    """Notices, when polled, that the system's clock was set back."""

    def __init__(self, seconds_ahead: Callable[[], float] = _seconds_ahead) -> None:
        self._seconds_ahead = seconds_ahead
        self._before = seconds_ahead()

    def was_set_back(self) -> bool:
        """Return whether the clock was set back since the last call."""
        before, self._before = self._before, self._seconds_ahead()
        return self._before < before - SET_BACK_SECONDS

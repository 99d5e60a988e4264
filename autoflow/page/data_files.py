"""The files from which the page's script loads its data: one for each entry and calendar year, and parts of the list.

They are scripts, because browsers do not let a page that is opened from the disk read other files.
"""

import fcntl
import hashlib
import hmac
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from autoflow.model.opening import PAGE_NAME
from autoflow.page.texts import as_json
from autoflow.utils import remove_unfinished, whole_file

FOLDER_NAME = "page"
"""The folder in the outputs folder with the data of the page."""

LOCK_NAME = "page.lock"
"""The file in the outputs folder that a process locks while it writes the page."""

_CATALOGUE = re.compile(r'<script type="application/json" id="content">(.*?)</script>', re.DOTALL)
_CALL = re.compile(r'autoflow\("[^"]*",(.*)\);\n', re.DOTALL)


class PageLock:
    """The file that a process locks while it writes the page; it is not for readers.

    It has a hash of the secrets that were removed from the page: with other ones, all of it is written anew.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def has_secrets(self, secrets: Sequence[str]) -> bool:
        """Return whether these `secrets` were removed from the page, and no others."""
        salt, _, digest = os.pread(self._descriptor, 1000, 0).decode(errors="replace").partition(" ")
        return bool(digest) and hmac.compare_digest(_slow_hash(secrets, salt), digest.strip())

    def keep_secrets(self, secrets: Sequence[str]) -> None:
        """Record that these `secrets` were removed from the page."""
        salt = os.urandom(16).hex()
        text = f"{salt} {_slow_hash(secrets, salt)}\n".encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))


def _slow_hash(secrets: Sequence[str], salt: str) -> str:
    return hashlib.scrypt("\0".join(secrets).encode(), salt=salt.encode(), n=2**14, r=8, p=1).hex()


class DataFiles:
    """The data files in the outputs folder `outputs_dir`, and the page that belongs to them.

    Every method that writes raises OSError if it cannot.
    """

    def __init__(self, outputs_dir: Path) -> None:
        self._page = outputs_dir / PAGE_NAME
        self._folder = outputs_dir / FOLDER_NAME
        self._lock = outputs_dir / LOCK_NAME

    @contextmanager
    def locked(self) -> Iterator["PageLock"]:
        """Keep other processes from writing the page for the duration of the block."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield PageLock(descriptor)
        finally:
            os.close(descriptor)

    @property
    def stamp(self) -> object:
        """What identifies the present page: another one has another stamp; None if there is none."""
        try:
            status = self._page.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size

    def page(self) -> str:
        """Return the present page; empty if there is none."""
        try:
            return self._page.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def catalogue(self) -> Mapping[str, Any]:
        """Return the catalogue of the present page with all its entries; empty if it cannot be read."""
        try:
            found = _CATALOGUE.search(self.page())
            catalogue = json.loads(found[1]) if found else {}
            if parts := catalogue.get("parts"):
                catalogue["entries"] = [entry for number in range(len(parts)) for entry in self._part(number)]
        except (OSError, ValueError, AttributeError):
            return {}
        return dict(catalogue)

    def _part(self, number: int) -> list[Any]:
        found = _CALL.fullmatch(self._path_of_part(number).read_text(encoding="utf-8"))
        return list(json.loads(found[1])) if found else []

    def _path_of_part(self, number: int) -> Path:
        return self._folder / f"entries-{number}.js"

    def years(self) -> frozenset[tuple[str, int]]:
        """Return the entries and years that have a file."""
        paths = self._folder.glob("*/*.js")
        return frozenset((path.parent.name, int(path.stem)) for path in paths if path.stem.isdecimal())

    def write_year(self, slug: str, year: int, data: Mapping[str, Any], *, before: str | None) -> str:
        """Write the data of an entry and a year; return its version. Nothing is written if that is as `before`."""
        return _written(self._folder / slug / f"{year}.js", f"{slug}/{year}", data, before)

    def write_part(self, number: int, entries: Sequence[Any], *, before: str | None) -> str:
        """Write a part of the list of entries; return its version. Nothing is written if that is as `before`."""
        return _written(self._path_of_part(number), f"entries-{number}", entries, before)

    def write_page(self, html: str) -> None:
        """Write the page."""
        with whole_file(self._page) as unfinished:
            unfinished.write_text(html, encoding="utf-8")

    def remove_others(self, years: Collection[tuple[str, int]], *, parts: int) -> None:
        """Remove the files of all entries and years that are not in `years`, and parts from the number `parts` on."""
        for slug, year in self.years() - set(years):
            with suppress(OSError):
                (self._folder / slug / f"{year}.js").unlink()
        for folder in self._folder.glob("*/"):
            with suppress(OSError):  # of those that are not empty
                remove_unfinished(folder)
                folder.rmdir()
        while self._path_of_part(parts).exists():
            self._path_of_part(parts).unlink()
            parts += 1


def _written(path: Path, name: str, data: Any, before: str | None) -> str:
    text = f'autoflow("{name}",{as_json(data)});\n'.encode(errors="replace")
    version = hashlib.sha256(text).hexdigest()[:8]
    if version != before:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            unfinished.write_bytes(text)
    return version

"""Changes of imported files are detected."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from autoflow.kernels.stamps import Stamps


def changes() -> dict[str, Callable[[Path], object]]:
    """Return what may happen in a folder with module.py, archive.zip, a package and text.txt."""
    return {
        "edited": lambda folder: (folder / "module.py").write_text("of another size"),
        "removed": lambda folder: (folder / "module.py").unlink(),
        "made": lambda folder: (folder / "absent.cfg").touch(),
        "replaced by one of its size and time": replace,
        "given another time": lambda folder: os.utime(folder / "archive.zip", (1, 1)),
        "module added": lambda folder: (folder / "other.py").touch(),
        "extension added": lambda folder: (folder / "other.cpython-311-x86_64-linux-gnu.so").touch(),
        "package added": lambda folder: (folder / "other").mkdir(),
        "distribution installed": lambda folder: (folder / "other-1.0.dist-info").mkdir(),
        "folder removed": lambda folder: folder.rename(folder.parent / "elsewhere"),
    }


def replace(folder: Path) -> None:
    old, new = folder / "module.py", folder / "new.txt"
    new.write_bytes(old.read_bytes())
    os.utime(new, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))
    new.replace(old)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    (folder / "package").mkdir(parents=True)
    for name in ("module.py", "archive.zip", "text.txt"):
        (folder / name).write_text(name)
    return folder


def stamps_of(folder: Path) -> Stamps:
    return Stamps.taken([str(folder / name) for name in ("module.py", "archive.zip", "absent.cfg")], [str(folder)])


@pytest.mark.parametrize("change", changes())
def test_change_is_noticed(folder: Path, change: str) -> None:
    stamps = stamps_of(folder)
    assert not stamps.are_outdated
    changes()[change](folder)
    assert stamps.are_outdated


def test_change_of_a_file_that_nothing_was_imported_from_is_ignored(folder: Path) -> None:
    stamps = stamps_of(folder)
    (folder / "text.txt").write_text("edited")
    (folder / "more.txt").touch()
    (folder / "__pycache__").mkdir()
    (folder / "package" / "data").touch()
    assert not stamps.are_outdated


def test_file_that_was_changed_meanwhile_is_named(folder: Path) -> None:
    began = time.time_ns()
    assert stamps_of(folder).changed_since(began) is None
    os.utime(folder / "module.py", ns=(began + 1, began + 1))
    assert stamps_of(folder).changed_since(began) == str(folder / "module.py")

"""Small disks for tests, which can become full."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """Mount a small disk in memory at `folder`, where this machine allows that."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def resize(folder: Path, options: str) -> None:
    """Mount a small disk again with other `options`, such as its size."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True, capture_output=True)


FILLER = "filler"
"""The name of the file that fills a disk."""


def fill(folder: Path, left: int) -> None:
    """Write a file that leaves `left` bytes of a small disk."""
    status = os.statvfs(folder)
    (folder / FILLER).write_bytes(bytes(status.f_bavail * status.f_frsize - left))

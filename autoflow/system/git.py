"""The state of a folder in git."""

import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GIT_SECONDS = 10.0
"""How long git may take to answer."""


FRESH_SECONDS = 10.0
"""How long an answer of git is used again."""

_lock = threading.Lock()
_states: dict[Path, tuple[float, Mapping[str, Any] | None]] = {}


def recent_git_state(folder: Path) -> Mapping[str, Any] | None:
    """Return what `git_state` returns, or has returned for the folder in the last seconds."""
    with _lock:
        asked, state = _states.get(folder, (-FRESH_SECONDS, None))
        if time.monotonic() - asked >= FRESH_SECONDS:
            state = git_state(folder)
            _states[folder] = (time.monotonic(), state)
        return state


def git_state(folder: Path) -> Mapping[str, Any] | None:
    """Return the commit that a folder is at, and whether it is clean: without changed, deleted or new files.

    Return None if it is not in a git repository with a commit, or git is not installed or does not answer.
    """
    commit = _answer(folder, "rev-parse", "HEAD")
    changes = _answer(folder, "status", "--porcelain", "--", ".")
    return None if commit is None or changes is None else {"commit": commit.strip(), "is_clean": not changes.strip()}


def _answer(folder: Path, *arguments: str) -> str | None:
    # The folder may belong to another user, as a mounted one often does. Its notebooks are executed, so it is trusted.
    options = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "--no-optional-locks"]
    try:
        done = subprocess.run(
            ["git", *options, "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")

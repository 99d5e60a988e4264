"""A home folder for libraries, where the user has none that they can use.

Jupyter, IPython, matplotlib and fontconfig look for folders in the user's home, some while they are imported. Without a
home they fail; if they cannot write there, they warn each time, and leave a new folder in TMPDIR.
"""

import os
import pwd
import stat
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from autoflow.errors import AutoflowError

_SUBSTITUTE = f"autoflow-home-{os.getuid()}"

_FOLDERS = {
    "IPYTHONDIR": ".ipython",
    "JUPYTER_RUNTIME_DIR": ".local/share/jupyter/runtime",
    "MPLCONFIGDIR": ".config/matplotlib",
    "XDG_CACHE_HOME": ".cache",
}
"""The folders in a home to which libraries write, by the variables that move them elsewhere."""

_USER_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
"""The variables in which Python looks for the name of the user."""


def prepare_home(environ: MutableMapping[str, str]) -> None:
    """Change `environ` so that libraries find a home, and folders that they can write to.

    An existing home is kept, as it may have files that notebooks need: only what libraries write goes elsewhere.

    Raises
    ------
    AutoflowError
        If there is no place for such folders.

    """
    home = _home(environ)
    if home is None:
        environ["HOME"] = str(_substitute())
    else:
        moved = [name for name, folder in _FOLDERS.items() if not (environ.get(name) or _is_writable(home / folder))]
        environ.update({name: str(_substitute() / _FOLDERS[name]) for name in moved})
        environ["HOME"] = str(home)
    if not _has_user_name(environ):
        environ["USER"] = "autoflow"


def is_substitute(home: Path) -> bool:
    """Return whether `home` stands in for one that the user does not have."""
    return home == Path(tempfile.gettempdir()) / _SUBSTITUTE


def _home(environ: Mapping[str, str]) -> Path | None:
    """Return the user's home; None if it is not set or does not exist."""
    home = environ.get("HOME", "").strip()
    if not home:
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    # Path.is_dir would fail where access is denied.
    return Path(home) if os.path.isdir(home) else None


def _is_writable(folder: Path) -> bool:
    """Return whether `folder` can be written to, or made."""
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    return os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)


def _substitute() -> Path:
    """Return a folder of this user alone, the same at each start; make it if necessary."""
    try:
        folder = Path(tempfile.gettempdir()) / _SUBSTITUTE
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError as error:
        raise _no_home(f"cannot make one in TMPDIR ({error.strerror or error})") from error
    # Libraries run code that they find in it. In /tmp, any user can make a folder of this name.
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise _no_home(f"{folder} is not a folder of this user alone")
    return folder


def _no_home(reason: str) -> AutoflowError:
    return AutoflowError(
        f"libraries need a home folder, and {reason}: set HOME to a folder that user {os.getuid()} can write to"
    )


def _has_user_name(environ: Mapping[str, str]) -> bool:
    if any(environ.get(name) for name in _USER_NAMES):
        return True
    try:
        return bool(pwd.getpwuid(os.getuid()).pw_name)
    except KeyError:
        return False

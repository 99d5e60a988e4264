"""What the daemon leaves in PREFECT_HOME for the command line: where its Prefect API is, and when it last ticked."""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoflow.errors import AutoflowError
from autoflow.log import logger
from autoflow.utils import whole_file


@dataclass(frozen=True, kw_only=True)
class DaemonFiles:
    """The two files, in the folder `home`."""

    home: Path

    @contextmanager
    def published(self, api_url: str) -> Iterator[None]:
        """Tell where the Prefect API is while the block lasts."""
        path = self.home / "daemon.json"
        _write(path, {"api_url": api_url, **_process()})
        try:
            yield
        finally:
            # Another daemon may have come meanwhile.
            if _is_ours(_read(path)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    @property
    def api_url(self) -> str | None:
        """Where a daemon said that its Prefect API is; it may be gone since. None if there is no daemon."""
        url = _read(self.home / "daemon.json").get("api_url")
        return url if isinstance(url, str) else None

    @property
    def daemon_is_gone(self) -> bool:
        """Whether a daemon of this machine has said that it runs, and is gone all the same."""
        daemon = _read(self.home / "daemon.json")
        return daemon.get("host") == socket.gethostname() and not Path(f"/proc/{daemon.get('pid')}").exists()

    @contextmanager
    def ticking(self) -> Iterator[None]:
        """Note that a tick begins and, at the end of the block, that it has ended, and with which error of ours."""
        path = self.home / "tick.json"
        began_at = _now()
        _write(path, {"began_at": began_at, **_process()})
        error = None
        try:
            yield
        except AutoflowError as problem:
            error = str(problem)
            raise
        finally:
            _write(path, {"began_at": began_at, "ended_at": _now(), "error": error, **_process()})

    def last_tick(self) -> "LastTick | None":
        """Return when the last tick was, None if there was none."""
        tick = _read(self.home / "tick.json")
        try:
            ended_at = datetime.fromisoformat(tick["ended_at"]) if tick.get("ended_at") else None
            return LastTick(datetime.fromisoformat(tick["began_at"]), ended_at, tick.get("error"))
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class LastTick:
    """When the last tick began and ended (None: it goes on), in UTC, and its error if it had one."""

    began_at: datetime
    ended_at: datetime | None
    error: str | None


def _process() -> dict[str, object]:
    return {"pid": os.getpid(), "host": socket.gethostname()}


def _is_ours(content: Mapping[str, Any]) -> bool:
    return content.items() >= _process().items()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read(path: Path) -> dict[str, Any]:
    """Return what is in the file; nothing if it is not there or not ours."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: Mapping[str, object]) -> None:
    """Write the file; the daemon goes on if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        logger.warning("%s cannot be written: %s; 'autoflow health' will not know", path, error.strerror)

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
    def starting(self) -> Iterator[None]:
        """Tell that a daemon starts until, in the block, it is `published`, unless another one works already."""
        if not self._has_daemon:
            _write(self._daemon_file, {"is_starting": True, **_process()})
        try:
            yield
        finally:
            self._withdraw()

    @contextmanager
    def published(self, api_url: str) -> Iterator[None]:
        """Tell where the Prefect API is while the block lasts."""
        _write(self._daemon_file, {"api_url": api_url, **_process()})
        try:
            yield
        finally:
            self._withdraw()

    @property
    def is_starting(self) -> bool:
        """Whether a daemon has said that it starts, and that its Prefect API does not answer yet."""
        return _read(self._daemon_file).get("is_starting") is True and not self.daemon_is_gone

    @property
    def api_url(self) -> str | None:
        """Where a daemon said that its Prefect API is; it may be gone since. None if there is no daemon."""
        url = _read(self._daemon_file).get("api_url")
        return url if isinstance(url, str) else None

    @property
    def daemon_is_gone(self) -> bool:
        """Whether a daemon of this machine has said that it runs, and is gone all the same."""
        daemon = _read(self._daemon_file)
        return daemon.get("host") == socket.gethostname() and not _is_alive(daemon)

    @contextmanager
    def ticking(self, api_url: str | None = None) -> Iterator[None]:
        """Note that a tick begins and, at the end of the block, that it has ended, and with which error of ours.

        Another daemon may have been published after this one and ended: then the Prefect API at `api_url` is told anew.
        """
        if api_url and (not _read(self._daemon_file) or self.daemon_is_gone):
            _write(self._daemon_file, {"api_url": api_url, **_process()})
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

    @property
    def _daemon_file(self) -> Path:
        return self.home / "daemon.json"

    @property
    def _has_daemon(self) -> bool:
        """Whether a daemon of this machine works, other than this process."""
        daemon = _read(self._daemon_file)
        return daemon.get("host") == socket.gethostname() and _is_alive(daemon) and not _is_ours(daemon)

    def _withdraw(self) -> None:
        # Another daemon may have come meanwhile.
        if _is_ours(_read(self._daemon_file)):
            with suppress(OSError):
                self._daemon_file.unlink(missing_ok=True)

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


def _is_alive(content: Mapping[str, Any]) -> bool:
    return Path(f"/proc/{content.get('pid')}").exists()


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

"""The files in PREFECT_HOME through which the daemon gives other processes its Prefect API, its last tick, and more."""

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
from autoflow.runs.attention import Facts
from autoflow.system.log import Outage
from autoflow.utils import whole_file

_outage = Outage()


@dataclass(frozen=True, kw_only=True)
class DaemonFiles:
    """The files daemon.json, tick.json, facts.json and look.json in the folder `home`."""

    home: Path

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Record that a daemon is starting, until the block calls `published`; keep the record of another one."""
        if not self._has_daemon:
            _write(self._daemon_file, {"is_starting": True, **_process()})
        try:
            yield
        finally:
            self._withdraw()

    @contextmanager
    def published(self, api_url: str) -> Iterator[None]:
        """Record the address of the Prefect API for the duration of the block."""
        _write(self._daemon_file, {"api_url": api_url, **_process()})
        try:
            yield
        finally:
            self._withdraw()

    @property
    def is_starting(self) -> bool:
        """Whether a daemon is starting, so that its Prefect API does not respond yet."""
        return _read(self._daemon_file).get("is_starting") is True and not self.daemon_is_gone

    @property
    def api_url(self) -> str | None:
        """The Prefect API of the daemon, which may be gone by now; None if no daemon has recorded one."""
        url = _read(self._daemon_file).get("api_url")
        return url if isinstance(url, str) else None

    @property
    def daemon_is_gone(self) -> bool:
        """Whether the daemon on this machine died without removing its record."""
        daemon = _read(self._daemon_file)
        return daemon.get("host") == socket.gethostname() and not _is_alive(daemon)

    def beat(self) -> None:
        """Record a sign of life of this daemon; this needs no room on the disk."""
        if _is_ours(_read(self._daemon_file)):
            with suppress(OSError):
                os.utime(self._daemon_file)

    @property
    def last_beat(self) -> datetime | None:
        """When the daemon showed its last sign of life, in UTC with its time zone; None without a daemon."""
        try:
            return datetime.fromtimestamp(self._daemon_file.stat().st_mtime, UTC)
        except OSError:
            return None

    def facts(self) -> Facts:
        """Return what the daemon has found out, which may be gone by now."""
        return Facts.of_json(_read(self.home / "facts.json"))

    def record_facts(self, facts: Facts) -> None:
        """Record what the daemon has found out; raise OSError if that fails."""
        _write_or_raise(self.home / "facts.json", facts.as_json())

    @property
    def looked_at(self) -> datetime | None:
        """When a person last looked at the daemon's health, in UTC without a time zone; None if never."""
        try:
            return datetime.fromisoformat(_read(self.home / "look.json")["looked_at"]).replace(tzinfo=None)
        except (KeyError, TypeError, ValueError):
            return None

    def record_look(self, now: datetime) -> None:
        """Record that a person looks at the daemon's health at `now`, in UTC, if the file can be written."""
        with suppress(OSError):
            _write_or_raise(self.home / "look.json", {"looked_at": now.replace(tzinfo=None).isoformat()})

    @contextmanager
    def ticking(self, api_url: str | None = None) -> Iterator[None]:
        """Record the start of a tick and, when the block ends, its end and its error, if it is one of AutoFlow's.

        Another daemon may have replaced this one's record of `api_url`, and ended: then write it again.
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
        """Whether another process is a daemon on this machine."""
        daemon = _read(self._daemon_file)
        return daemon.get("host") == socket.gethostname() and _is_alive(daemon) and not _is_ours(daemon)

    def _withdraw(self) -> None:
        # Another daemon may have started in the meantime.
        if _is_ours(_read(self._daemon_file)):
            with suppress(OSError):
                self._daemon_file.unlink(missing_ok=True)

    def last_tick(self) -> "LastTick | None":
        """Return the last tick, or None if there was none."""
        tick = _read(self.home / "tick.json")
        try:
            ended_at = datetime.fromisoformat(tick["ended_at"]) if tick.get("ended_at") else None
            return LastTick(datetime.fromisoformat(tick["began_at"]), ended_at, tick.get("error"))
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True)
class LastTick:
    """When the last tick began and ended, in UTC, and its error, if any; `ended_at` is None while it is running."""

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
    """Return the content of the file; an empty one if it is missing or invalid."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(path: Path, content: Mapping[str, object]) -> None:
    """Write the file; if that fails, log a warning only."""
    try:
        _write_or_raise(path, content)
    except OSError as error:
        _outage.begin("could not write %s: %s; 'autoflow health' will report old data", path, error.strerror)
    else:
        _outage.end("wrote %s again", path)


def _write_or_raise(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content).encode()
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(text)
    except OSError:
        if not path.exists() or len(text) > 512 * path.stat().st_blocks:
            raise
        # In its place, it needs no more room: the disk may be full. A reader may find it half written, and ignores it.
        with path.open("r+b") as file:
            file.write(text)
            file.truncate()

"""Decides which conditions people are to be notified of, where several daemons may find the same."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from autoflow.model.messages import Notice
from autoflow.runs.attention import Condition, Need

Known = Mapping[str, Sequence[Notice]]
"""What people were notified of, by key: a notice for each daemon that finds it."""

RENEWED_AFTER = dt.timedelta(minutes=10)
"""How often a daemon records that it still finds a condition."""

_DISK = Need.DISK.name.lower()

STALE_AFTER = dt.timedelta(hours=1)
"""A daemon that has not recorded a condition for longer is gone, or does not know."""


@dataclass(frozen=True, kw_only=True)
class News:
    """What has changed: conditions that are new, those that are over with their texts, and the notices to change.

    `seen` are conditions that this daemon finds, by key, and `gone` are keys that it does not find any more.
    """

    new: Sequence[Condition] = ()
    over: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, Condition] = field(default_factory=dict)
    gone: Sequence[str] = ()

    @property
    def is_any(self) -> bool:
        """Whether there is something to record."""
        return bool(self.over or self.seen or self.gone)


def key_of(condition: Condition, host: str) -> str:
    """Return what identifies a condition among all daemons."""
    return with_host(condition.key, host)


def with_host(key: str, host: str) -> str:
    """Return the key of a condition among all daemons: each host has disks of its own."""
    return f"{key} {host}" if key == _DISK else key


def news(
    conditions: Iterable[Condition],
    known: Known,
    *,
    is_over: Callable[[str], bool],
    daemon: str,
    host: str,
    now: dt.datetime,
) -> News:
    """Return what has changed at `now` (UTC), according to this `daemon` on this `host`.

    A condition is new if no daemon has found it before. It is over if `is_over` says so, by key, and no other daemon
    has found it lately.
    """
    found = {key_of(each, host): each for each in conditions if not each.is_warning}
    seen = {key: each for key, each in found.items() if _is_old(_own(known.get(key, ()), daemon), now)}
    ended = [key for key in known if key not in found and _is_of(key, host) and is_over(key)]
    over = {key: known[key][0].text for key in ended if not _has_live(known[key], daemon, now)}
    gone = [key for key in ended if key not in over and _own(known[key], daemon)]
    return News(new=[each for key, each in found.items() if key not in known], over=over, seen=seen, gone=gone)


def _own(notices: Sequence[Notice], daemon: str) -> Notice | None:
    return next((each for each in notices if each.daemon == daemon), None)


def _is_old(notice: Notice | None, now: dt.datetime) -> bool:
    return notice is None or now - notice.noted_at > RENEWED_AFTER


def _has_live(notices: Sequence[Notice], daemon: str, now: dt.datetime) -> bool:
    return any(each.daemon != daemon and now - each.noted_at < STALE_AFTER for each in notices)


def _is_of(key: str, host: str) -> bool:
    """Return whether a condition can be one of this host."""
    need, _, rest = key.partition(" ")
    return need != _DISK or rest == host

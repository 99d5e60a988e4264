"""The banner at the top of the page, which shows what needs attention."""

import datetime
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace

from autoflow.model.opening import PAGE_NAME
from autoflow.notebooks.redaction import Redaction
from autoflow.page.data_files import DataFiles
from autoflow.page.shell import template
from autoflow.runs.attention import Condition, as_text
from autoflow.runs.records import utc_now
from autoflow.settings import Settings
from autoflow.utils import whole_file

BANNER_BEGIN = "<!-- begin of the banner -->"
BANNER_END = "<!-- end of the banner -->"
"""Marks around the banner in the page. No text in the page can contain them, because a "<" is escaped there."""

ROOM_FOR_BANNER = 4000
"""The shortest banner with its spaces, in bytes."""

MOST_IN_SHORT = 4
"""The highest number of conditions in a banner that has to fit into the place of the one before."""


def banner_html(conditions: Sequence[Condition], made_at: datetime.datetime, redaction: Redaction) -> str:
    """Return the banner for `conditions`, with its marks and with space for a longer one."""
    return f"{BANNER_BEGIN}{_padded(_banner(conditions, made_at, redaction))}{BANNER_END}"


def banner_of(html: str) -> str:
    """Return the banner of a page, with its marks; empty if it has none."""
    _, begin, rest = html.partition(BANNER_BEGIN)
    banner, end, _ = rest.partition(BANNER_END)
    return begin + banner + end if begin and end else ""


def write_banner(
    settings: Settings, conditions: Sequence[Condition], *, clock: Callable[[], datetime.datetime] = utc_now
) -> None:
    """Show the `conditions` in the banner of the existing page, also on a full disk, and leave the rest as it was.

    Raises
    ------
    OSError
        If there is no page yet, or it cannot be written.

    """
    page, redaction = settings.outputs_dir / PAGE_NAME, Redaction(settings.secrets)
    with ExitStack() as stack:
        _lock(DataFiles(settings.outputs_dir), stack)
        before, begin, rest = page.read_bytes().partition(BANNER_BEGIN.encode())
        old, end, after = rest.partition(BANNER_END.encode())
        if not (begin and end):
            return
        banner = _padded(_banner(conditions, clock(), redaction)).encode()
        try:
            with whole_file(page) as unfinished:
                unfinished.write_bytes(before + begin + banner + end + after)
        except OSError:
            if len(banner) > len(old):
                short = [replace(each, details=()) for each in conditions[:MOST_IN_SHORT]]
                banner = _banner(short, clock(), redaction).encode()
            if len(banner) > len(old):
                raise
            # This needs no more room on the disk.
            with page.open("r+b") as file:
                os.pwrite(file.fileno(), banner.ljust(len(old)), len(before + begin))


def _lock(files: DataFiles, stack: ExitStack) -> None:
    """Keep other processes from writing the page, unless the disk has no room for the file that is locked."""
    with suppress(OSError):
        stack.enter_context(files.locked())


def _padded(banner: str) -> str:
    """Return the banner with space for a longer one, which can then be written even if the disk is full."""
    return banner + " " * max(0, ROOM_FOR_BANNER - len(banner.encode()))


def _banner(conditions: Sequence[Condition], made_at: datetime.datetime, redaction: Redaction) -> str:
    shown = [
        {
            "reason": redaction.of_text(each.reason),
            "since": as_text(each.since) if each.since else "",
            "what_to_do": redaction.of_text(f"{each.what_to_do[:1].upper()}{each.what_to_do[1:]}"),
            "details": [redaction.of_text(line) for line in each.details],
        }
        for each in conditions
    ]
    is_warning = all(each.is_warning for each in conditions)
    return template("banner.html").render(conditions=shown, is_warning=is_warning, made=as_text(made_at))

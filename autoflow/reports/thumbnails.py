"""Small pictures of the first pages of reports, for the index page."""

import logging
from collections.abc import Callable
from pathlib import Path

from autoflow.errors import ReportError
from autoflow.reports.programs import run
from autoflow.system.stop_signal import StopSignal
from autoflow.utils import thumbnail_path, whole_file

LONGEST_SIDE = 480
"""Of a picture, in pixels."""

_MOST_SECONDS = 20.0
_MOST_BYTES = 1_000_000
_PNG = b"\x89PNG\r\n\x1a\n"

_log = logging.getLogger(__name__)


def first_page(report: Path, *, timeout: float, stop: StopSignal) -> bytes | None:
    """Return a small PNG of the first page of a PDF; None if that fails, or takes over `timeout` or 20 seconds.

    The folder of `report` is for temporary files. RunStopped is raised if `stop` is set before the end.
    """
    page = ("-png", "-singlefile", "-f", "1", "-l", "1", "-scale-to", str(LONGEST_SIDE))
    command = ["pdftocairo", *page, report.name, "-"]
    try:
        picture, _ = run(command, folder=report.parent, timeout=min(timeout, _MOST_SECONDS), stop=stop)
    except (ReportError, OSError) as error:
        _log.debug("no picture of %s: %s", report, error, extra={"action": "thumbnail_failed"})
        return None
    return picture if picture.startswith(_PNG) and len(picture) <= _MOST_BYTES else None


def keep_thumbnail(picture: bytes | None, report: Path, confirm: Callable[[], None] | None = None) -> None:
    """Write the picture of the first page of `report` if there is one; do without it if that fails.

    `confirm` is called right before it appears, and may raise RunStopped to prevent it.
    """
    if picture is None:
        return
    try:
        thumbnail_path(report).parent.mkdir(exist_ok=True)
        with whole_file(thumbnail_path(report), confirm) as unfinished:
            unfinished.write_bytes(picture)
    except OSError as error:
        _log.debug("no picture of %s: %s", report, error, extra={"action": "thumbnail_failed"})

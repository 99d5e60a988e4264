"""The logger of AutoFlow: a line for each event that matters to an operator, without secrets."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from autoflow.errors import AutoflowError, UnexpectedError
from autoflow.utils import redact

logger = logging.getLogger("autoflow")
"""All of AutoFlow logs here, so that one filter sees each line before any handler does, including Prefect's."""


def set_up_logging(level: str, secrets: Callable[[], Iterable[str]], *, stream: TextIO | None = None) -> None:
    """Log lines of `level` and above to `stream`, by default stderr.

    Times are in UTC. What `secrets` returns is replaced.
    """
    formatter = logging.Formatter("%(asctime)s %(levelname)-8s %(message)s", datefmt="%Y-%m-%d %H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    logger.handlers = [handler]
    logger.filters = [_Redaction(secrets)]
    logger.setLevel(level)
    logger.propagate = False


@contextmanager
def bugs_logged(secrets: Iterable[str]) -> Iterator[None]:
    """Let expected errors propagate; log any other with its traceback, without `secrets`.

    Raises
    ------
    AutoflowError
        The expected error from the block, or UnexpectedError in place of any other.

    """
    try:
        yield
    except AutoflowError:
        raise
    except Exception as error:
        logger.exception("AutoFlow, or a library that it uses, has a bug; please report these lines")
        message = redact(" ".join(str(error).split()), secrets)
        raise UnexpectedError(f"{type(error).__name__}: {message} (a bug, see AutoFlow's log)") from None


class Outage:
    """Logs that something fails once when that begins, however often it fails, and once when it works again.

    Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_on = False

    def begin(self, message: str, *arguments: object) -> None:
        """Log a warning, unless one was logged since the last end."""
        with self._lock:
            is_new, self._is_on = not self._is_on, True
        if is_new:
            logger.warning(message, *arguments)

    def end(self, message: str, *arguments: object) -> None:
        """Log that it works again, if it did not."""
        with self._lock:
            was_on, self._is_on = self._is_on, False
        if was_on:
            logger.info(message, *arguments)


def log_ends_of_threads() -> None:
    """Log the exceptions that end threads, without secrets; Python would print them unchanged."""
    threading.excepthook = _log_end


def _log_end(end: threading.ExceptHookArgs) -> None:
    if end.exc_value is not None:
        name = end.thread.name if end.thread else "?"
        logger.error("thread '%s' crashed because of a bug; please report these lines", name, exc_info=end.exc_value)


class _Redaction(logging.Filter):
    def __init__(self, secrets: Callable[[], Iterable[str]]) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        secrets = tuple(self._secrets())
        record.msg = redact(record.getMessage(), secrets)
        record.args = None
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info), secrets)
            record.exc_info = None
        return True

"""The logger of AutoFlow: a line for each event that matters to an operator, without secrets."""

import datetime
import json
import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

from autoflow.errors import AutoflowError, UnexpectedError
from autoflow.utils import redact

logger = logging.getLogger("autoflow")
"""All of AutoFlow logs here, so that one filter sees each line before any handler does, including Prefect's."""


_fields: ContextVar[Mapping[str, str | int]] = ContextVar("fields of log lines")
_hear: ContextVar[Callable[[logging.LogRecord], None] | None] = ContextVar("who hears log lines", default=None)


@contextmanager
def log_fields(**fields: str | int | None) -> Iterator[None]:
    """Add `fields` that are not None to the lines that are logged in the block, if the log is in JSON."""
    token = _fields.set({**_fields.get({}), **{name: value for name, value in fields.items() if value is not None}})
    try:
        yield
    finally:
        _fields.reset(token)


def current_log_fields() -> Mapping[str, str | int]:
    """Return the fields of the block, for a thread that continues its work."""
    return _fields.get({})


def set_up_logging(
    level: str, secrets: Callable[[], Iterable[str]], *, stream: TextIO | None = None, as_json: bool = False
) -> None:
    """Log lines of `level` and above to `stream`, by default stderr; for libraries, WARNING and above.

    Times are in UTC. What `secrets` returns is replaced. With `as_json`, each line is an object.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if as_json else _formatter("%(message)s"))
    logger.handlers = [handler, _Heard()]
    logger.filters = [_Redaction(secrets)]
    logger.setLevel(level)
    logger.propagate = False
    of_libraries = LibraryLines(max(logger.level, logging.WARNING), secrets, stream)
    if as_json:
        of_libraries.setFormatter(_JsonFormatter())
    _log_libraries(of_libraries)


@contextmanager
def lines_heard(hear: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """Pass the lines that are logged in the block on to `hear`, too."""
    token = _hear.set(hear)
    try:
        yield
    finally:
        _hear.reset(token)


class _Heard(logging.Handler):
    """Passes lines on to the function of the block in which they are logged, if any."""

    def emit(self, record: logging.LogRecord) -> None:
        if hear := _hear.get():
            hear(record)


class LibraryLines(logging.Handler):
    """Logs what libraries log, each event as a line with the name of its logger.

    It leaves out Prefect's messages about runs, with tracebacks: AutoFlow logs the same itself. Prefect leaves the
    handlers of the root logger alone if one has a formatter and a public name.
    """

    def __init__(self, level: int, secrets: Callable[[], Iterable[str]], stream: TextIO | None) -> None:
        super().__init__(level)
        self._stream = stream
        self.setFormatter(_formatter("%(name)s: %(message)s"))
        self.addFilter(_is_wanted)
        self.addFilter(_OneLine())
        self.addFilter(_Redaction(secrets))

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line; to stderr as it is now, unless there is another stream."""
        try:
            stream = self._stream or sys.stderr
            stream.write(f"{self.format(record)}\n")
            stream.flush()
        except Exception:  # noqa: BLE001 - as in all handlers: a log line must not stop what is logged
            self.handleError(record)


def _is_wanted(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.CRITICAL or record.name.partition(".")[0] != "prefect"


def _log_libraries(handler: LibraryLines) -> None:
    """Send what libraries log or warn to `handler`, and no longer to an earlier one."""
    root = logging.getLogger()
    root.handlers = [*(other for other in root.handlers if not isinstance(other, LibraryLines)), handler]
    warnings.showwarning = _log_warning


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:  # the signature is that of warnings.showwarning
    if file is not None:
        file.write(warnings.formatwarning(message, category, filename, lineno, line))
        return
    logging.getLogger("warnings").warning("%s: %s (%s:%d)", category.__name__, message, filename, lineno)


class _JsonFormatter(logging.Formatter):
    """Formats a record as an object on one line, with its `log_fields` and its traceback, if any."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line)


def _formatter(message: str) -> logging.Formatter:
    formatter = logging.Formatter(f"%(asctime)s %(levelname)-8s {message}", datefmt="%Y-%m-%d %H:%M:%SZ")
    formatter.converter = time.gmtime
    return formatter


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
    """Logs a failure once when it begins, however often it recurs, and once when it is over.

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
        """Log that the failure is over, if there was one."""
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


class _OneLine(logging.Filter):
    """Joins the lines of a message."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = " ".join(record.getMessage().split()), None
        return True


class _Redaction(logging.Filter):
    def __init__(self, secrets: Callable[[], Iterable[str]]) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        secrets = tuple(self._secrets())
        record.msg = redact(record.getMessage(), secrets)
        record.args = None
        fields = _fields.get({}).items()
        record.fields = {name: redact(each, secrets) if isinstance(each, str) else each for name, each in fields}
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info), secrets)
            record.exc_info = None
        return True

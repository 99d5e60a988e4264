import contextvars
import io
import json
import logging
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from autoflow.errors import FlowApiError, UnexpectedError
from autoflow.system.log import Outage, bugs_logged, log_ends_of_threads, log_fields, logger, set_up_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    before = (logger.handlers, logger.filters, logger.level, logger.propagate)
    root = logging.getLogger().handlers
    showwarning = warnings.showwarning
    yield
    logger.handlers, logger.filters, logger.level, logger.propagate = before
    logging.getLogger().handlers = root
    warnings.showwarning = showwarning


def test_line_has_time_in_utc_level_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", tuple)
    logger.info("%d dates found", 12)
    captured = capsys.readouterr()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ INFO     12 dates found\n", captured.err)
    assert captured.out == ""


def test_level_is_the_least_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("WARNING", tuple)
    logger.info("not shown")
    logger.warning("shown")
    assert capsys.readouterr().err.endswith("WARNING  shown\n")


def test_each_line_is_logged_once_even_if_logging_is_set_up_twice(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", tuple)
    set_up_logging("INFO", tuple)
    logger.info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_secrets_are_shown_neither_in_messages_nor_in_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", lambda: ["hunter22"])
    logger.info("hunter22 %s %r", "hunter22", {"password": "hunter22"})
    assert "[secret] [secret] {'password': '[secret]'}" in capsys.readouterr().err


def test_secrets_are_not_shown_in_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", lambda: ["hunter22"])
    try:
        int("hunter22")
    except ValueError:
        logger.exception("failed")
    shown = capsys.readouterr().err
    assert "ValueError: invalid literal for int() with base 10: '[secret]'" in shown
    assert shown.count("Traceback") == 1


def test_unexpected_error_is_logged_in_full_and_raised_in_short(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", lambda: ["hunter22"])
    with pytest.raises(UnexpectedError) as caught, bugs_logged(["hunter22"]):
        int("hunter22")
    assert str(caught.value) == (
        "ValueError: invalid literal for int() with base 10: '[secret]' (a bug, see AutoFlow's log)"
    )
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "hunter22" not in shown.replace('int("hunter22")', "")


def test_expected_error_propagates(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", list)
    error = FlowApiError("it is gone")
    with pytest.raises(FlowApiError) as caught, bugs_logged([]):
        raise error
    assert caught.value is error
    assert not capsys.readouterr().err


def test_exception_that_ends_a_thread_is_logged_without_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    set_up_logging("INFO", lambda: ["hunter22"])
    log_ends_of_threads()
    thread = threading.Thread(target=int, args=["hunter22"], name="sensor")
    thread.start()
    thread.join()
    shown = capsys.readouterr().err
    assert "thread 'sensor' crashed because of a bug" in shown
    assert "invalid literal for int() with base 10: '[secret]'" in shown


def test_secrets_are_read_again_for_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    secrets = ["old token"]
    set_up_logging("INFO", lambda: secrets)
    secrets[0] = "new token"
    logger.info("%s", "the new token")
    assert capsys.readouterr().err.endswith("the [secret]\n")


def test_every_handler_gets_the_line_without_secrets() -> None:
    set_up_logging("INFO", lambda: ["hunter22"])
    records: list[logging.LogRecord] = []

    class Other(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger.addHandler(Other())
    logger.info("%s", "hunter22")
    assert records[0].getMessage() == "[secret]"


def test_percent_sign_in_an_argument_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", tuple)
    logger.info("%s", "100 %s of it")
    assert "100 %s of it" in capsys.readouterr().err


LIBRARY = """
import logging, sys, warnings
from autoflow.system.log import set_up_logging
set_up_logging("INFO", lambda: ["hunter22"])
import prefect
library = logging.getLogger("some.package")
library.debug("not shown")
library.info("not shown")
library.warning("two\\nlines with hunter22 and %s", "50 %")
logging.getLogger().error("of the root")
logging.getLogger("prefect.flow_runs").error("ours says the same")
warnings.warn("it is\\nhunter22", UserWarning)
warnings.warn_explicit("old", DeprecationWarning, "lib/x.py", 7)
try:
    int("hunter22")
except ValueError:
    library.exception("failed")
"""


def test_what_libraries_log_or_warn_is_in_the_format_of_the_log_also_once_prefect_is_imported() -> None:
    ended = subprocess.run([sys.executable, "-W", "default", "-c", LIBRARY], capture_output=True, check=True, text=True)
    lines = [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ ", "", line) for line in ended.stderr.splitlines()]
    lines = [line for line in lines if "old" in line or not line.startswith("WARNING  warnings: DeprecationWarning")]
    assert lines[:6] == [
        "WARNING  some.package: two lines with [secret] and 50 %",
        "ERROR    root: of the root",
        "WARNING  warnings: UserWarning: it is [secret] (<string>:12)",
        "WARNING  warnings: DeprecationWarning: old (lib/x.py:7)",
        "ERROR    some.package: failed",
        "Traceback (most recent call last):",
    ]
    assert "hunter22" not in ended.stderr.replace('int("hunter22")', "")
    assert ended.stdout == ""


@pytest.mark.parametrize("level", ["ERROR", "CRITICAL"])
def test_level_holds_for_libraries_too(capsys: pytest.CaptureFixture[str], level: str) -> None:
    set_up_logging(level, tuple)
    logging.getLogger("some.package").warning("not shown")
    logging.getLogger("some.package").critical("shown")
    assert capsys.readouterr().err.endswith("CRITICAL some.package: shown\n")


def test_lines_of_libraries_come_once_however_often_logging_is_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", tuple)
    set_up_logging("INFO", tuple)
    logging.getLogger("some.package").warning("once")
    assert capsys.readouterr().err.count("once") == 1


def test_warning_for_a_file_goes_to_that_file() -> None:
    set_up_logging("INFO", tuple)
    file = io.StringIO()
    warnings.showwarning("deprecated", UserWarning, "x.py", 3, file)
    assert file.getvalue().startswith("x.py:3: UserWarning: deprecated")


def test_outage_is_logged_once_at_its_beginning_and_once_at_its_end(
    logged: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger.name)
    outage = Outage()
    outage.end("it works")
    for _ in range(3):
        outage.begin("it fails: %s", "down")
    for _ in range(2):
        outage.end("it works")
    outage.begin("it fails: %s", "again")
    assert logged == ["it fails: down", "it works", "it fails: again"]


def lines_of(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_line_in_json_has_the_fields_of_the_block_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", lambda: ["hunter22"], as_json=True)
    with log_fields(run=7, workflow="w hunter22", label=None):
        logger.info("hunter22 \u2028 \ud800 %d\nnext", 12)
        with log_fields(date="2016-01-01"):
            threading_context = contextvars.copy_context()
    logger.warning("after")
    thread = threading.Thread(target=threading_context.run, args=[logger.error, "in a thread"])
    thread.start()
    thread.join()
    first, after, in_thread = lines_of(capsys.readouterr().err)
    time = first.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(time))
    assert first == {
        "level": "INFO",
        "logger": "autoflow",
        "message": "[secret] \u2028 \ud800 12\nnext",
        "run": 7,
        "workflow": "w [secret]",
    }
    assert after.keys() == {"time", "level", "logger", "message"}
    assert {"date": "2016-01-01", "run": 7}.items() <= in_thread.items()


def test_traceback_in_json_is_one_field_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", lambda: ["hunter22"], as_json=True)
    with pytest.raises(UnexpectedError), bugs_logged(["hunter22"]):
        int("hunter22")
    (line,) = lines_of(capsys.readouterr().err)
    assert "hunter22" not in str(line)
    assert str(line["traceback"]).endswith("invalid literal for int() with base 10: '[secret]'")
    assert str(line["traceback"]).count("\n") > 2


def test_lines_of_libraries_are_in_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("INFO", lambda: ["hunter22"], as_json=True)
    logging.getLogger("urllib3.connectionpool").warning("retrying\nhunter22")
    (line,) = lines_of(capsys.readouterr().err)
    assert (line["logger"], line["message"]) == ("urllib3.connectionpool", "retrying [secret]")

import os
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from autoflow.errors import ReportError, RunStopped
from autoflow.reports import missing_tools
from autoflow.specs import ReportFormat
from autoflow.system.stop_signal import StopSignal
from tests.reports.convert import PIXEL, notebook, report_of, text_of, words_of
from tests.waiting import wait_for


def program(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program called `name`, written in Python, before all others on PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(script)}")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize("name", ["pandoc", "asciidoctor-pdf"])
def test_the_message_of_a_failing_tool_is_reported_and_no_report_appears(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", name, "raise SystemExit('out of cheese')", monkeypatch)
    (tmp_path / "work").mkdir()

    with pytest.raises(ReportError, match=rf"{name} failed: out of cheese"):
        report_of(notebook("text"), tmp_path / "work")

    assert {path.name for path in (tmp_path / "work").iterdir()} == {"executed.ipynb", "inputs"}


def test_what_asciidoctor_cannot_fit_on_a_page_is_reported_in_its_words(tmp_path: Path) -> None:
    template = tmp_path / "own.tpl"
    fences = ["_" * (4 + depth) for depth in range(40)]
    quotes = "\n".join([*fences, "deep", *reversed(fences)])
    template.write_text(f"{{% extends 'asciidoc.tpl' %}}{{% block header %}}= T\n\n{quotes}\n\n{{% endblock %}}")

    with pytest.raises(ReportError, match=r"asciidoctor-pdf failed: .*CannotFit$"):
        report_of(notebook("text"), tmp_path, template=template)


def test_a_text_that_pandoc_leaves_out_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = """import sys; sys.stdin.read(); print('{"blocks": []}')"""
    program(tmp_path / "bin", "pandoc", script, monkeypatch)

    with pytest.raises(ReportError, match="pandoc returned 0 texts for 1"):
        report_of(notebook("text"), tmp_path)


def test_a_conversion_that_takes_too_long_is_killed_and_its_report_is_plain_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    script = f"""
    import pathlib, subprocess, time
    child = subprocess.Popen(["sleep", "600"])
    pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
    time.sleep(600)
    """
    program(tmp_path / "bin", "pandoc", script, monkeypatch)

    # On a busy machine, pandoc may take longer than that to start.
    for timeout in (6, 60):
        report = report_of(notebook("# Title", "the *text*"), tmp_path, timeout=timeout)
        if (tmp_path / "pid").exists():
            break

    assert "This report shows plain text only" in words_of(report)
    assert "the *text*" in words_of(report)
    assert "pandoc took too long" in caplog.text
    child = int((tmp_path / "pid").read_text())
    wait_for(lambda: _has_ended(child))


def test_a_conversion_that_is_stopped_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "pandoc", "import time; time.sleep(600)", monkeypatch)
    stop = StopSignal()
    threading.Timer(1.0, stop.set, ["the operator asked for it"]).start()

    with pytest.raises(RunStopped, match=r"^the operator asked for it$"):
        report_of(notebook("text"), tmp_path, stop=stop)


def test_a_conversion_that_is_stopped_while_asciidoctor_loads_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "asciidoctor-pdf", "import time; time.sleep(600)", monkeypatch)
    stop = StopSignal(StopSignal())
    threading.Timer(1.0, stop.set, ["the operator asked for it"]).start()

    with pytest.raises(RunStopped, match=r"^the operator asked for it$"):
        report_of(notebook("text"), tmp_path, stop=stop, timeout=500)


@pytest.mark.parametrize("report_format", list(ReportFormat))
def test_a_conversion_that_is_stopped_at_any_moment_is_complete_or_stopped(
    report_format: ReportFormat, tmp_path: Path
) -> None:
    """Stop a conversion that uses pandoc, the worker for pictures and asciidoctor at evenly spaced moments."""
    cells = [f"# Part {number}\n\n$x^{{{number}}}$\n\n![](data:image/png;base64,{PIXEL})" for number in range(20)]
    started = time.monotonic()
    report_of(notebook(*cells), tmp_path, report_format=report_format).unlink()
    seconds = time.monotonic() - started
    ends = [_end_of_stopped(cells, tmp_path, report_format, seconds * moment / 8) for moment in range(8)]

    assert ends[0] == "stopped"
    assert set(ends) <= {"stopped", "complete"}


def _end_of_stopped(cells: Sequence[str], folder: Path, report_format: ReportFormat, after: float) -> str:
    """Return how a conversion ends that is stopped after some seconds; no report is there unless it is complete."""
    stop, report = StopSignal(), folder / f"report.{report_format}"
    timer = threading.Timer(after, stop.set, ["the operator asked for it"])
    timer.start() if after else stop.set("the operator asked for it")
    try:
        report_of(notebook(*cells), folder, report_format=report_format, stop=stop)
    except RunStopped:
        assert not report.exists()
        return "stopped"
    else:
        report.unlink()
        return "complete"
    finally:
        timer.cancel()


def test_an_error_while_the_conversion_is_stopped_is_the_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of the conversion is gone, for instance because /tmp was cleared at the shutdown."""
    stop = StopSignal()
    stop.set("the machine shuts down")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))

    with pytest.raises(RunStopped, match="the machine shuts down"):
        report_of(notebook("text"), tmp_path, stop=stop)


def test_a_tool_that_was_killed_is_reported_as_a_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "pandoc", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)", monkeypatch)

    with pytest.raises(ReportError, match="pandoc failed: killed by SIGTERM") as raised:
        report_of(notebook("text"), tmp_path)

    assert raised.value.is_death


def test_a_conversion_works_after_asciidoctor_was_killed(tmp_path: Path) -> None:
    report_of(notebook("text"), tmp_path)
    for process in _children_running("report_server.rb"):
        os.kill(process, signal.SIGKILL)

    assert "again" in text_of(report_of(notebook("again"), tmp_path))


def test_a_report_that_asciidoctor_had_not_begun_when_it_was_killed_is_made_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = tmp_path / "killed"
    script = f"""
    import os, pathlib, sys
    killed = pathlib.Path({str(killed)!r})
    if not killed.exists():
        os.read(0, 1)
        killed.touch()
        os.kill(os.getpid(), 9)
    os.execv({shutil.which("asciidoctor-pdf")!r}, sys.argv)
    """
    program(tmp_path / "bin", "asciidoctor-pdf", script, monkeypatch)

    assert "again" in text_of(report_of(notebook("again"), tmp_path))
    assert killed.exists()


def _children_running(name: str) -> list[int]:
    """Return the processes that this one has started, with `name` in their command line."""
    status = [path for path in Path("/proc").glob("[0-9]*/stat") if _parent_of(path) == os.getpid()]
    return [int(path.parent.name) for path in status if name in (path.parent / "cmdline").read_text()]


def _parent_of(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None  # it has ended meanwhile


def _has_ended(pid: int) -> bool:
    """Return whether a process is gone, or a zombie without a parent that waits for it."""
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" in status.read_text()


def test_tools_see_nothing_of_the_daemons_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOFLOW_DB_PASSWORD", "PASSWORD-IN-ENVIRONMENT")
    program(
        tmp_path / "bin", "pandoc", "import os, sys; sys.stdin.read(); sys.exit(repr(dict(os.environ)))", monkeypatch
    )

    with pytest.raises(ReportError, match="pandoc failed") as raised:
        report_of(notebook("text"), tmp_path)

    assert "PASSWORD-IN-ENVIRONMENT" not in str(raised.value)
    assert "AUTOFLOW" not in str(raised.value)


def test_missing_tools_are_reported_with_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_tools() == ()
    monkeypatch.setenv("PATH", str(tmp_path))

    lines = missing_tools()

    assert [line.split()[0] for line in lines] == ["pandoc", "asciidoctor-pdf", "pdftocairo"]
    assert "ruby-asciidoctor-pdf" in lines[1]
    with pytest.raises(ReportError, match="asciidoctor-pdf is not on PATH"):
        report_of(notebook("text"), tmp_path)

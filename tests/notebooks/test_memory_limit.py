"""The memory of a notebook and of all that it starts: its limit, its peak, and who is blamed if it ran out."""

import re
import textwrap
from pathlib import Path

import psutil
import pytest

from autoflow.kernels import memory
from autoflow.kernels.memory import in_units, oom_kills
from autoflow.notebooks.executed import ExecutedNotebook
from tests.notebooks.running import Runner

MB = 1024 * 1024

GRANDCHILD = textwrap.dedent("""
    import subprocess, sys, time
    own = "import os, time; open('pid', 'w').write(str(os.getpid())); taken = b'x' * 600_000_000; time.sleep(600)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {own!r}])"
    subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
    time.sleep(600)
""")


def test_notebook_ends_once_a_process_that_it_has_started_takes_too_much(run: Runner, tmp_path: Path) -> None:
    ran = run("print('before')", GRANDCHILD, memory=500 * MB)
    cell, error_class, message = ran.failure()
    assert (cell, error_class) == (2, "OutOfMemory")
    assert re.fullmatch(r"out of memory \(\d+ MB of 500 MB\)", message)
    assert not psutil.pid_exists(int((tmp_path / "in" / "pid").read_text(encoding="ascii")))
    assert "before" in ran.printed()
    found = ExecutedNotebook.read(ran.executed)
    assert found
    assert found.peak_memory
    assert found.peak_memory > 500 * MB


def test_notebook_within_its_limit_ends_well_and_its_peak_is_recorded(run: Runner) -> None:
    ran = run("taken = b'x' * 200_000_000", "taken = None", memory=2000 * MB)
    assert ran.error is None
    found = ExecutedNotebook.read(ran.executed)
    assert found
    assert found.peak_memory
    assert 10 * MB < found.peak_memory < 2000 * MB


def test_kernel_that_the_system_has_killed_for_want_of_memory_says_so(
    run: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("oom 0\noom_kill 3\n", encoding="ascii")
    monkeypatch.setattr(memory, "_OOM_COUNTERS", (tmp_path / "gone", counter))
    assert oom_kills() == 3
    ran = run(
        f"import os, pathlib, signal\npathlib.Path({str(counter)!r}).write_text('oom_kill 4')",
        "os.kill(os.getpid(), signal.SIGKILL)",
    )
    assert ran.failure()[2] == "the kernel died: killed by the system, because its memory ran out (OOM killer)"
    ran = run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert ran.failure()[2] == "the kernel died: killed by SIGKILL, possibly out of memory"


def test_memory_is_shown_in_units_of_1024(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [in_units(size) for size in (0, 999, 4 * 1024**3, int(4.2 * 1024**3), 512 * MB, 3 * 1024**4)] == [
        "0 B", "999 B", "4 GB", "4.2 GB", "512 MB", "3 TB",
    ]  # fmt: skip
    monkeypatch.setattr(memory, "_OOM_COUNTERS", (tmp_path / "gone",))
    assert oom_kills() == 0

"""What `make` prints while it sets things up and runs the example."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.run import run

ROOT = Path(__file__).resolve().parent.parent
STEP = ROOT / "scripts" / "step"


def step(what: str, code: str) -> subprocess.CompletedProcess[str]:
    command = [str(STEP), what, sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_step_says_what_it_does_and_hides_output() -> None:
    ended = step("Counting (a second)", "import sys; print('one'); print('two', file=sys.stderr)")
    assert ended.returncode == 0
    assert re.fullmatch(r"Counting \(a second\)\n  done in \d+ s\n", ended.stdout)
    assert ended.stderr == ""


def test_step_that_fails_prints_the_end_of_the_log_and_passes_on_the_exit_code() -> None:
    ended = step("Counting (a second)", "import sys; [print(n) for n in range(100)]; sys.exit(7)")
    assert ended.returncode == 7
    assert ended.stdout == "Counting (a second)\n"
    *lines, last = ended.stderr.splitlines()
    assert lines == [str(n) for n in range(70, 100)]
    assert re.fullmatch(r"Failed after \d+ s with exit code 7", last)


def test_make_prints_no_commands() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    commands = re.findall(r"^\t.*", makefile, re.MULTILINE)
    assert commands
    assert [command for command in commands if not command.startswith("\t@")] == []


def test_example_passes_on_output_in_order_and_says_that_it_is_still_working(capfd: pytest.CaptureFixture[str]) -> None:
    code = """
import sys, time
print("first", flush=True)
print("second", file=sys.stderr, flush=True)
time.sleep(1)
print("last")
sys.exit(3)
"""
    assert run([sys.executable, "-c", code], os.environ, silence=0.2) == 3
    out, err = capfd.readouterr()
    # On a busy machine, it also takes a while until the first line.
    working = r"  still working after \d+ s\n"
    assert re.fullmatch(rf"({working})*first\n({working})*second\n({working})+last\n", out)
    assert err == ""

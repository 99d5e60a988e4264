"""The process that makes the pictures of a report, and what one picture can do to the others."""

import json
import subprocess
import sys

from autoflow import reports
from tests.waiting import LONG

PROGRAM = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[1])
from isolated import isolated

def fails():
    raise ValueError("damaged")

def needs(size):
    return {"size": len(bytearray(size))}

calls = {
    "first": lambda: {"process": os.getpid()},
    "second": lambda: {"process": os.getpid()},
    "damaged": fails,
    "too large": lambda: needs(3 << 30),
    "large": lambda: needs(1200 << 20),
    "crashes": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "half": lambda: {"text": "x" * 100_000},
    "exits": lambda: os._exit(0),
    "after": lambda: {"process": os.getpid()},
    "last": lambda: {"process": os.getpid()},
}
json.dump(isolated(calls, seconds=float(sys.argv[2])), sys.stdout)
"""


def made(seconds: float) -> dict[str, dict[str, object]]:
    worker = f"{reports.__path__[0]}/worker"
    command = [sys.executable, "-I", "-c", PROGRAM, worker, str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=LONG)
    answers: dict[str, dict[str, object]] = json.loads(done.stdout)
    return answers


def test_no_picture_is_lost_because_another_crashes_or_takes_too_much() -> None:
    answers = made(LONG)

    problems = {name: answer["problem"] for name, answer in answers.items() if "problem" in answer}
    too_much = "it takes too much time or memory"
    assert problems == {
        "damaged": "it is damaged, or of an unknown kind",
        "too large": too_much,
        "crashes": too_much,
        "exits": too_much,
    }
    assert answers["large"] == {"size": 1200 << 20}
    assert answers["half"] == {"text": "x" * 100_000}
    assert len({answers[name]["process"] for name in ("first", "second", "after", "last")}) > 1


def test_there_is_no_time_for_pictures_after_the_limit() -> None:
    assert made(0)["crashes"] == {"problem": "there was no time left for it"}

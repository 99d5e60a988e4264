"""Call a function in a process of its own, with limits, because what it reads may be made to harm it."""

import json
import os
import resource
import signal
from collections.abc import Callable
from typing import Any

CPU_SECONDS = 10
_MOST_MEMORY = 2 << 30
_LARGEST_FILE = 256 << 20
"""In bytes."""

DAMAGED = "it is damaged, or of an unknown kind"
TOO_MUCH = "it takes too much time or memory"


class NotShownError(Exception):
    """A picture that cannot be shown; the message is the reason, as a reader of the report sees it."""


def isolated(make: Callable[[], dict[str, Any]], *, seconds: float) -> dict[str, Any]:
    """Return what `make` returns, or ``{"problem": reason}`` if it fails, crashes, or exceeds a limit.

    `seconds` limits its wall time.
    """
    if seconds < 1:
        return {"problem": "there was no time left for it"}
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _answer(make, writing, seconds)
    os.close(writing)
    with open(reading, encoding="utf-8") as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    made: dict[str, Any] = json.loads(answer) if answer else {"problem": TOO_MUCH}
    return made


def _answer(make: Callable[[], dict[str, Any]], writing: int, seconds: float) -> None:
    """Write what `make` returns to `writing`, and end this process."""
    try:
        _limit(seconds)
        answer = _made_or_problem(make)
        with open(writing, "w", encoding="utf-8") as answers:
            json.dump(answer, answers)
    finally:
        os._exit(0)


def _limit(seconds: float) -> None:
    signal.alarm(int(seconds))
    for limit, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, _MOST_MEMORY),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _made_or_problem(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return make()
    except NotShownError as error:
        return {"problem": str(error)}
    except MemoryError:
        return {"problem": TOO_MUCH}
    except Exception:  # noqa: BLE001 - a damaged picture raises whatever its decoder trips over
        return {"problem": DAMAGED}

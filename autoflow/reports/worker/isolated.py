"""Call functions in another process, with limits, because what they read may be made to harm it."""

import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

CPU_SECONDS = 10
"""Of a process."""
_AT_ONCE = 2
_SHARE_OF_TIME = 0.5
"""At most, for the processes that share calls."""
_MOST_MEMORY = 2 << 30
_LARGEST_FILE = 256 << 20
"""In bytes."""

DAMAGED = "it is damaged, or of an unknown kind"
_TOO_MUCH = {"problem": "it takes too much time or memory"}

_Make: TypeAlias = Callable[[], dict[str, Any]]


class NotShownError(Exception):
    """A picture that cannot be shown; the message is the reason, as a reader of the report sees it."""


def isolated(calls: Mapping[str, _Make], *, seconds: float) -> dict[str, dict[str, Any]]:
    """Return what each of `calls` returns, or ``{"problem": reason}`` if it fails, crashes, or exceeds a limit.

    Most calls are harmless, so two processes share them first, within the limits of one. Each call that they do not
    complete gets a process of its own, so that none is lost because of another. `seconds` limits the wall time.
    """
    deadline = time.monotonic() + seconds
    shared = [
        _Child(dict(part), seconds=seconds * _SHARE_OF_TIME, memory=_MOST_MEMORY // _AT_ONCE)
        for first in range(_AT_ONCE)
        if (part := list(calls.items())[first::_AT_ONCE])
    ]
    made = {key: answer for child in shared for key, answer in child.answers() if answer != _TOO_MUCH}
    for key, call in calls.items():
        if key not in made:
            made[key] = _alone(key, call, deadline - time.monotonic())
    return made


def _alone(key: str, call: _Make, seconds: float) -> dict[str, Any]:
    if seconds < 1:
        return {"problem": "there was no time left for it"}
    return dict(_Child({key: call}, seconds=seconds, memory=_MOST_MEMORY).answers()).get(key, _TOO_MUCH)


class _Child:
    """A process that makes `calls` in turn."""

    def __init__(self, calls: Mapping[str, _Make], *, seconds: float, memory: int) -> None:
        self._reading, writing = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._reading)
            _answer(calls, writing, seconds, memory)
        os.close(writing)

    def answers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the answer to each call, up to the one at which the process ends."""
        with open(self._reading, encoding="utf-8") as answers:
            for line in answers:
                if line.endswith("\n"):  # else it was killed while it wrote
                    key, answer = json.loads(line)
                    yield key, answer
        os.waitpid(self._pid, 0)


def _answer(calls: Mapping[str, _Make], writing: int, seconds: float, memory: int) -> None:
    """Write the answers to `calls` to `writing`, and end this process."""
    try:
        _limit(seconds, memory)
        with open(writing, "w", encoding="utf-8", buffering=1) as answers:
            answers.writelines(f"{json.dumps([key, _made_or_problem(call)])}\n" for key, call in calls.items())
    finally:
        os._exit(0)


def _limit(seconds: float, memory: int) -> None:
    signal.alarm(max(int(seconds), 1))
    for limit, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, _LARGEST_FILE),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _made_or_problem(make: _Make) -> dict[str, Any]:
    try:
        return make()
    except NotShownError as error:
        return {"problem": str(error)}
    except MemoryError:
        return _TOO_MUCH
    except Exception:  # noqa: BLE001 - a damaged picture raises whatever its decoder trips over
        return {"problem": DAMAGED}

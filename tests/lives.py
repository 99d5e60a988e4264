"""A log that kernels write themselves of when they are alive, on all hosts, and the strict rule that it has to keep."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HOST = "HOST_OF_LIVES"
"""The variable with the name of the host, for kernels there."""

LIVES = """
import os, pathlib, signal, time, uuid
attempt = uuid.uuid4().hex
def note(word):
    line = f"{{attempt}} {{os.environ.get({host!r}, '?')}} {{os.getpid()}} {{time.time():.4f}} {{word}}\\n"
    with open(os.path.join({log!r}, {run}), "ab", buffering=0) as file:
        file.write(line.encode())
signal.signal(signal.SIGTERM, signal.SIG_IGN)
note("begins")
if os.fork() == 0:
    os.setsid()
    while True:
        time.sleep(0.1)
        note("lives")
while {goes_on}:
    time.sleep(0.1)
    note("lives")
note("ends")
"""
"""The code of a notebook that ignores SIGTERM, as does a child of it that has left its session."""

_STAMP = re.compile(r"__(\d{8}T\d{6}\.\d{3})Z")


def code_of_life(log: Path, *, run: str, goes_on: str) -> str:
    """Return the code of a notebook that writes to the folder `log`, which exists, while it lives.

    `run`, the name of its file, and `goes_on` are Python expressions.
    """
    return LIVES.format(log=str(log), run=run, goes_on=goes_on, host=HOST)


@dataclass(frozen=True)
class Life:
    """An attempt at a run according to the log: when it was alive, in seconds since the epoch, and if it was whole."""

    run: str
    attempt: str
    host: str
    pid: int
    begins: float
    last_seen: float
    is_whole: bool


def read_lives(file: Path) -> list[Life]:
    """Return the attempts at the run with this file in the log, by their begin."""
    lines: dict[str, list[list[str]]] = defaultdict(list)
    for line in file.read_text().splitlines() if file.exists() else ():
        attempt, *rest = line.split()
        lines[attempt].append(rest)
    lives = []
    for attempt, rows in lines.items():
        times = [float(moment) for _, _, moment, _ in rows]
        is_whole = any(word == "ends" for *_, word in rows)
        lives.append(Life(file.name, attempt, rows[0][0], int(rows[0][1]), min(times), max(times), is_whole))
    return sorted(lives, key=lambda life: life.begins)


def overlaps(lives: Iterable[Life]) -> list[str]:
    """Return where two attempts at a run were alive at the same time."""
    return [
        f"{second.run}: attempt on {second.host} began {first.last_seen - second.begins:.2f} s before the last sign of "
        f"the one on {first.host}"
        for first, second in itertools.pairwise(lives)
        if second.begins <= first.last_seen
    ]


def late_files(lives: Iterable[Life], files: Iterable[Path]) -> list[str]:
    """Return which of the visible files of a run appeared or changed after the next attempt at it had begun."""
    begins = [life.begins for life in lives]
    late = []
    for file in files:
        stamp = _STAMP.search(file.name)
        assert stamp
        started = datetime.strptime(stamp[1], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC).timestamp()
        following = [begin for begin in begins if begin >= started][1:2]
        if following and file.stat().st_ctime > following[0]:
            late.append(f"{file.name} appeared {file.stat().st_ctime - following[0]:.2f} s late")
    return late


def visible_files(outputs: Path, beginning: str) -> list[Path]:
    """Return the executed notebooks, reports and thumbnails that begin with `beginning`."""
    folders = (outputs / "notebooks", outputs / "reports", outputs / "reports" / "thumbnails")
    return [path for folder in folders if folder.is_dir() for path in folder.glob(f"{beginning}*") if path.is_file()]


def complaints(log: Path, outputs: Path) -> list[str]:
    """Return all that is against the strict rule: overlaps, and late files.

    The log names runs as their outputs begin.
    """
    found = []
    for file in sorted(log.iterdir()):
        lives = read_lives(file)
        found += overlaps(lives) + late_files(lives, visible_files(outputs, f"{file.name}__"))
    return found

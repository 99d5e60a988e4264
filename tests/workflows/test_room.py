"""Runs that wait for room on a disk."""

from pathlib import Path

import pytest

from autoflow.errors import NoRoomError, NotebookError
from autoflow.runs.run import NotebookOutputs, Outcome
from autoflow.system.log import logger
from autoflow.workflows.room import RETRY_SECONDS, Room
from tests.disks import FILLER, fill, resize, small_disk


class Clock:
    """A clock that shows the seconds that a test has set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _with_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger.name)


def without_room(folder: Path) -> Outcome:
    return Outcome(errors={"n": NoRoomError("could not write n.ipynb: Disk quota exceeded", [folder])})


def test_one_line_is_logged_when_a_disk_becomes_full_and_one_when_it_has_room_again(
    tmp_path: Path, logged: list[str]
) -> None:
    with small_disk(tmp_path, "size=20m"):
        room = Room([tmp_path])
        assert room.problem() is None
        for _ in range(2):
            logged.clear()
            fill(tmp_path, left=0)
            assert [room.problem() is None for _ in range(5)] == [False] * 5
            assert len(logged) == 1
            (tmp_path / FILLER).unlink()
            assert [room.problem() for _ in range(5)] == [None] * 5
            assert logged[1:] == ["there is room on the disks again; runs continue"]


def test_after_a_run_found_no_room_the_others_wait_until_there_is_more(tmp_path: Path, logged: list[str]) -> None:
    with small_disk(tmp_path, "size=256k"):
        room = Room([tmp_path])
        room.run_ended(without_room(tmp_path))
        assert room.problem() == "could not write n.ipynb: Disk quota exceeded"
        resize(tmp_path, "size=260k")
        assert room.problem()
        resize(tmp_path, "size=2m")
        assert room.problem() is None
    assert len(logged) == 2


def test_one_run_after_the_other_finds_out_whether_there_is_room_that_nobody_can_see(
    tmp_path: Path, logged: list[str]
) -> None:
    clock = Clock()
    room = Room([tmp_path], clock=clock)
    for _ in range(3):
        room.run_ended(without_room(tmp_path))
        assert room.problem()
        clock.now += RETRY_SECONDS + 1
        assert room.problem() is None
        assert room.problem()
    assert len(logged) == 1
    room.run_ended(Outcome(outputs={"n": NotebookOutputs(tmp_path)}))
    assert room.problem() is None
    assert len(logged) == 2


def test_a_run_that_failed_for_itself_keeps_nobody_waiting(tmp_path: Path, logged: list[str]) -> None:
    room = Room([tmp_path])
    room.run_ended(Outcome(errors={"n": NotebookError("n", 1, "ValueError", "no")}))
    assert room.problem() is None
    assert logged == []

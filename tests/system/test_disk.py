import subprocess
from pathlib import Path

import pytest

from autoflow.system.disk import disk_problem, full_disk, says_no_room
from tests.conftest import Deployed
from tests.disks import fill, small_disk


@pytest.mark.parametrize(("left", "word"), [(1_000_000, "nearly full"), (100_000, "full"), (0, "full")])
def test_a_disk_with_little_room_is_reported_with_its_folder_and_what_is_left(
    tmp_path: Path, left: int, word: str
) -> None:
    with small_disk(tmp_path, "size=30m"):
        fill(tmp_path, left=left)
        problem = disk_problem([Path("/"), tmp_path / "not" / "yet"])

    assert problem
    assert f"the disk of {tmp_path / 'not' / 'yet'} is {word}: " in problem
    assert " of 31 MB are free" in problem


def test_only_a_disk_that_is_full_stops_runs(tmp_path: Path) -> None:
    with small_disk(tmp_path, "size=30m"):
        fill(tmp_path, left=1_000_000)
        assert full_disk([tmp_path]) is None
        (tmp_path / "more").write_bytes(bytes(900_000))
        assert full_disk([tmp_path])
        (tmp_path / "filler").unlink()
        assert disk_problem([tmp_path]) is None


def test_a_read_only_disk_is_a_problem(tmp_path: Path) -> None:
    with small_disk(tmp_path, "size=1m,ro"):
        assert full_disk([tmp_path]) == f"the disk of {tmp_path} is read-only: make it writable"


def test_a_disk_without_room_for_more_files_is_full(tmp_path: Path) -> None:
    with small_disk(tmp_path, "size=30m,nr_inodes=200"):
        assert full_disk([tmp_path]) is None
        for number in range(199):
            (tmp_path / str(number)).touch()
        assert "no room for more files" in (full_disk([tmp_path]) or "")


def test_messages_of_programs_that_found_no_room_are_recognised(tmp_path: Path) -> None:
    with small_disk(tmp_path, "size=64k"):
        done = subprocess.run(
            ["dd", "if=/dev/zero", f"of={tmp_path / 'x'}"], capture_output=True, text=True, check=False
        )

    assert says_no_room(done.stderr)
    assert not says_no_room("No such file or directory")


def test_the_disks_of_all_that_autoflow_writes_are_watched(deployed: Deployed, tmp_path: Path) -> None:
    settings = deployed.settings(
        TMPDIR=str(tmp_path / "tmp"), PREFECT_HOME=str(tmp_path / "home"), AUTOFLOW_DB_URI="sqlite:////data/runs.db"
    )

    folders = (deployed.outputs, deployed.outputs / "notebooks", tmp_path / "tmp", tmp_path / "home", Path("/data"))
    assert set(folders) <= set(settings.written_folders)
    elsewhere = deployed.settings(PREFECT_API_URL="http://x/api", AUTOFLOW_DB_URI="postgresql://user@host/db")
    assert set(elsewhere.written_folders) == {*settings.written_folders[:3], Path("/tmp")}

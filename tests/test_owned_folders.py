import os
import subprocess
import sys
from pathlib import Path

import pytest

from autoflow.utils import owned_folder, remove_abandoned_folders

OWNER = """
import sys
from pathlib import Path
from autoflow.utils import owned_folder
with owned_folder("autoflow-report-", Path(sys.argv[1])) as folder:
    (folder / "report.adoc").write_text("of a report")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_folder_is_removed_at_its_end(tmp_path: Path) -> None:
    with owned_folder("autoflow-report-", tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "a").write_text("a")
    assert list(tmp_path.iterdir()) == []


def test_error_in_the_block_is_passed_on_and_the_folder_is_removed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="of the block"), owned_folder("x-", tmp_path):
        raise FileNotFoundError("of the block")
    assert list(tmp_path.iterdir()) == []


def test_folder_stays_while_its_owner_lives_and_goes_when_it_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        folder = Path(owner.stdout.readline().strip())
        os.utime(folder, (0, 0))
        remove_abandoned_folders(tmp_path, "autoflow-report-")
        assert (folder / "report.adoc").exists()
        owner.kill()
    assert folder.exists()
    remove_abandoned_folders(tmp_path, "autoflow-report-")
    assert not folder.exists()


def test_what_only_looks_like_a_folder_of_ours_stays(tmp_path: Path) -> None:
    target = tmp_path / "of-somebody-else"
    target.mkdir()
    (tmp_path / "autoflow-report-link").symlink_to(target)
    (tmp_path / "autoflow-report-file").touch()
    remove_abandoned_folders(tmp_path, "autoflow-report-")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_folder_of_another_user_stays(tmp_path: Path) -> None:
    folder = tmp_path / "autoflow-report-a"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    remove_abandoned_folders(tmp_path, "autoflow-report-")
    assert folder.exists()

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from autoflow.utils import ClockWatch, keep_sqlite_path, redact, remove_unfinished, whole_file


def test_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    with whole_file(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".report.")
        assert temporary.suffix == ".pdf"
    assert path.read_text() == "all of it"
    assert list(tmp_path.iterdir()) == [path]


def test_old_file_stays_when_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_text("old")

    def fail() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.pdf"
    path.write_text("old")
    with whole_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_file_that_was_never_written_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "report.pdf"):
        pass
    assert list(tmp_path.iterdir()) == []


LEAVES_A_FILE = """
import os, signal, sys
from pathlib import Path
from autoflow.utils import whole_file
with whole_file(Path(sys.argv[1]) / "a b.ipynb") as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_has_left_is_removed_at_once_and_what_is_being_written_stays(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LEAVES_A_FILE, str(tmp_path)], check=False)
    other = tmp_path / ".other.part.ipynb"
    other.write_text("half")
    os.utime(other, (0, 0))
    assert len(list(tmp_path.iterdir())) == 2
    with whole_file(tmp_path / "b.ipynb") as temporary:
        temporary.write_text("half")
        os.utime(temporary, (0, 0))  # it takes very long
        remove_unfinished(tmp_path)
        assert set(tmp_path.iterdir()) == {temporary, other}


def test_what_another_machine_has_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, new, from_the_future = (tmp_path / f".a b.{'0' * 11}{digit}.part.ipynb" for digit in "123")
    for path in (old, new, from_the_future):
        path.write_text("half")
    os.utime(from_the_future, (time.time() + 365 * 24 * 3600,) * 2)
    os.utime(old, (time.time() - 24 * 3600 - 60,) * 2)
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [new]


@pytest.mark.parametrize("character", ["a", "é", "ক", "😀"])
def test_name_may_be_as_long_as_a_name_can_be(tmp_path: Path, character: str) -> None:
    path = tmp_path / (character * (251 // len(character.encode())) + ".pdf")
    with whole_file(path) as temporary:
        temporary.write_text("all of it")
    assert path.read_text() == "all of it"


def test_name_need_not_be_text(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\xfe.ipynb")
    with whole_file(path) as temporary:
        temporary.write_text("all of it")
    assert path.read_text() == "all of it"


def test_secrets_are_removed_everywhere() -> None:
    text = "postgresql://user:hunter22@host, hunter22; token-of-mine"
    expected = "postgresql://user:[secret]@host, [secret]; [secret]"
    assert redact(text, ["hunter22", "token-of-mine"]) == expected


def test_short_secrets_are_not_redacted() -> None:
    assert redact("the data of a day", ["a", "", "data"]) == "the data of a day"


@pytest.mark.parametrize(
    "path", ["/a/b.db", "/b%20c/a.db", "/100%/a.db", "/a b/%3F#é{}/a.db", "relative.db", "file:/a%20b.db"]
)
@pytest.mark.parametrize("driver", ["sqlite", "sqlite+aiosqlite"])
def test_sqlite_path_is_opened_as_it_is_written(driver: str, path: str) -> None:
    url = sa.make_url(keep_sqlite_path(f"{driver}:///{path}?mode=ro&name=a%20b"))
    assert url.database == path
    assert url.query == {"mode": "ro", "name": "a b"}


def test_uri_of_another_database_is_unchanged() -> None:
    uri = "postgresql://user:a%20b@host/runs"
    assert keep_sqlite_path(uri) == uri


def test_clock_that_is_set_back_is_noticed_once() -> None:
    ahead = [0.0]
    watch = ClockWatch(lambda: ahead[-1])
    noticed = []
    for now in (0.0, 3600.0, 3590.0, 0.0, 0.0, -3600.0):
        ahead.append(now)
        noticed.append(watch.was_set_back())
    assert noticed == [False, False, False, True, False, True]

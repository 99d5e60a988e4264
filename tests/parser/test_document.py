import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoflow.errors import WorkflowsFileError
from autoflow.parser import parse_workflows_file
from tests.parser.good_file import GOOD, parse, problems

NESTED = "1: values are nested more than 50 levels deep"
EXPECTED = "expected a mapping with the keys 'workflows' and 'available_dates_sensor'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", f"1: the file is empty; {EXPECTED}"),
        ("# nothing\n", f"1: the file is empty; {EXPECTED}"),
        ("- a\n- b\n", f"1: {EXPECTED}"),
        (b"a: 1\nb: \xe9\n", "2: this is not UTF-8 text; save the file as UTF-8"),
        ("a: 1\n\nb: \x01\n", "3: YAML does not allow the character 0x01"),
        ("[" * 100_000, NESTED),
        ("{a: " * 50_000, NESTED),
        ("- " * 100_000, NESTED),
        ("a: b\n" * 60_000, " the file is larger than 256 KiB"),
    ],
)
def test_file_that_cannot_be_checked_any_further_gives_one_line(inputs: Path, text: str | bytes, expected: str) -> None:
    assert problems(inputs, text) == [expected]


def test_file_with_a_byte_order_mark_is_accepted(inputs: Path) -> None:
    assert parse(inputs, b"\xef\xbb\xbf" + GOOD.encode()) == parse(inputs, GOOD)


def test_missing_file_is_reported_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(WorkflowsFileError) as raised:
        parse_workflows_file(tmp_path / "workflows.yml")
    assert raised.value.problems == (f"workflows.yml: no such file in {tmp_path}",)


def test_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "workflows.yml").mkdir()
    with pytest.raises(WorkflowsFileError, match=r"^workflows\.yml: this is a folder; expected a file$"):
        parse_workflows_file(tmp_path / "workflows.yml")


@pytest.mark.parametrize("target", ["elsewhere.yml", "workflows.yml"])
def test_broken_link_in_place_of_the_file_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "workflows.yml").symlink_to(target)
    with pytest.raises(WorkflowsFileError, match=rf"^workflows\.yml: broken link to '{target}'$"):
        parse_workflows_file(tmp_path / "workflows.yml")


def test_pipe_in_place_of_the_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "workflows.yml")
    with pytest.raises(WorkflowsFileError, match=r"^workflows\.yml: this is not a regular file$"):
        parse_workflows_file(tmp_path / "workflows.yml")


@contextmanager
def without_roots_rights() -> Iterator[None]:
    """Run the block as a user without access to all files, even if root runs the tests."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_file_that_may_not_be_read_is_refused() -> None:
    # Not in pytest's own folder, which other users may not enter.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "workflows.yml"
        path.touch(mode=0o200)
        with without_roots_rights(), pytest.raises(WorkflowsFileError) as raised:
            parse_workflows_file(path)
    assert str(raised.value) == "workflows.yml: cannot read the file: Permission denied"

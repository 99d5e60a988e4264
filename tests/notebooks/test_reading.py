import json
import os
import re
import sys
import tracemalloc
from pathlib import Path

import pytest

from autoflow.notebooks.reading import (
    MAX_DEPTH,
    MAX_NOTEBOOK_BYTES,
    DeclaredParameters,
    InvalidNotebookError,
    declared_parameters,
    read_notebook,
)
from tests.conftest import PYTHON, write_notebook
from tests.notebooks.running import Runner


def test_metadata_that_papermill_did_not_write_does_no_harm(tmp_path: Path, run: Runner) -> None:
    path = write_notebook(tmp_path / "n.ipynb", "print(1)")
    content = json.loads(path.read_text())
    content["metadata"]["papermill"] = None
    path.write_text(json.dumps(content))
    ran = run.run(path)
    assert ran.error is None
    assert ran.notebook.metadata["papermill"]["output_path"]


OLD = {
    "nbformat": 3,
    "nbformat_minor": 0,
    "metadata": {"name": "old"},
    "worksheets": [
        {
            "metadata": {},
            "cells": [
                {"cell_type": "heading", "level": 1, "metadata": {}, "source": ["Old"]},
                {
                    "cell_type": "code",
                    "collapsed": False,
                    "input": ["print(6 * 7)"],
                    "language": "python",
                    "metadata": {"tags": ["parameters"]},
                    "outputs": [],
                },
            ],
        }
    ],
}
"""A notebook as IPython wrote them until 2015."""


def test_notebook_in_an_old_format_is_run_in_the_new_one(tmp_path: Path, run: Runner) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps(OLD))
    assert declared_parameters(path) == DeclaredParameters(frozenset(), has_cell=True)
    ran = run.run(path)
    assert ran.error is None
    assert ran.notebook.nbformat == 4
    assert ran.printed(1) == "42\n"


@pytest.mark.parametrize(
    ("worksheets", "reason"),
    [
        (None, "worksheets: None is not of type 'array'"),
        ([{"cells": None}], "worksheets[0].cells: None is not of type 'array'"),
    ],
)
def test_notebook_in_an_old_format_without_its_cells_is_refused(
    tmp_path: Path, worksheets: object, reason: str
) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({**OLD, "worksheets": worksheets, "cells": [{"cell_type": "code"}]}))
    with pytest.raises(InvalidNotebookError, match=f"^{re.escape(reason)}$"):
        read_notebook(path)


def test_byte_order_mark_before_a_notebook_does_no_harm(tmp_path: Path, run: Runner) -> None:
    path = write_notebook(tmp_path / "n.ipynb", "print(1)")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert run.run(path).error is None


@pytest.mark.parametrize(
    "kernelspec",
    [None, {**PYTHON, "name": "conda-env-gone-py"}, {"name": "gone", "display_name": "", "language": "python"}],
)
def test_python_notebook_falls_back_to_autoflows_own_python(
    tmp_path: Path, run: Runner, kernelspec: dict[str, str] | None
) -> None:
    ran = run.run(write_notebook(tmp_path / "n.ipynb", "print(1)", kernelspec=kernelspec), values={"x": 1})
    assert ran.error is None
    assert ran.printed(1) == "1\n"


def test_missing_kernel_of_another_language_fails_the_run(tmp_path: Path, run: Runner) -> None:
    kernelspec = {"name": "ir", "display_name": "R", "language": "R"}
    ran = run.run(write_notebook(tmp_path / "n.ipynb", "1", kernelspec=kernelspec))
    assert ran.failure() == (None, "NoSuchKernel", "no kernel named 'ir' is installed")
    assert len(ran.notebook.cells) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{not json", "n.ipynb is not a valid notebook: it is not valid JSON"),
        (
            b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": ["\xff"]}',
            "n.ipynb is not a valid notebook: it is not UTF-8 text",
        ),
        (b'["x"]', "n.ipynb is not a valid notebook: its JSON has no 'nbformat'"),
        (
            b'{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
            "n.ipynb is not a valid notebook: cells: 3 is not of type 'array'",
        ),
        (b"[" * 100_000, "n.ipynb is not a valid notebook: it is nested too deeply"),
        (None, "cannot read n.ipynb: No such file or directory"),
    ],
)
def test_invalid_notebook_fails_the_run(tmp_path: Path, run: Runner, content: bytes | None, message: str) -> None:
    path = tmp_path / "n.ipynb"
    if content is not None:
        path.write_bytes(content)
    ran = run.run(path)
    assert ran.failure()[0] is None
    assert message in ran.failure()[2]
    assert not ran.executed.exists()


def test_cell_ids_that_are_missing_or_wrong_are_repaired_without_a_warning(tmp_path: Path) -> None:
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["a\n", "b"]}
    cells = [cell, {**cell, "id": "same"}, {**cell, "id": "same"}, {**cell, "id": "not allowed"}]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    notebook = read_notebook(path)
    assert len({cell.id for cell in notebook.cells}) == 4
    assert notebook.cells[0].source == "a\nb"


def test_declared_parameters_are_those_of_the_tagged_cell(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "n.ipynb", "y = 1", parameters="x = 1")
    assert declared_parameters(path) == DeclaredParameters(frozenset({"x"}), has_cell=True)
    path = write_notebook(tmp_path / "n.ipynb", "y = 1")
    assert declared_parameters(path) == DeclaredParameters(frozenset(), has_cell=False)


def nested(levels: int) -> bytes:
    """Return a notebook whose JSON is nested so many levels deep."""
    inner = b"[" * (levels - 2) + b"]" * (levels - 2)
    return b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {"x": %s}, "cells": []}' % inner


def test_deeply_nested_notebook_runs_or_is_refused_before_it_runs(tmp_path: Path, run: Runner) -> None:
    path = tmp_path / "n.ipynb"
    path.write_bytes(nested(MAX_DEPTH))
    assert run.run(path).error is None
    path.write_bytes(nested(MAX_DEPTH + 1))
    with pytest.raises(InvalidNotebookError, match=r"^it is nested too deeply$"):
        read_notebook(path)


@pytest.mark.parametrize("size", [MAX_NOTEBOOK_BYTES + 1, 2 * 1024**3])
def test_large_notebook_is_refused_by_its_size_before_it_is_read(tmp_path: Path, size: int) -> None:
    path = tmp_path / "n.ipynb"
    with path.open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    with pytest.raises(InvalidNotebookError) as raised:
        read_notebook(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    mebibytes = f"{size / 2**20:,.0f}"
    assert str(raised.value) == f"it has {mebibytes} MiB, and the limit is 100; clear its outputs and save it"
    assert most < 1_000_000


def test_pipe_in_place_of_a_notebook_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "n.ipynb")
    with pytest.raises(InvalidNotebookError, match=r"^it is not a regular file$"):
        read_notebook(tmp_path / "n.ipynb")


def test_number_with_more_digits_than_python_reads_is_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_bytes(nested(3).replace(b"[]", b"1" * (sys.get_int_max_str_digits() + 1), 1))
    with pytest.raises(InvalidNotebookError, match=r"^a number in it has too many digits$"):
        read_notebook(path)


def test_large_numbers_and_characters_beyond_the_first_plane_reach_the_notebook(tmp_path: Path, run: Runner) -> None:
    values = {"large": 10**400, "beyond": -(2**63) - 1, "emoji": "\U0001f600 \U0001d11e", "deep": deep(40)}
    parameters = "large, beyond, emoji, deep = 1, 1, '', []"
    cell = f"assert (large, beyond, emoji, deep) == {tuple(values.values())!r}"
    path = write_notebook(tmp_path / "n.ipynb", cell, parameters=parameters)
    path.write_text(path.read_text().replace("''", "'\\ud83d\\ude00'"))
    assert run.run(path, values=values).error is None


def deep(levels: int) -> list[object]:
    """Return lists in lists."""
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_does_not_have_do_no_harm_in_metadata(tmp_path: Path, run: Runner, number: str) -> None:
    path = tmp_path / "n.ipynb"
    path.write_bytes(nested(3).replace(b"[]", number.encode(), 1))
    assert run.run(path).error is None

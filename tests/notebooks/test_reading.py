import json
import re
from pathlib import Path

import pytest

from autoflow.notebooks.reading import DeclaredParameters, InvalidNotebookError, declared_parameters, read_notebook
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

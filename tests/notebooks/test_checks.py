import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import nbformat
import pytest

import autoflow
from autoflow.errors import NotebookError, RunSkipped
from autoflow.notebooks.checks import CHECK_FAILED
from autoflow.notebooks.executed import recorded_checks
from autoflow.runs.checks import MOST_KEPT, Checks
from tests.conftest import write_notebook
from tests.notebooks.running import SECRET, Ran, Runner

ROOT = Path(__file__).resolve().parents[2]
IMPORT = "import autoflow\n"


def checks_of(ran: Ran) -> Checks:
    return recorded_checks(ran.notebook.metadata)


def shown(ran: Ran) -> list[str]:
    cells = ran.notebook.cells
    return [output.data["text/plain"] for cell in cells for output in cell.get("outputs", ()) if "data" in output]


def test_failed_checks_fail_the_notebook_once_all_its_cells_have_run(run: Runner) -> None:
    ran = run(
        IMPORT + "print(autoflow.check('there are rows', True), autoflow.check('no gaps', False, message='3 gaps'))",
        "autoflow.check('few outliers', False, severity='warning', message='7 %')",
        "autoflow.check('same regions', False)",
        "print('goes on')\n1 == 1",
    )
    message = "2 checks failed: no gaps: 3 gaps; same regions (cell 3)"
    assert ran.failure() == (1, CHECK_FAILED, message)
    assert isinstance(ran.error, NotebookError)
    assert "In [1]: import autoflow" in str(ran.error)
    assert ran.printed() == "True False\n"
    assert ran.printed(3) == "goes on\n"
    assert shown(ran) == [
        "✔ check passed: there are rows",
        "✘ check failed (error): no gaps: 3 gaps",
        "⚠ check failed (warning): few outliers: 7 %",
        "✘ check failed (error): same regions",
        "True",
    ]
    checks = checks_of(ran)
    assert (checks.passed, checks.warnings, checks.errors) == (1, 1, 2)
    assert [(each.name, each.ok, each.cell) for each in checks.kept] == [
        ("there are rows", True, 1),
        ("no gaps", False, 1),
        ("few outliers", False, 2),
        ("same regions", False, 3),
    ]


def test_notebook_whose_checks_pass_or_warn_succeeds(run: Runner) -> None:
    ran = run(IMPORT + "autoflow.check('a', True, message='unused')\nautoflow.check('b', False, 'warning')")
    assert ran.error is None
    assert (checks_of(ran).passed, checks_of(ran).warnings, checks_of(ran).errors) == (1, 1, 0)
    assert run("1").notebook.metadata.get("checks") is None


HIDING = [
    "%%capture\nimport autoflow\nautoflow.check('x', False)",
    IMPORT + "from IPython.display import clear_output\nautoflow.check('x', False)\nclear_output()",
    IMPORT + "import ipywidgets\nwith ipywidgets.Output():\n    autoflow.check('x', False)",
    IMPORT + "try:\n    autoflow.check('x', False)\nexcept BaseException:\n    pass",
    IMPORT + "print('y' * 30_000_000)\nautoflow.check('x', False)",
    IMPORT + "import threading\nt = threading.Thread(target=autoflow.check, args=['x', False])\nt.start()\nt.join()",
    IMPORT + "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n    autoflow.check('x', False)",
    "%%time\nimport autoflow\nautoflow.check('x', False)",
    IMPORT + "async def look():\n    autoflow.check('x', False)\nawait look()",
    # Processes of the notebook cannot send results; the failure is raised there.
    IMPORT
    + "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(1) as pool:\n"
    + "    pool.starmap(autoflow.check, [('x', False)])",
    IMPORT
    + "from concurrent.futures import ProcessPoolExecutor\nimport multiprocessing\n"
    + "with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn')) as pool:\n"
    + "    pool.submit(autoflow.check, 'x', False).result()",
]


def test_failed_check_is_never_lost(run: Runner) -> None:
    for cell in HIDING:
        ran = run(cell)
        assert isinstance(ran.error, NotebookError), cell
        assert ran.error.error_class.startswith(CHECK_FAILED), cell
        assert ran.error.error_message == "x", cell


def test_checks_before_the_death_of_a_kernel_and_other_failures_are_known(run: Runner) -> None:
    ran = run(IMPORT + "autoflow.check('x', False)", "import os; os._exit(3)")
    assert checks_of(ran).errors == 1
    assert ran.failure()[1:] == (
        "DeadKernelError",
        "the kernel died: it ended with exit status 3 (CheckFailed before: x)",
    )
    ran = run(IMPORT + "autoflow.check('x', False)", "1 / 0")
    assert ran.failure() == (2, "ZeroDivisionError", "division by zero (CheckFailed before: x)")


def test_hostile_checks_are_bounded_and_without_secrets(run: Runner) -> None:
    ran = run(
        IMPORT
        + f"autoflow.check('<b>|*_{{x}}[[a]]\\x00\\ud800\\n----' + 'x' * 100_000, False, message={SECRET!r} * 3)",
        f"for _ in range({3 * MOST_KEPT}): autoflow.check('many', True)",
        # Not from autoflow.check.
        f"""from IPython.display import display
for odd in [None, 1, [], {{}}, {{"name": 1}}, {{"name": "x", "ok": 1, "severity": "error", "message": ""}}]:
    display({{"{autoflow.CHECK_TYPE}": odd, "text/plain": "odd"}}, raw=True)""",
        secrets=[SECRET],
    )
    assert isinstance(ran.error, NotebookError)
    checks = checks_of(ran)
    (failed,) = checks.failed_errors
    assert failed.name.startswith("<b>|*_{x}[[a]]")
    assert len(failed.name) < 220
    assert failed.message == "[secret]" * 3
    assert checks.passed == 3 * MOST_KEPT
    assert len(checks.kept) == MOST_KEPT + 1
    assert SECRET not in ran.executed.read_text(encoding="utf-8")
    assert len(str(ran.error)) < 2000


MISTAKES = {
    "autoflow.check('x', None)": "TypeError: check 'x' needs True or False, not None",
    "autoflow.check('x', pd.Series([True, False]))": "not a value of the type Series; use .all() or .any()",
    "autoflow.check('x', np.array([True]))": "not a value of the type ndarray; use .all() or .any()",
    "autoflow.check('x', pd.DataFrame())": "not a value of the type DataFrame; use .all() or .any()",
    "autoflow.check('x', 'yes')": "not a value of the type str",
    "autoflow.check('x', [])": "not a value of the type list",
    "autoflow.check('x', pd.Series([True]).all)": "not a value of the type method",
    "autoflow.check('x', float('nan'))": "nan is neither true nor false",
    "autoflow.check('x', pd.NA)": "<NA> is neither true nor false",
    "autoflow.check('x', pd.NaT)": "not a value of the type NaTType",
    "autoflow.check(7, True)": "TypeError: the name of a check must be text, not int",
    "autoflow.check(' ', True)": "ValueError: the name of a check is empty",
    "autoflow.check('x', True, 'warn')": "the severity of check 'x' must be 'error' or 'warning', not 'warn'",
    "autoflow.check('x', True, message=3)": "TypeError: the message of check 'x' must be text, not int",
    "autoflow.skip(None)": "TypeError: the reason to skip a run must be text, not NoneType",
    "autoflow.skip('')": "ValueError: the reason to skip a run is empty",
}


def test_mistakes_are_explained_and_scalars_are_taken(run: Runner) -> None:
    ran = run(
        IMPORT
        + f"""import numpy as np, pandas as pd
for code in {list(MISTAKES)!r}:
    try:
        eval(code)
    except Exception as error:
        print(f"{{type(error).__name__}}: {{error}}")
    else:
        print('accepted')
good = [True, np.bool_(True), np.int64(3), pd.Series([1]).sum(), pd.Series([True]).all(), np.array(True), 2, 0.5]
print([autoflow.check('x', ok) for ok in good] == [True] * len(good), autoflow.check('y', np.bool_(0), 'warning'))"""
    )
    assert ran.error is None
    *lines, last = ran.printed().splitlines()
    for line, (code, expected) in zip(lines, MISTAKES.items(), strict=True):
        assert expected in line, code
    assert last == "True False"


SKIPS = [
    ("autoflow.skip('no   data\\nfor it')", "no data for it"),
    (f"autoflow.skip('it is ' + {SECRET!r})", "it is [secret]"),
    ("try:\n    autoflow.skip('why')\nexcept Exception:\n    pass", "why"),
    ("autoflow.check('x', False, 'warning')\nautoflow.skip('why')", "why"),
]


def test_notebook_that_skips_its_run_ends_there(run: Runner) -> None:
    for code, why in SKIPS:
        ran = run("1", IMPORT + code, "print('not run')", secrets=[SECRET])
        assert isinstance(ran.error, RunSkipped)
        assert (ran.error.notebook, ran.error.cell, str(ran.error)) == ("flows", 2, why)
        assert ran.printed(2) == ""
        assert SECRET not in ran.executed.read_text(encoding="utf-8")


def test_skip_in_a_cell_that_may_fail_counts_and_a_failed_check_counts_for_more(tmp_path: Path, run: Runner) -> None:
    path = write_notebook(tmp_path / "in" / "n.ipynb", IMPORT + "autoflow.skip('x' * 5000)", "1 / 0")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].metadata["tags"] = ["raises-exception"]
    nbformat.write(notebook, path)
    ran = run.run(path)
    assert isinstance(ran.error, RunSkipped)
    assert len(str(ran.error)) < 1100
    ran = run(IMPORT + "autoflow.check('x', False)", "autoflow.skip('why')")
    assert ran.failure() == (1, CHECK_FAILED, "x")


def test_module_of_the_notebooks_folder_comes_first(run: Runner) -> None:
    (run.folder / "in" / "autoflow").mkdir(parents=True)
    (run.folder / "in" / "autoflow" / "__init__.py").write_text("mine = 7")
    ran = run(IMPORT + "print(autoflow.mine)", "autoflow.check('x', True)")
    assert ran.printed() == "7\n"
    assert "of that name beside the notebook, rename it" in str(ran.error)


def test_make_and_the_image_let_editors_import_the_module(tmp_path: Path) -> None:
    folder = ROOT / "autoflow" / "kernels" / "importable"
    assert '"$(CURDIR)/autoflow/kernels/importable"' in (ROOT / "Makefile").read_text()
    assert "/opt/autoflow/autoflow/kernels/importable >" in (ROOT / "Dockerfile").read_text()
    code = f"import site; site.addsitedir({str(tmp_path)!r}); import autoflow; print(autoflow.check('x', True))"
    (tmp_path / "autoflow.pth").write_text(f"{folder}\n")
    printed = subprocess.check_output([sys.executable, "-I", "-c", code], cwd=tmp_path, text=True)
    assert printed == "check passed: x\nTrue\n"


def test_kernel_of_another_environment_has_the_module(
    tmp_path: Path, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = tmp_path.glob("venv/lib/python*/site-packages")
    (site / "other.pth").write_text(sysconfig.get_path("purelib"))
    spec = tmp_path / "jupyter" / "kernels" / "other" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [str(tmp_path / "venv" / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    code = IMPORT + "autoflow.check('x', False)\nimport sys; print(sys.prefix)"
    path = write_notebook(tmp_path / "in" / "n.ipynb", code)
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["kernelspec"] = {"name": "other", "display_name": "Other"}
    nbformat.write(notebook, path)
    ran = run.run(path)
    assert ran.printed() == f"{tmp_path / 'venv'}\n"
    assert ran.failure() == (1, CHECK_FAILED, "x")


def test_module_imports_nothing_and_works_in_a_script() -> None:
    code = """if True:
        import sys
        before = set(sys.modules)
        import autoflow
        print(sorted(set(sys.modules) - before))
        autoflow.check("fine", True)
        autoflow.check("odd", False, "warning", "3")
        autoflow.check("bad", False)
        """
    ran: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "['autoflow']\ncheck passed: fine\ncheck failed (warning): odd: 3\ncheck failed (error): bad\n"
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == "autoflow.CheckFailedError: bad"

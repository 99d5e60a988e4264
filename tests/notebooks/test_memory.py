"""How much memory AutoFlow takes, whatever a notebook puts out: the peak of a process that runs one."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from autoflow.notebooks.outputs import OUTPUT_LIMIT
from tests.conftest import write_notebook

RUNS = """
import os, resource, sys
from pathlib import Path
from autoflow.notebooks.execution import execute

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1000

folder = Path(sys.argv[1])
def run(name):
    executed = folder / f"{name}-executed.ipynb"
    execute(folder / f"{name}.ipynb", executed, label=name, parameters={}, environment=os.environ)

run("small")
before = peak()
run("large")
print(peak() - before)
"""

MOST = 300e6
"""In bytes, over a process that has run a small notebook."""

CODE = {
    "large prints": "for _ in range(30): print('y' * 30_000_000, flush=True)",
    "prints that fit": "for _ in range(30): print('y' * 24_000_000, flush=True)",
    "stderr": "import sys\nfor _ in range(30): print('y' * 20_000_000, flush=True, file=sys.stderr)",
    "small prints": "for _ in range(5_000): print('y' * 20_000, flush=True)",
    "displays": "for _ in range(30): display({'text/html': '<p>' * 8_000_000}, raw=True)",
    "updates": "shown = display('', display_id=True)\nfor _ in range(50): shown.update('x' * 9_000_000)",
}


@pytest.mark.parametrize("code", CODE.values(), ids=CODE)
def test_memory_is_bounded_whatever_a_notebook_puts_out(code: str, tmp_path: Path) -> None:
    write_notebook(tmp_path / "small.ipynb", "1")
    write_notebook(tmp_path / "large.ipynb", code, "'it went on'")

    done = subprocess.run([sys.executable, "-c", RUNS, str(tmp_path)], capture_output=True, text=True, check=True)

    assert int(float(done.stdout)) < MOST
    first, second = nbformat.read(tmp_path / "large-executed.ipynb", as_version=4).cells
    assert "AutoFlow left out" in "".join(each.get("text", "") for each in first.outputs) or "update" in code
    assert second.outputs[0].data["text/plain"] == "'it went on'"
    assert (tmp_path / "large-executed.ipynb").stat().st_size < 2 * OUTPUT_LIMIT

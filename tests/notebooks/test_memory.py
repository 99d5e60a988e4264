"""How much memory AutoFlow takes, whatever a notebook puts out: the peak of a process that runs one after the other."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from autoflow.notebooks.outputs import OUTPUT_LIMIT
from tests.conftest import write_notebook

RUNS = """
import contextlib, json, os, resource, sys
from pathlib import Path
from autoflow.errors import NotebookError
from autoflow.kernels.fork_server import ForkServer
from autoflow.notebooks.execution import Means, Task, execute

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

folder, server = Path(sys.argv[1]), None
def run(name):
    executed = folder / f"{name}-executed.ipynb"
    with contextlib.suppress(NotebookError):
        task = Task(label=name, parameters={}, environment=os.environ)
        execute(folder / f"{name}.ipynb", executed, task, Means(fork_server=server))

with contextlib.ExitStack() as stack:
    if sys.argv[2] == "forked":
        server = stack.enter_context(ForkServer())
        server.warm_up(os.environ)
    run("small")
    before, peaks = peak(), {}
    for name in json.loads(sys.argv[3]):
        run(name)
        peaks[name] = peak() - before
    print(json.dumps(peaks))
"""

MOST = 300e6
"""In bytes, over a process that has run a small notebook."""

WIDGET = """
    from comm import create_comm
    model = {"_model_name": "HTMLModel", "_model_module": "@jupyter-widgets/controls", "_model_module_version": "2"}
    widget = create_comm(target_name="jupyter.widget", data={"state": model})
"""

PRINTS = {
    "one print": "print('y' * 400_000_000)",
    "large prints": "for _ in range(15): print('y' * 30_000_000, flush=True)",
    "prints that fit": "for _ in range(15): print('y' * 24_000_000, flush=True)",
    "stderr": "import sys\nfor _ in range(10): print('y' * 20_000_000, flush=True, file=sys.stderr)",
    "small prints": "for _ in range(2_000): print('y' * 20_000, flush=True)",
    "tiny prints": "for i in range(20_000): print(i, 'y' * 400, flush=True)",
    "wide characters": "print('\\N{PILE OF POO}' * 50_000_000)",
}
OTHER_OUTPUTS = {
    "displays": "for _ in range(12): display({'text/html': '<p>' * 8_000_000}, raw=True)",
    "one display": "display({'text/html': '<p>' * 130_000_000}, raw=True)",
    "result": "'x' * 400_000_000",
    "wide displays": "for _ in range(3): display({'text/html': '\\N{PILE OF POO}' + '<p>' * 6_000_000}, raw=True)",
    "numbers": "v = [i / 7 for i in range(500_000)]\n"
    "for _ in range(3): display({'application/json': {'x': v, 'y': v}, 'text/plain': ''}, raw=True)",
    "updates": "shown = display('', display_id=True)\nfor _ in range(20): shown.update('x' * 9_000_000)",
    "widget": f"{WIDGET}\n    for _ in range(6): widget.send({{'state': {{'value': 'x' * 20_000_000}}}})",
    "buffers": f"{WIDGET}\n    for _ in range(3): widget.send({{'state': {{}}}}, buffers=[b'x' * 200_000_000])",
    "exception": "raise ValueError('x' * 400_000_000)",
    "payload": "get_ipython().set_next_input('x' * 400_000_000)",
}

CODE = {**PRINTS, **OTHER_OUTPUTS}

ORDINARY = ("one print", "large prints", "displays", "exception")
"""Those that ordinary kernels run as well."""


@pytest.mark.parametrize(
    ("kind", "names"),
    [("ordinary", ORDINARY), ("forked", tuple(PRINTS)), ("forked", tuple(OTHER_OUTPUTS))],
    ids=["ordinary", "forked, prints", "forked, other outputs"],
)
def test_memory_is_bounded_whatever_a_notebook_puts_out(kind: str, names: tuple[str, ...], tmp_path: Path) -> None:
    write_notebook(tmp_path / "small.ipynb", "1")
    for name in names:
        write_notebook(tmp_path / f"{name}.ipynb", CODE[name], "'it went on'")

    command = [sys.executable, "-c", RUNS, str(tmp_path), kind, json.dumps(names)]
    peaks = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)

    assert {name: peak for name, peak in peaks.items() if peak >= MOST} == {}
    for name in names:
        first, second = nbformat.read(tmp_path / f"{name}-executed.ipynb", as_version=4).cells
        shown = json.dumps(first.outputs)
        assert name in {"updates", "payload"} or "AutoFlow left out" in shown or "cut after 100000 characters" in shown
        assert name == "exception" or second.outputs[0].data["text/plain"] == "'it went on'", name
        if name == "tiny prints":
            whole_lines = first.outputs[0].text.splitlines()[:-1]
            assert [int(line.split()[0]) for line in whole_lines] == list(range(len(whole_lines)))
            assert len(whole_lines) > OUTPUT_LIMIT / 2 / 600
        assert (tmp_path / f"{name}-executed.ipynb").stat().st_size < 2.1 * OUTPUT_LIMIT

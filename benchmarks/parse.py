"""Time reading workflows.yml, against merely loading its text and notebooks: ``python -m benchmarks.parse``.

Each tick reads them again. One file has twenty workflows with notebooks of one megabyte of outputs each; the other is
the worst case, 150 notebooks that all depend on each other, which is reported as a mistake.
"""

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import yaml

from autoflow.errors import WorkflowsFileError
from autoflow.parser import parse_workflows_file

SENSOR = "available_dates_sensor: {schedule: null, workflows: []}\n"


def write_large(folder: Path) -> None:
    """Write a good file with twenty workflows."""
    outputs = [nbformat.v4.new_output("stream", text="x" * 100_000)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs) for _ in range(10)])
    for number in range(20):
        nbformat.write(notebook, folder / f"n{number}.ipynb")
    workflows = "".join(f"  - {{name: w{n}, notebooks: {{a: {{filename: n{n}.ipynb}}}}}}\n" for n in range(20))
    (folder / "workflows.yml").write_text(f"workflows:\n{workflows}{SENSOR}")


def write_cycles(folder: Path) -> None:
    """Write a file with a workflow whose notebooks all depend on each other."""
    labels = [f"n{number}" for number in range(150)]
    cell = nbformat.v4.new_code_cell("\n".join(f"{label} = 1" for label in labels), metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "p.ipynb")
    parameters = ", ".join(f"{label}: {label}" for label in labels)
    first = f"      n0: {{filename: p.ipynb, parameters: &all {{{parameters}}}}}\n"
    others = "".join(f"      {label}: {{filename: p.ipynb, parameters: *all}}\n" for label in labels[1:])
    (folder / "workflows.yml").write_text(f"workflows:\n  - name: w\n    notebooks:\n{first}{others}{SENSOR}")


def parse(folder: Path) -> None:
    """Read the file as AutoFlow does."""
    with contextlib.suppress(WorkflowsFileError):
        parse_workflows_file(folder / "workflows.yml")


def load(folder: Path) -> None:
    """Load the text of the file and of each notebook, and nothing more."""
    yaml.safe_load((folder / "workflows.yml").read_text())
    for notebook in folder.glob("*.ipynb"):
        json.loads(notebook.read_text())


def milliseconds(read: Callable[[Path], None], folder: Path, rounds: int) -> float:
    """Return the median time of `read`."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        read(folder)
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often each is read (default: 7)")
    rounds = parser.parse_args().rounds
    print(f"{'median ms':24}{'AutoFlow':>10}{'load':>8}{'ratio':>8}")
    for title, write in {"20 workflows": write_large, "150 in cycles": write_cycles}.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write(folder)
            own, alone = milliseconds(parse, folder, rounds), milliseconds(load, folder, rounds)
        print(f"{title:24}{own:10.0f}{alone:8.0f}{own / alone:8.1f}")


if __name__ == "__main__":
    main()

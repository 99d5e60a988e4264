"""Time reading workflows.yml, against merely loading its text and notebooks: ``python -m benchmarks.parse``.

One file has twenty workflows with notebooks of one megabyte of outputs each, one two hundred workflows of five small
notebooks, and one is the worst case: 150 notebooks that all depend on each other, which is reported as a mistake.
*unchanged* is what a tick takes that reads the file again although nothing was edited.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import yaml

from autoflow.errors import WorkflowsFileError
from autoflow.parser import parse_workflows_file, read_workflows
from autoflow.settings import Settings
from benchmarks.goals import Goal, add_options, judge

UNCHANGED_GOAL = 0.05
"""Seconds that reading an unchanged file may take."""

SENSOR = "available_dates_sensor: {schedule: null, workflows: []}\n"
MANY, NOTEBOOKS = 200, 5


def write_large(folder: Path) -> None:
    """Write a good file with twenty workflows."""
    outputs = [nbformat.v4.new_output("stream", text="x" * 100_000)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs) for _ in range(10)])
    for number in range(20):
        nbformat.write(notebook, folder / f"n{number}.ipynb")
    workflows = "".join(f"  - {{name: w{n}, notebooks: {{a: {{filename: n{n}.ipynb}}}}}}\n" for n in range(20))
    (folder / "workflows.yml").write_text(f"workflows:\n{workflows}{SENSOR}")


def write_many(folder: Path) -> None:
    """Write a good file with two hundred workflows of five notebooks, each of which depends on the one before."""
    cells = [nbformat.v4.new_code_cell("import pandas as pd\nx = 1\n" * 5) for _ in range(10)]
    declared = nbformat.v4.new_code_cell("day = region = before = None", metadata={"tags": ["parameters"]})
    notebook = nbformat.writes(nbformat.v4.new_notebook(cells=[declared, *cells]))
    lines = ["workflows:"]
    for workflow in range(MANY):
        lines += [f"  - name: w{workflow}", "    notebooks:"]
        for number in range(NOTEBOOKS):
            (folder / f"w{workflow}_{number}.ipynb").write_text(notebook)
            before = f", before: n{number - 1}" if number else ""
            parameters = f"{{day: reference_date, region: region{before}}}"
            lines.append(f"      n{number}: {{filename: w{workflow}_{number}.ipynb, parameters: {parameters}}}")
    lines += ["available_dates_sensor:", "  schedule: null", "  workflows:"]
    lines += [f"    - {{workflow_name: w{workflow}, parameters: {{region: north}}}}" for workflow in range(MANY)]
    (folder / "workflows.yml").write_text("\n".join(lines))


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
    """Read the file for the first time."""
    with contextlib.suppress(WorkflowsFileError):
        parse_workflows_file(folder / "workflows.yml")


def parse_again(settings: Settings) -> None:
    """Read the file as each tick does."""
    with contextlib.suppress(WorkflowsFileError):
        read_workflows(settings)


def load(folder: Path) -> None:
    """Load the text of the file and of each notebook, and nothing more."""
    yaml.safe_load((folder / "workflows.yml").read_text())
    for notebook in folder.glob("*.ipynb"):
        json.loads(notebook.read_text())


def seconds(read: Callable[[], None], rounds: int) -> float:
    """Return the median time of `read`."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        read()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def settings_of(folder: Path) -> Settings:
    """Return the settings of a daemon with these inputs."""
    return Settings.read(
        {
            "AUTOFLOW_INPUTS_DIR": str(folder),
            "AUTOFLOW_OUTPUTS_DIR": str(folder),
            "FLOWAPI_URL": "http://127.0.0.1:1",
            "FLOWAPI_TOKEN": "token",
            "HOME": str(folder),
        }
    )


def measure(title: str, write: Callable[[Path], None], rounds: int) -> float:
    """Print a row of the table; return the seconds of a file that is unchanged."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        settings = settings_of(folder)
        parse_again(settings)
        own, again = seconds(lambda: parse(folder), rounds), seconds(lambda: parse_again(settings), rounds)
        alone = seconds(lambda: load(folder), rounds)
    print(f"{title:28}{1000 * own:10.0f}{1000 * again:12.1f}{1000 * alone:8.0f}{own / alone:8.1f}", flush=True)
    return again


def main() -> int:
    """Print the table and the goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="how often each is read (default: 7)")
    add_options(parser)
    options = parser.parse_args()
    print(f"{'median ms':28}{'AutoFlow':>10}{'unchanged':>12}{'load':>8}{'ratio':>8}")
    many = f"{MANY} workflows of {NOTEBOOKS}"
    files = {"20 large workflows": write_large, many: write_many, "150 in cycles (invalid)": write_cycles}
    again = {title: measure(title, write, options.rounds) for title, write in files.items()}
    goal = Goal(f"parse: {many}, unchanged", again[many], UNCHANGED_GOAL, unit="s")
    return judge([goal], check=options.check, figures=options.figures)


if __name__ == "__main__":
    sys.exit(main())

import json
import threading
from pathlib import Path

import psutil
import pytest

from autoflow.notebooks.outputs import OUTPUT_LIMIT
from tests.notebooks.running import Runner


def test_endless_output_takes_bounded_memory(run: Runner) -> None:
    before = psutil.Process().memory_info().rss
    peak = [before]
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], psutil.Process().memory_info().rss)

    looking = threading.Thread(target=look)
    looking.start()
    # Where the machine is busy, a few seconds may not be enough for so much.
    for timeout in (4, 60):
        ran = run("import time\nwhile True: print('y' * 100_000); time.sleep(0.0002)", timeout=timeout)
        if "MB of this cell's output" in ran.printed():
            break
    done.set()
    looking.join()
    assert ran.failure()[1] == "Timeout"
    assert peak[0] - before < 400e6
    assert ran.executed.stat().st_size < 2 * OUTPUT_LIMIT
    last = ran.notebook.cells[0].outputs[-1].text
    assert last.endswith("MB of this cell's output: a notebook keeps at most 20 MB]\n")


@pytest.mark.parametrize(
    "code",
    [
        "print('x' * 200_000_000)",
        "for _ in range(20): print('x' * 10_000_000, flush=True)",
        "from IPython.display import HTML\nHTML('x' * 200_000_000)",
        "print('y\\n' * 15_000_000)",
    ],
)
def test_huge_output_is_left_out_and_the_run_succeeds(run: Runner, code: str) -> None:
    ran = run(code, "'a' * 9_000_000")
    assert ran.error is None
    assert "[AutoFlow left out " in ran.printed()
    assert len(ran.notebook.cells[1].outputs[0].data["text/plain"]) == 9_000_002
    assert ran.executed.stat().st_size < 2 * OUTPUT_LIMIT


def test_huge_exception_fails_the_run(run: Runner) -> None:
    ran = run("raise ValueError('first' + 'x' * 50_000_000)", "2")
    assert ran.failure()[:2] == (1, "ValueError")
    assert ran.failure()[2].startswith("firstxxx")
    assert ran.executed.stat().st_size < 1e6


def test_widget_that_is_left_out_or_incomplete_does_not_matter(run: Runner) -> None:
    code = """
        from comm import create_comm
        model = {"_model_name": "HTMLModel", "_model_module": "@jupyter-widgets/controls", "value": "x" * 21_000_000}
        for state in (model, {"value": ""}):
            comm = create_comm(target_name="jupyter.widget", data={"state": state})
            comm.send({"state": {"value": "later"}})
    """
    ran = run(code)
    assert ran.error is None
    assert "AutoFlow left out 21.0 MB" in ran.printed()
    assert "widgets" not in ran.notebook.metadata


def test_glued_data_that_is_too_large_fails_the_run(run: Runner) -> None:
    ran = run("import scrapbook\nscrapbook.glue('x', 'x' * 21_000_000)", "2")
    assert ran.failure()[:2] == (1, "OutputTooLarge")


def test_every_one_of_many_small_outputs_arrives(run: Runner) -> None:
    code = "for i in range(400): display(i); print(i, flush=True)"
    outputs = run(code).notebook.cells[0].outputs
    assert [output["data"]["text/plain"] for output in outputs if "data" in output] == [str(i) for i in range(400)]


def test_progress_that_is_cleared_uses_up_nothing(run: Runner) -> None:
    code = """
        from IPython.display import clear_output
        for i in range(12):
            clear_output(wait=True)
            print(str(i % 10) * 4_000_000)
        handle = display("0", display_id=True)
        for i in range(12):
            handle.update("x" * 4_000_000)
        handle.update("last")
    """
    outputs = run(code).notebook.cells[0].outputs
    assert outputs[0].text == "1" * 4_000_000 + "\n"
    assert outputs[1].data["text/plain"] == "'last'"
    assert len(outputs) == 2


def test_output_that_is_nested_too_deeply_is_left_out(run: Runner) -> None:
    ran = run(
        """
        from IPython.display import JSON, display
        deep = []
        for _ in range(450):
            deep = [deep]
        display(JSON({"deep": deep}))
        """,
        "import scrapbook as sb; sb.glue('deep', deep, encoder='json')",
    )
    assert "left out an output nested" in ran.notebook.cells[0].outputs[0].data["text/plain"]
    assert ran.failure()[:2] == (2, "OutputTooLarge")


def test_lone_surrogate_does_not_break_the_notebook(tmp_path: Path, run: Runner) -> None:
    cell = {"cell_type": "markdown", "metadata": {}, "source": "\ud83d half", "id": "x"}
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [cell]}))
    ran = run.run(path)
    assert ran.error is None
    assert ran.notebook.cells[0].source == "? half"

"""The HTML for reading is bounded per notebook: none keeps the others from getting theirs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat import v4

from autoflow.page import bounds
from autoflow.page.bounds import bounded_html, bounded_terminal
from autoflow.page.readable import readable_html
from tests.waiting import LONG

ROOT = Path(__file__).resolve().parents[2]
PRINTED = {
    "escape sequences": "\x1b[" * 245_000,
}
HTML = {
    "nested": "<b>" * 20_000,
    "attributes": "<p " + " ".join(f"a{number}=1" for number in range(100_000)) + ">x",
    "comments": "<!--" * 100_000,
}
MARKDOWN = {"quotes": ">" * 5_000 + " x", "nested elements": "<b>" * 20_000}


def test_hostile_notebooks_do_not_keep_others_from_being_converted(tmp_path: Path) -> None:
    notebooks = {
        f"printed {name}": v4.new_code_cell(outputs=[v4.new_output("stream", text=text)])
        for name, text in PRINTED.items()
    }
    notebooks |= {
        f"html {name}": v4.new_code_cell(outputs=[v4.new_output("display_data", {"text/html": html})])
        for name, html in HTML.items()
    }
    notebooks |= {f"markdown {name}": v4.new_markdown_cell(text) for name, text in MARKDOWN.items()}
    notebooks |= {f"innocent {number}": v4.new_markdown_cell("fine") for number in range(5)}
    for name, cell in notebooks.items():
        (tmp_path / f"{name}.ipynb").write_text(
            json.dumps(v4.new_notebook(cells=[cell, v4.new_markdown_cell("the end")]))
        )
    given = "\0".join(f"{tmp_path / name}.ipynb\0{name}" for name in notebooks)

    environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "autoflow.page.readable"]
    subprocess.run(command, input=given.encode(), env=environment, check=True, timeout=2 * LONG)

    for name in notebooks:
        assert "the end" in (tmp_path / f"{name}.html").read_text(), name


def test_a_notebook_that_takes_long_becomes_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoflow.page.readable.SECONDS_IN_FULL", 0.0)
    cell = {"cell_type": "markdown", "source": "*marked*"}

    assert "*marked*" in readable_html({"cells": [cell]}, title="t")


def test_html_is_cut_where_it_becomes_too_much() -> None:
    assert bounded_html("<p>fine</p>" * 100) == "<p>fine</p>" * 100
    assert bounded_html("<b>" * 60).count("<b>") == bounds.MOST_NESTED
    assert bounded_html("<br>" * 30_000).count("<br>") == bounds.MOST_TAGS
    assert bounded_html("x" * 600_000).endswith("(truncated)</p>")


def test_text_with_few_colours_keeps_them() -> None:
    assert bounded_terminal("\x1b[31mred\x1b[0m") == "\x1b[31mred\x1b[0m"
    assert bounded_terminal("\x1b[31mred" * 3_000) == "red" * 3_000

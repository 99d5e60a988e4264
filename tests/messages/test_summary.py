"""The first paragraph of a report."""

from pathlib import Path

import nbformat
import pytest

from autoflow.messages.summary import LONGEST_PARAGRAPH, first_paragraph


def notebook(path: Path, *cells: object) -> Path:
    """Write a notebook with texts in markdown, and other cells as they are."""
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    nbformat.write(made, path)
    return path


def displayed(markdown: str, **metadata: object) -> object:
    output = nbformat.v4.new_output("display_data", {"text/markdown": markdown, "text/plain": "<Markdown>"})
    return nbformat.v4.new_code_cell("show()", outputs=[output], metadata=metadata)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("# Title\n\nOne *two* **three**\n`four`.\n\nMore of it here.", "One two three four."),
        ("![a](b.png)\n\n- a list of many words\n\nSee [the page](http://x) for it.", "See the page for it."),
        ("| a | b |\n|---|---|\n| c | d |\n\nText under the table.", "Text under the table."),
        ("```\ncode of many many words\n```\n\n> a quote of many words\n\nText is after code.", "Text is after code."),
        ("Author: A. B.\n\nFlows of $x^2$ fell by 5 < 6 &amp; more.", "Flows of fell by 5 < 6 & more."),
        ("<div>html of many words</div>\n\nText with <i>html</i> in it.", "Text with html in it."),
        ("Title without a text", "Title without a text"),
        ("Three words only", ""),
        ("", ""),
        ("[" * 20_000, ""),
    ],
)
def test_first_paragraph_of_prose_is_plain_text(tmp_path: Path, markdown: str, expected: str) -> None:
    assert first_paragraph([notebook(tmp_path / "n.ipynb", markdown)]) == expected


def test_paragraph_can_be_an_output_and_hidden_cells_do_not_count(tmp_path: Path) -> None:
    hidden = nbformat.v4.new_markdown_cell("This is not in the report.", metadata={"tags": ["remove-cell"]})
    without = displayed("Nor is this output here.", tags=["remove-output"])
    path = notebook(tmp_path / "n.ipynb", hidden, without, displayed("Flows fell by five percent."), "And more of it.")
    empty, gone = notebook(tmp_path / "empty.ipynb", "# Title"), tmp_path / "gone.ipynb"
    (tmp_path / "broken.ipynb").write_text('{"cells": 7}')
    assert first_paragraph([gone, tmp_path / "broken.ipynb", empty, path]) == "Flows fell by five percent."


def test_long_paragraph_is_cut_at_a_word(tmp_path: Path) -> None:
    found = first_paragraph([notebook(tmp_path / "n.ipynb", "word " * 500)])
    assert len(found) <= LONGEST_PARAGRAPH + 2
    assert found.endswith("word …")

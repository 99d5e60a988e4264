"""Limits of reports, so that a notebook with too much content does not hold up the others: the rest is cut."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbformat import NotebookNode, v4

from autoflow.notebooks.executed import text_of
from autoflow.reports.nodes import Node

MOST_OF_A_REPORT: Mapping[str, int] = {
    "characters": 250_000,
    "characters in tables": 150_000,
    "blocks": 4_000,
    "headings": 1_000,
    "table cells": 20_000,
    "formulas": 200,
    "characters of formulas": 10_000,
    "links": 1_000,
    "footnotes": 300,
    "pictures": 400,
    "outputs": 2_000,
    "figures": 300,
}
"""What a report shows at most."""

MOST_NESTED = 40
"""HTML elements within each other."""

MOST_COLOURS = 500
"""Of text; further ones are not shown."""

MOST_ELEMENTS = 20_000
"""Of one HTML output."""

MOST_QUOTES = 20
"""Quotes within each other."""

MOST_DELIMITERS = 5_000
"""Of a paragraph: signs that can begin or end Markdown's marks. The time to match them grows with their square."""

MOST_MARKS = 8
"""Characters without a width of their own, one after another, such as accents that combine with a letter."""

MOST_LINES = 400
"""Of one printed text or block of code."""

MOST_PLAIN = 40_000
"""Characters of a report in plain text, which is made if the full one takes too long."""

SHARE_IN_FULL = 0.6
"""The share of the time limit after which a report in plain text is made instead."""

_MARK = (
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u064b-\u065f\u1ab0-\u1aff\u1dc0-\u1dff\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f\ufeff]"
)
_MARKS = re.compile(f"({_MARK}{{{MOST_MARKS}}})({_MARK}+)")
_DELIMITER = re.compile(r"[*_`\[\]$~^<!\\]")
_QUOTES = re.compile(rf"^((?:[ \t]*>){{{MOST_QUOTES}}})[ \t>]+", re.MULTILINE)
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_UNNESTED = frozenset({"br", "col", "dd", "dt", "hr", "img", "input", "li", "p", "tbody", "td", "th", "thead", "tr"})
"""Elements without content or whose end tags may be left out."""


def with_few_marks(text: str) -> str:
    """Return `text` without very many accents and other characters that have no width, one after another."""
    return text if text.isascii() else _MARKS.sub(lambda found: f"{found[1]}… [{len(found[2]):,} more marks]", text)


def readable_markdown(markdown: str) -> str:
    """Return `markdown` that pandoc can read quickly: paragraphs are cut that have too many marks or tags."""
    shallow = _QUOTES.sub(r"\1 ", markdown)
    parts = re.split(r"(\n[ \t]*\n)", shallow)
    return "".join(part if number % 2 else _readable_paragraph(part) for number, part in enumerate(parts))


def _readable_paragraph(text: str) -> str:
    depth = 0
    end = len(text)
    for found in _TAG.finditer(text):
        if found[2].lower() not in _UNNESTED:
            depth += -1 if found[1] else 1
        if depth > MOST_NESTED:
            end = found.start()
            break
    if len(text) > MOST_DELIMITERS:
        starts = (found.start() for found in _DELIMITER.finditer(text, 0, end))
        end = next((start for number, start in enumerate(starts) if number >= MOST_DELIMITERS), end)
    return text if end == len(text) else f"{text[:end]}… \\[{len(text) - end:,} more characters\\]"


@dataclass
class Ledger:
    """Counts what a report shows, and remembers what it leaves out."""

    most: Mapping[str, int] = field(default_factory=lambda: MOST_OF_A_REPORT)
    shown: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    _in_table: bool = False

    def takes(self, what: str, count: int = 1) -> bool:
        """Return whether the report has room for so many more of `what`, and count them."""
        self.asked[what] += count
        has_room = self.shown[what] + count <= self.most[what]
        self.shown[what] += count if has_room else 0
        return has_room

    def beginning(self, what: str, text: str) -> str:
        """Return as much of `text` as the report has room for, and count its characters."""
        kept = text[: self.most[what] - self.shown[what]]
        self.asked[what] += len(text)
        self.shown[what] += len(kept)
        return kept

    def notes(self) -> Iterator[str]:
        """Yield a line about each kind of content that is not shown completely."""
        for what, count in self.asked.items():
            if count > self.shown[what]:
                yield f"This report is not complete: it shows {self.shown[what]:,} of {count:,} {what}."

    def bounded(self, blocks: Sequence[Node]) -> list[Node]:
        """Return pandoc's `blocks` without what the report has no room for."""
        return [kept for block in blocks if (kept := self._bounded_block(block)) is not None]

    def _bounded_block(self, block: Node) -> Node | None:
        kind = block["t"]
        if not self._in_table and not self.takes("blocks"):
            return None
        if kind == "Table":
            return self._table(block) if self.takes("table cells", _cells_of(block["c"])) else None
        if kind == "Header" and not self.takes("headings"):
            return {"t": "Para", "c": self._bounded(block["c"][2])}
        return self._bounded(block)

    def _table(self, block: Node) -> Node:
        outer, self._in_table = self._in_table, True
        bounded = self._contents(block)
        self._in_table = outer
        return bounded

    def _bounded(self, node: Node) -> Node:
        if isinstance(node, dict):
            bound: Callable[[Node], Node] = getattr(self, f"_bound_{str(node.get('t')).lower()}", self._contents)
            return bound(node)
        if not isinstance(node, list) or not node:
            return node
        if isinstance(node[0], dict) and node[0].get("t") in _BLOCKS:
            return self.bounded(node)
        return [self._bounded(child) for child in node]

    def _contents(self, node: Node) -> Node:
        return {**node, "c": self._bounded(node["c"])} if "c" in node else node

    def _bound_bulletlist(self, node: Node) -> Node:
        return {**node, "c": [item for item in self._bounded(node["c"]) if item]}

    def _bound_str(self, node: Node) -> Node:
        return {"t": "Str", "c": self._beginning(node["c"])}

    def _bound_code(self, node: Node) -> Node:
        return {**node, "c": [node["c"][0], self._beginning(node["c"][1])]}

    def _bound_codeblock(self, node: Node) -> Node:
        *first, rest = node["c"][1].split("\n", MOST_LINES)
        note = f"[{rest.count(chr(10)) + 1:,} more lines]" if len(first) == MOST_LINES else rest
        return self._bound_code({**node, "c": [node["c"][0], "\n".join([*first, note])]})

    def _beginning(self, text: str) -> str:
        return self.beginning("characters in tables" if self._in_table else "characters", text)

    def _bound_link(self, node: Node) -> Node:
        if self.takes("links"):
            return self._contents(node)
        return {"t": "Span", "c": [["", [], []], self._bounded(node["c"][1])]}

    def _bound_image(self, node: Node) -> Node:
        return node if self.takes("pictures") else {"t": "Str", "c": "[picture]"}

    def _bound_note(self, node: Node) -> Node:
        return self._contents(node) if self.takes("footnotes") else {"t": "Str", "c": ""}

    def _bound_math(self, node: Node) -> Node:
        latex = node["c"][1]
        if node["c"][0] == "html" or (self.takes("characters of formulas", len(latex)) and self.takes("formulas")):
            return node
        code = {"t": "Code", "c": [["", [], []], latex]}
        return {"t": "Para", "c": [code]} if node["t"] == "RawBlock" else code

    _bound_rawblock = _bound_rawinline = _bound_math


_BLOCKS = frozenset(
    {
        "BlockQuote",
        "BulletList",
        "CodeBlock",
        "DefinitionList",
        "Div",
        "Figure",
        "Header",
        "HorizontalRule",
        "LineBlock",
        "OrderedList",
        "Para",
        "Plain",
        "RawBlock",
        "Table",
    }
)


def _cells_of(contents: Node) -> int:
    _, _, _, (_, head), bodies, (_, foot) = contents
    rows = [*head, *foot, *(row for _, _, first, rest in bodies for row in (*first, *rest))]
    return sum(len(cells) for _, cells in rows)


def plain_notebook(contents: NotebookNode, plain_output: Callable[[str], str]) -> NotebookNode:
    """Return a notebook with the text of `contents` only, and not more than fits in a few pages."""
    note = "This report shows plain text only, because the notebook takes too long to convert or is nested too deeply."
    outputs: list[Any] = [v4.new_output("stream", text=note)]
    left = MOST_PLAIN
    for text in filter(str.strip, _texts_of(contents)):
        shown = plain_output(text[: 10 * left])[:left]
        left -= len(shown)
        outputs.append(v4.new_output("stream", text=shown))
        if not left:
            outputs.append(v4.new_output("stream", text="The rest of this notebook is not shown: it is too long."))
            break
    return NotebookNode(v4.new_notebook(metadata=contents.metadata, cells=[v4.new_code_cell(outputs=outputs)]))


def _texts_of(contents: NotebookNode) -> Iterator[str]:
    for cell in contents.cells:
        if cell.cell_type == "markdown":
            yield cell.source
        for output in cell.get("outputs", ()):
            if output.get("output_type") == "error":
                yield f"{output.get('ename')}: {output.get('evalue')}"
            elif output.get("name") != "stderr":
                text = output.get("text") or output.get("data", {}).get("text/plain", "")
                yield text_of(text)

"""The first paragraph of a report, which says in a message what the report is about."""

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import mistune

from autoflow.notebooks.executed import text_of

LONGEST_PARAGRAPH = 1000
"""The longest paragraph in a message, in characters; a longer one is cut."""

FEWEST_WORDS = 4
"""A paragraph with fewer words is a caption or a name rather than prose."""

_MOST_TEXTS = 100
_LONGEST_TEXT = 5000
_LEFT_OUT = {"remove-cell", "remove_cell", "injected-parameters", "papermill-error-cell-tag"}
_OUTPUT_LEFT_OUT = {"remove-output", "remove_output"}
_WITHOUT_TEXT = {"image", "inline_html", "inline_math", "block_math", "footnote_ref"}

_tokens_of = mistune.create_markdown(renderer=None, plugins=["table", "math", "footnotes", "strikethrough"])


def first_paragraph(notebooks: Iterable[Path]) -> str:
    """Return the first paragraph of prose in executed `notebooks`, as plain text; empty if there is none."""
    for notebook in notebooks:
        for text in islice(_texts(notebook), _MOST_TEXTS):
            for paragraph in _paragraphs(text[:_LONGEST_TEXT]):
                if len(paragraph.split()) >= FEWEST_WORDS:
                    return _cut(paragraph)
    return ""


def _texts(notebook: Path) -> Iterator[str]:
    """Yield the texts in markdown that a report of the notebook shows, in their order."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        for cell in cells:
            tags = set(cell.get("metadata", {}).get("tags", ()))
            if tags & _LEFT_OUT:
                continue
            if cell["cell_type"] == "markdown":
                yield text_of(cell["source"])
            elif not tags & _OUTPUT_LEFT_OUT:
                yield from _shown_by(cell.get("outputs", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # it is gone, or no longer a notebook


def _shown_by(outputs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield from (
        text_of(output["data"]["text/markdown"]) for output in outputs if "text/markdown" in output.get("data", {})
    )


def _paragraphs(markdown: str) -> Iterator[str]:
    tokens = _tokens_of(markdown)
    for token in tokens if isinstance(tokens, list) else ():
        if token["type"] == "paragraph":
            yield " ".join(_plain(token.get("children", ())).split())


def _plain(tokens: Sequence[Mapping[str, Any]]) -> str:
    return "".join(map(_plain_token, tokens))


def _plain_token(token: Mapping[str, Any]) -> str:
    if token["type"] in _WITHOUT_TEXT:
        return ""
    if token["type"] in {"softbreak", "linebreak"}:
        return " "
    return _plain(token["children"]) if "children" in token else html.unescape(str(token.get("raw", "")))


def _cut(paragraph: str) -> str:
    if len(paragraph) <= LONGEST_PARAGRAPH:
        return paragraph
    return f"{paragraph[:LONGEST_PARAGRAPH].rpartition(' ')[0]} …"

"""Read a notebook's markdown and HTML: one pandoc for all of a notebook's texts."""

import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoflow.errors import ReportError
from autoflow.reports.markup import printable
from autoflow.reports.nodes import Node
from autoflow.reports.programs import run

_SEPARATOR = "\x1e"


class Dialect(enum.StrEnum):
    """What a text is written in; the value is pandoc's name of the format, with what Jupyter does differently."""

    MARKDOWN = (
        "markdown-smart-markdown_in_html_blocks-native_divs-native_spans-blank_before_header-blank_before_blockquote"
        "-yaml_metadata_block-pandoc_title_block-implicit_figures-citations-example_lists-fancy_lists"
        "-bracketed_spans-fenced_divs-line_blocks-raw_attribute-inline_code_attributes-latex_macros"
        "-space_in_atx_header-header_attributes-link_attributes-simple_tables-multiline_tables-grid_tables"
        "+lists_without_preceding_blankline+autolink_bare_uris+tex_math_double_backslash"
    )
    HTML = "html"


@dataclass(frozen=True)
class Fragment:
    """A text of the notebook's."""

    dialect: Dialect
    text: str


def read_fragments(
    fragments: Iterable[Fragment], *, reader: Path, folder: Path, timeout: float
) -> Mapping[Fragment, Sequence[Node]]:
    """Return the blocks that pandoc finds in each fragment.

    Raises
    ------
    ReportError
        If pandoc fails on any of them.

    """
    distinct = tuple(dict.fromkeys(fragments))
    if not distinct:
        return {}
    given = "".join(f"{_SEPARATOR}{fragment.dialect}\n{printable(fragment.text)}\n\n" for fragment in distinct)
    command = ["pandoc", "--quiet", "--from", str(reader), "--to", "json"]
    output, _ = run(command, folder=folder, timeout=timeout, given=given.encode())
    divs = json.loads(output)["blocks"]
    if len(divs) != len(distinct):
        raise ReportError(f"pandoc gave {len(divs)} texts for {len(distinct)}")
    return {fragment: _blocks(div, fragment) for fragment, div in zip(distinct, divs, strict=True)}


def _blocks(div: Node, fragment: Fragment) -> Sequence[Node]:
    (_, classes, attributes), blocks = div["c"]
    if "failed" in classes:
        start = " ".join(fragment.text.split())[:60]
        raise ReportError(f"pandoc cannot read the {fragment.dialect.name} '{start}…': {dict(attributes)['message']}")
    return tuple(blocks)

"""Read all markdown and HTML of a notebook with one pandoc."""

import enum
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoflow.errors import ReportError
from autoflow.reports.dollars import with_dollars_hidden, with_dollars_shown
from autoflow.reports.limits import readable_markdown
from autoflow.reports.markup import printable
from autoflow.reports.nodes import Node
from autoflow.reports.programs import run
from autoflow.system.stop_signal import StopSignal

_PANDOC = ("pandoc", "+RTS", "-O64m", "-RTS", "--quiet")
"""Without garbage collections of what pandoc keeps until its end: they take a quarter of its time."""

_SEPARATOR = "\x1e"
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_BEGIN = re.compile(r"[ \t]*\\begin\{([a-z]+\*?)\}")


class Dialect(enum.StrEnum):
    """The format of a text; the value is pandoc's name for it.

    Jupyter's markdown is GitHub's with formulas. There are few extensions because pandoc parses the format's name
    again for each text, which takes longer than most texts.
    """

    MARKDOWN = "gfm-emoji+tex_math_dollars+footnotes+definition_lists"
    HTML = "html"


@dataclass(frozen=True)
class Fragment:
    """A text of the notebook."""

    dialect: Dialect
    text: str


def read_fragments(
    fragments: Iterable[Fragment], *, reader: Path, folder: Path, timeout: float, stop: StopSignal
) -> Mapping[Fragment, Sequence[Node]]:
    """Return the blocks that pandoc reads in each fragment.

    Raises
    ------
    ReportError
        If pandoc fails on any of them.

    """
    distinct = tuple(dict.fromkeys(fragments))
    if not distinct:
        return {}
    given = "".join(map(_given, distinct))
    command = [*_PANDOC, "--from", str(reader), "--to", "json"]
    output, _ = run(command, folder=folder, timeout=timeout, stop=stop, given=given.encode())
    divs = json.loads(with_dollars_shown(output.decode()))["blocks"]
    if len(divs) != len(distinct):
        raise ReportError(f"pandoc returned {len(divs)} texts for {len(distinct)}")
    return {fragment: _blocks(div, fragment) for fragment, div in zip(distinct, divs, strict=True)}


def convert_fragment(
    fragment: Fragment, to_format: str, *, reader: Path, folder: Path, timeout: float, stop: StopSignal
) -> str:
    """Return a fragment in another format, by pandoc's name for it.

    Raises
    ------
    ReportError
        If pandoc fails, or has no such format.

    """
    command = [*_PANDOC, "--from", str(reader), "--to", to_format]
    output, _ = run(command, folder=folder, timeout=timeout, stop=stop, given=_given(fragment).encode())
    return with_dollars_shown(output.decode()).strip("\n")


def _given(fragment: Fragment) -> str:
    return f"{_SEPARATOR}{fragment.dialect}\n{_source(fragment)}\n\n"


def _source(fragment: Fragment) -> str:
    text = printable(fragment.text)
    if fragment.dialect is Dialect.MARKDOWN:
        return with_dollars_hidden(with_delimited_formulas(readable_markdown(text)))
    return text


def with_delimited_formulas(markdown: str) -> str:
    """Return `markdown` with dollars around LaTeX environments that stand alone, which Jupyter accepts."""
    lines = iter(markdown.split("\n"))
    given: list[str] = []
    fence = ""
    for line in lines:
        found = _BEGIN.match(line)
        if fence:
            fence = "" if line.strip().startswith(fence) else fence
        elif found and "\\end{" in markdown and not _ends_with_dollars(given):
            given += ["", "$$", *_until(f"\\end{{{found[1]}}}", line, lines), "$$", ""]
            continue
        elif opened := _FENCE.match(line):
            fence = opened[1]
        given.append(line)
    return "\n".join(given)


def _ends_with_dollars(lines: Sequence[str]) -> bool:
    return bool(lines) and lines[-1].rstrip().endswith("$")


def _until(end: str, first: str, lines: Iterator[str]) -> Iterator[str]:
    """Yield `first` and the lines up to the one with `end`, without empty ones, which would end a formula."""
    for line in itertools.chain([first], lines):
        if line.strip():
            yield line
        if end in line:
            return


def _blocks(div: Node, fragment: Fragment) -> Sequence[Node]:
    (_, classes, attributes), blocks = div["c"]
    if "failed" in classes:
        start = " ".join(fragment.text.split())[:60]
        message = f"pandoc cannot read the {fragment.dialect.name} '{start}…': {dict(attributes)['message']}"
        raise ReportError(message)
    return tuple(blocks)

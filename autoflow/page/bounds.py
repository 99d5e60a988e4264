"""Bounds for the HTML for reading: one notebook takes seconds at most, whatever it contains."""

import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from autoflow.notebooks.executed import text_of

LONGEST_OUTPUT = 500_000
"""Of text or HTML, in characters; the rest is cut."""

MOST_MARKDOWN = 100_000
"""Characters of a Markdown cell or output; the rest is cut."""

MOST_TAGS = 20_000
"""Of the HTML of one output; cleaning this many takes two seconds."""

MOST_NESTED = 50
"""HTML elements within each other. With more, the time to clean them grows with the square of their number."""

MOST_ATTRIBUTES = 200
"""Of an HTML element."""

MOST_ESCAPE_SEQUENCES = 2_000
"""Of one output: with more, text is shown without colours."""

SECONDS_IN_FULL = 3.0
"""CPU time after which the rest of a notebook is shown as plain text."""

SECONDS = 8.0
"""CPU time after which all of it is shown as plain text."""

MOST_PLAIN = 100_000
"""Characters of a cell that is shown as plain text."""

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)")
_UNNESTED = frozenset(
    """area br col dd dt hr img input li link meta option p source tbody td tfoot th thead tr
    wbr""".split()  # noqa: SIM905 - as a list it would take a line for each
)
"""Elements without content or whose end tags may be left out."""
_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]{0,50}[ -/]{0,50}[@-~])?")


class TooLongError(BaseException):
    """The conversion takes too long. No handler of a library's errors may catch this."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise `TooLongError` in this process's main thread if the block takes more than `seconds` of CPU time."""
    previous = signal.signal(signal.SIGPROF, _raise)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


def _raise(*_: object) -> None:
    raise TooLongError


def bounded_markdown(text: str) -> str:
    """Return `text`, cut if it is too long."""
    return text if len(text) <= MOST_MARKDOWN else f"{text[:MOST_MARKDOWN]}\n\n(truncated)"


def bounded_html(html: str) -> str:
    """Return `html`, cut where it becomes too long, has too many tags or is nested too deeply."""
    short = "<".join(_bounded_tag(part) for part in html[:LONGEST_OUTPUT].split("<"))
    depth = 0
    for number, found in enumerate(_TAG.finditer(short)):
        if found[2].lower() not in _UNNESTED:
            depth = max(0, depth - 1) if found[1] else depth + 1
        if depth > MOST_NESTED or number >= MOST_TAGS:
            return short[: found.start()] + "<p>(truncated)</p>"
    return short if len(html) <= LONGEST_OUTPUT else short + "<p>(truncated)</p>"


def _bounded_tag(part: str) -> str:
    """Return what follows a ``<``, with few attributes if it is a tag."""
    tag, end, rest = part.partition(">")
    if tag.count("=") <= MOST_ATTRIBUTES and (not end or len(tag.split(None, MOST_ATTRIBUTES)) <= MOST_ATTRIBUTES):
        return part
    return " ".join(tag.split(None, MOST_ATTRIBUTES)[:MOST_ATTRIBUTES]) + end + rest


def bounded_terminal(text: str) -> str:
    """Return `text`, cut if it is too long, and without escape sequences if there are too many of them."""
    short = text if len(text) <= LONGEST_OUTPUT else text[:LONGEST_OUTPUT] + "\n… (truncated)"
    return short if short.count("\x1b") <= MOST_ESCAPE_SEQUENCES else _ESCAPE_SEQUENCE.sub("", short)


def plain_cell(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `cell` with its content as plain text."""
    texts = [text_of(cell.get("source", "")), *(_plain_output(output) for output in cell.get("outputs", ()))]
    shown = _ESCAPE_SEQUENCE.sub("", "\n\n".join(text for text in texts if text)[:MOST_PLAIN])
    cut = "\n… (truncated)" if sum(map(len, texts)) > MOST_PLAIN else ""
    output = {"output_type": "stream", "name": "stdout", "text": f"(shown as plain text)\n{shown}{cut}"}
    return {**cell, "cell_type": "code", "source": "", "outputs": [output]}


def _plain_output(output: Mapping[str, Any]) -> str:
    data = output.get("data", {})
    text = text_of(output.get("text") or data.get("text/plain") or data.get("text/markdown") or "")
    return text or "\n".join(output.get("traceback") or ())

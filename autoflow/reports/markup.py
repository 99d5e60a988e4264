"""Escape text so that asciidoc shows it literally."""

import re
from typing import Self

from markupsafe import Markup

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_SPACES = re.compile(r"[ \t\n]+")
_PUNCTUATION = re.compile(r"(?!(?<=[0-9])[.,](?=[0-9]))[!-/:-@\[-`{-~\u2022]")
_DELIMITER = re.compile(r"^(-{4,}|\.{4,})$", re.MULTILINE)


class Asciidoc(Markup):
    """Trusted asciidoc, from a template or made from text by this package.

    Jinja inserts it unchanged; every other value is escaped when it is inserted into a document or joined to it.
    """

    __slots__ = ()

    @classmethod
    def escape(cls, s: object, /) -> Self:
        """Return `s` if it is asciidoc already, else asciidoc that shows it."""
        return cls(s) if isinstance(s, Markup) else cls(escape(str(s)))


def printable(text: str) -> str:
    """Return `text` without control characters, some of which asciidoctor uses internally."""
    return _UNPRINTABLE.sub("", text.replace("\r\n", "\n"))


def escape(text: str) -> str:
    """Return asciidoc that shows `text`, including its line breaks, wherever asciidoctor replaces character references.

    All ASCII punctuation and the bullet, which starts a list, become decimal references, so that nothing has a
    meaning in asciidoc; a point or a comma between digits never has one. Verbatim blocks need `replaced_in_verbatim`.
    """
    return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", printable(text))


def escape_line(text: str) -> str:
    """Return `escape` of `text` on a single line, with single spaces."""
    return escape(_SPACES.sub(" ", text))


def replaced_in_verbatim(document: str) -> str:
    """Return `document` with attributes that replace character references in listings and literal blocks too.

    Every line that looks like a delimiter is one, because data is escaped.
    """
    opened: str | None = None
    lines: list[str] = []
    for line in document.split("\n"):
        if _DELIMITER.match(line):
            if opened is None:
                lines.append('[subs="specialchars,replacements"]')
                opened = line
            elif line == opened:
                opened = None
        lines.append(line)
    return "\n".join(lines)

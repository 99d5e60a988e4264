"""Text as asciidoc that means nothing but itself."""

import re
from typing import Self

from markupsafe import Markup

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_SPACES = re.compile(r"[ \t\n]+")
_PUNCTUATION = re.compile(r"(?!(?<=[0-9])[.,](?=[0-9]))[!-/:-@\[-`{-~\u2022]")
_DELIMITER = re.compile(r"^(-{4,}|\.{4,})$", re.MULTILINE)


class Asciidoc(Markup):
    """Asciidoc that may be obeyed: it comes from a template, or was made from text by this package.

    Jinja takes it as it is; every other value is escaped on its way into a document, and so is text that is joined
    to it.
    """

    __slots__ = ()

    @classmethod
    def escape(cls, s: object, /) -> Self:
        """Return `s` if it is asciidoc already, or else asciidoc that shows it."""
        return cls(s) if isinstance(s, Markup) else cls(escape(str(s)))


def printable(text: str) -> str:
    """Return `text` without control characters, of which asciidoctor uses some to mark what it has dealt with."""
    return _UNPRINTABLE.sub("", text.replace("\r\n", "\n"))


def escape(text: str) -> str:
    """Return asciidoc that shows `text`, line breaks included, wherever asciidoctor replaces character references.

    All ASCII punctuation and the bullet, which starts a list, become decimal references, so that nothing is left that
    has a meaning in asciidoc; a point or a comma between digits has none. Blocks of verbatim text need
    `replaced_in_verbatim`.
    """
    return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", printable(text))


def escape_line(text: str) -> str:
    """Return `escape` of `text` as a single line, each stretch of white space being one space."""
    return escape(_SPACES.sub(" ", text))


def replaced_in_verbatim(document: str) -> str:
    """Return `document` with character references replaced in its listings and literal blocks too.

    A line that looks like a delimiter is one, since data is escaped.
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

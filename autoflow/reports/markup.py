"""Escape text so that asciidoc shows it literally."""

import re
from typing import Any, Self

from markupsafe import Markup

from autoflow.reports.limits import with_few_marks

_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufdd0-\ufdef\ufeff\ufffe\uffff\ud800-\udfff]"  # \ufdd0 on: see marks.py
)
_SPACES = re.compile(r"[ \t\n]+")
_PUNCTUATION = re.compile(r"(?!(?<=[0-9])[.,](?=[0-9]))[!-/:-@\[-`{-~\u2022]")
_REFERENCE = re.compile(r"&#(\d+);")


class Asciidoc(Markup):
    """Trusted asciidoc, from a template or made from text by this package.

    Jinja inserts it unchanged; every other value is escaped when it is inserted into a document or joined to it. That
    includes Jinja's own ``Markup``, which is HTML.
    """

    __slots__ = ()

    @classmethod
    def escape(cls, s: object, /) -> Self:
        """Return `s` if it is asciidoc already, else asciidoc that shows it."""
        return s if isinstance(s, cls) else cls(escape(str(s)))


def printable(text: str) -> str:
    """Return `text` without control characters, some of which asciidoctor uses internally."""
    return with_few_marks(_UNPRINTABLE.sub("", text.replace("\r\n", "\n")))


def escape(text: str) -> str:
    """Return asciidoc that shows `text`, including its line breaks, wherever a template inserts it.

    All ASCII punctuation and the bullet, which starts a list, become decimal references, so that nothing has a
    meaning in asciidoc; a point or a comma between digits never has one. `report_references.rb` makes asciidoctor
    show the references in listings, too.
    """
    return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", printable(text))


def unescaped(value: Any) -> Any:
    """Return `value`, or the text that it shows if it is asciidoc made by `escape`."""
    if not isinstance(value, Asciidoc):
        return value
    return _REFERENCE.sub(lambda found: chr(int(found[1])), printable(str(value)))


def escape_line(text: str) -> str:
    """Return `escape` of `text` on a single line, with single spaces."""
    return escape(_SPACES.sub(" ", text))

"""Find the dollars in markdown that delimit formulas, and hide the others from pandoc.

A dollar begins a formula if no space follows it; it ends one if no space precedes it and no digit follows it. There
are no formulas in code, nor around code. pandoc does not check for the digit, and finds formulas before code, so the
other dollars are hidden from it.
"""

import re

HIDDEN = "\ufdd0"
"""Replaces a plain dollar: a character that Unicode reserves for internal use."""

_HIDDEN_IN_ADDRESS = "%EF%B7%90"
_DEEPEST_BRACES = 8

_START_OF_BLOCK = r"[ \t]*(?:\n|(?:[-*+]|\d+[.)]|\#{1,6})[ \t])"
_LINE_BREAK = rf"\n(?!{_START_OF_BLOCK})(?!(?<=\|\n)[ \t]*\|)"
"""A line break within a paragraph, allowed in formulas; not one between two rows of a table."""

_FENCED = r"^[ \t>]*(?:(?:[-*+]|\d+[.)])[ \t]+)*(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})(?:.|\n)*?(?:^[ \t>]*(?P=fence)|\Z)"
_CODE = r"(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n)(?:.|\n))+?(?<!`)(?P=ticks)(?!`)"


def _inner(excluded: str = "") -> str:
    """Return the pattern of the text between a formula's dollars, without the `excluded` character."""
    braced = "(?!)"
    for _ in range(_DEEPEST_BRACES):
        braced = rf"\{{(?:\\.|[^\\{{}}{excluded}\n]|{_LINE_BREAK}|{braced})*+\}}"
    return rf"(?:\\.|[^\\{{}}${excluded}\n]|{_LINE_BREAK}|{braced})++"


_DISPLAY = rf"\$\${_inner()}\$\$"
_INLINE = rf"\$(?!\s){_inner('`')}(?<!\s)\$(?!\d)"
_MARK = re.compile(rf"{_FENCED}|{_CODE}|\\.|{_DISPLAY}|{_INLINE}|(?P<dollar>\$)", re.MULTILINE)


def with_dollars_hidden(markdown: str) -> str:
    """Return `markdown` with the dollars hidden that do not delimit formulas."""
    return _MARK.sub(lambda found: HIDDEN if found["dollar"] else found[0], markdown)


def with_dollars_shown(read: str) -> str:
    """Return pandoc's output with the hidden dollars restored."""
    return read.replace(HIDDEN, "$").replace(_HIDDEN_IN_ADDRESS, "$")

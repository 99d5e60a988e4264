"""Dollars in markdown: which of them begin and end formulas, and which are only dollars.

A dollar begins a formula if something other than a space follows it; it ends one if something other than a space
precedes it and no digit follows it. What is in code is no formula, nor is a formula around code. pandoc knows nothing
of the digit, and finds formulas before code, so that the other dollars are hidden from it.
"""

import re

HIDDEN = "\ufdd0"
"""What stands for a dollar that is only that: a character that Unicode keeps free for such uses."""

_HIDDEN_IN_ADDRESS = "%EF%B7%90"
_DEEPEST_BRACES = 8

_START_OF_BLOCK = r"[ \t]*(?:\n|(?:[-*+]|\d+[.)]|\#{1,6})[ \t])"
_LINE_BREAK = rf"\n(?!{_START_OF_BLOCK})(?!(?<=\|\n)[ \t]*\|)"
"""A line break within a paragraph, as formulas may have them; not one between two rows of a table."""

_FENCED = r"^[ \t>]*(?:(?:[-*+]|\d+[.)])[ \t]+)*(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})(?:.|\n)*?(?:^[ \t>]*(?P=fence)|\Z)"
_CODE = r"(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n[ \t]*\n)(?:.|\n))+?(?<!`)(?P=ticks)(?!`)"


def _inner(excluded: str = "") -> str:
    """Return the pattern of what is between a formula's dollars, without the `excluded` character."""
    braced = "(?!)"
    for _ in range(_DEEPEST_BRACES):
        braced = rf"\{{(?:\\.|[^\\{{}}{excluded}\n]|{_LINE_BREAK}|{braced})*+\}}"
    return rf"(?:\\.|[^\\{{}}${excluded}\n]|{_LINE_BREAK}|{braced})++"


_DISPLAY = rf"\$\${_inner()}\$\$"
_INLINE = rf"\$(?!\s){_inner('`')}(?<!\s)\$(?!\d)"
_MARK = re.compile(rf"{_FENCED}|{_CODE}|\\.|{_DISPLAY}|{_INLINE}|(?P<dollar>\$)", re.MULTILINE)


def with_dollars_hidden(markdown: str) -> str:
    """Return `markdown` with every dollar hidden that neither begins nor ends a formula."""
    return _MARK.sub(lambda found: HIDDEN if found["dollar"] else found[0], markdown)


def with_dollars_shown(read: str) -> str:
    """Return what was made of such markdown, with the hidden dollars as dollars again."""
    return read.replace(HIDDEN, "$").replace(_HIDDEN_IN_ADDRESS, "$")

"""Convert YAML's scalars to text, numbers, dates, booleans and None; refuse those that YAML reads surprisingly."""

import math
import re
from collections.abc import Callable

import yaml

from autoflow.parser.wording import show

TAG_PREFIX = "tag:yaml.org,2002:"
"""The prefix of the tags of YAML's own types."""

_KINDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "boolean",
    "null": "null",
    "timestamp": "date",
    "binary": "base64 text",
}

SCALAR_TAGS = frozenset(f"{TAG_PREFIX}{kind}" for kind in _KINDS)
"""The tags of scalars that have a value."""

_MOST_DIGITS = 100
_NOT_STORED = "the text contains a character that cannot be stored"
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_HALF = re.compile("[\ud800-\udfff]")
_CLEAR_BOOLEANS = {"true", "false"}
_SURPRISING_NUMBER = re.compile("[-+]?0[0-9]+|.*[_:].*")
"""Octal, base 60 as in 12:30, or with digits in groups."""


def scalar(node: yaml.ScalarNode, construct: Callable[[yaml.Node], object]) -> object:
    """Return the value that `construct` makes of `node`; ValueError if it cannot, or if users rarely mean that value.

    The tag of `node` is one of `SCALAR_TAGS`.
    """
    kind = node.tag.removeprefix(TAG_PREFIX)
    if kind == "str":
        return whole_text(node.value)
    if kind in {"int", "float"} and len(node.value) > _MOST_DIGITS:
        raise ValueError(f"the number is too long: it has {len(node.value)} characters, and may have {_MOST_DIGITS}")
    try:
        value = construct(node)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise ValueError(f"{show(node.value)} is not a valid {_KINDS[kind]}") from error
    if value in {math.inf, -math.inf} and any(character.isdigit() for character in node.value):
        raise ValueError("the number is too large; the largest is about 1.8e+308")
    if node.style is None and _is_surprising(node.value, value):
        meaning = show(value) if isinstance(value, bool) else f"the number {show(value)}"
        raise ValueError(f"YAML reads {node.value} as {meaning}; write {show(node.value)} for text, or {show(value)}")
    return value


def whole_text(text: str) -> str:
    r"""Return `text` with characters in place of pairs of escapes, as JSON writes emoji (`\ud83d\ude00`).

    Raises
    ------
    ValueError
        If it contains a character that JSON or a database cannot store.

    """
    text = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
    if half := _HALF.search(text):
        escape = f"\\u{ord(half[0]):04x}"
        raise ValueError(f"{_NOT_STORED}: {escape} is half of a pair of escapes, and the other half is missing")
    if "\0" in text:
        raise ValueError(f"{_NOT_STORED}: \\0")
    return text


def _is_surprising(written: str, value: object) -> bool:
    if isinstance(value, bool):
        return written.lower() not in _CLEAR_BOOLEANS
    return isinstance(value, int | float) and _SURPRISING_NUMBER.fullmatch(written) is not None

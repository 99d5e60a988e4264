"""Convert YAML's scalars to text, numbers, dates, booleans and None; refuse those that YAML reads surprisingly."""

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

NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
"""A character that JSON or a database cannot store."""

_LONGEST_NUMBER = 100
_CLEAR_BOOLEANS = {"true", "false"}
_SURPRISING_NUMBER = re.compile("[-+]?0[0-9]+|.*[_:].*")
"""Octal, base 60 as in 12:30, or with digits in groups."""


def scalar(node: yaml.ScalarNode, construct: Callable[[yaml.Node], object]) -> object:
    """Return the value that `construct` makes of `node`; ValueError if it cannot, or if users rarely mean that value.

    The tag of `node` is one of `SCALAR_TAGS`.
    """
    kind = node.tag.removeprefix(TAG_PREFIX)
    if kind == "str":
        if NOT_TEXT.search(node.value):
            raise ValueError("the text contains a character that cannot be stored")
        return str(node.value)
    if kind in {"int", "float"} and len(node.value) > _LONGEST_NUMBER:
        raise ValueError("the number is too long")
    try:
        value = construct(node)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise ValueError(f"{show(node.value)} is not a valid {_KINDS[kind]}") from error
    if node.style is None and _is_surprising(node.value, value):
        meaning = show(value) if isinstance(value, bool) else f"the number {show(value)}"
        raise ValueError(f"YAML reads {node.value} as {meaning}; write {show(node.value)} for text, or {show(value)}")
    return value


def _is_surprising(written: str, value: object) -> bool:
    if isinstance(value, bool):
        return written.lower() not in _CLEAR_BOOLEANS
    return isinstance(value, int | float) and _SURPRISING_NUMBER.fullmatch(written) is not None

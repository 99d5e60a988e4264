"""YAML's scalars → text, numbers, dates, booleans and None, less those that few people mean as YAML reads them."""

import re
from collections.abc import Callable

import yaml

from autoflow.parser.wording import show

TAG_PREFIX = "tag:yaml.org,2002:"
"""What the tags of YAML's own types begin with."""

SCALAR_TAGS = frozenset(
    f"{TAG_PREFIX}{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp", "binary")
)
"""The tags of scalars that have a value."""

NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
"""A character that cannot be stored: JSON, or a database, has none such."""

_LONGEST_NUMBER = 100
_CLEAR_BOOLEANS = {"true", "false"}
_SURPRISING_NUMBER = re.compile("[-+]?0[0-9]+|.*[_:].*")
"""Octal, to base 60 as in 12:30, or with digits in groups."""


def scalar(node: yaml.ScalarNode, construct: Callable[[yaml.Node], object]) -> object:
    """Return what `construct` makes of `node`, whose tag is one of `SCALAR_TAGS`; ValueError says why it is refused."""
    kind = node.tag.removeprefix(TAG_PREFIX)
    if kind == "str":
        if NOT_TEXT.search(node.value):
            raise ValueError("the text has a character that cannot be stored")
        return str(node.value)
    if kind in {"int", "float"} and len(node.value) > _LONGEST_NUMBER:
        raise ValueError("the number is too long")
    try:
        value = construct(node)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError) as error:
        expected = "date" if kind == "timestamp" else kind
        raise ValueError(f"{show(node.value)} is not a valid {expected}") from error
    if node.style is None and _is_surprising(node.value, value):
        meaning = show(value) if isinstance(value, bool) else f"the number {show(value)}"
        raise ValueError(
            f"{show(node.value)} would be read as {meaning}; put it in quotes, or write {show(value)}",
        )
    return value


def _is_surprising(written: str, value: object) -> bool:
    if isinstance(value, bool):
        return written.lower() not in _CLEAR_BOOLEANS
    return isinstance(value, int | float) and _SURPRISING_NUMBER.fullmatch(written) is not None

"""Read a single value, as on the command line, in the same way as in the file."""

import yaml

from autoflow.errors import AutoflowError
from autoflow.parser.loader import BoundedLoader, TooDeepError
from autoflow.parser.scalars import SCALAR_TAGS, scalar
from autoflow.parser.values import json_scalar
from autoflow.specs import Json

_LONGEST_SHOWN = 80


class _Loader(BoundedLoader):
    """The loader of the file, raising ValueError for scalars that are refused in the file."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        """Return the value of `node`."""
        if isinstance(node, yaml.ScalarNode) and node.tag in SCALAR_TAGS:
            return scalar(node, super().construct_object)
        return super().construct_object(node, deep=deep)


def parse_value(text: str) -> Json:
    """Return the value of `text` in YAML, which includes JSON; dates become ISO strings.

    Raises
    ------
    AutoflowError
        If it is invalid YAML, has no value in strict JSON, or would be refused in the file.

    """
    try:
        return _as_json(_Loader(text).get_single_data())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason: object = error if isinstance(error, ValueError) else "invalid YAML; quote text with special characters"
        reason = error.problem if isinstance(error, TooDeepError) else reason
        shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
        raise AutoflowError(f"{shown!r}: {reason}") from error


def _as_json(value: object) -> Json:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("the keys of a mapping must be text")
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return json_scalar(value)

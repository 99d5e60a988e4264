"""A value that stands alone, as on the command line, read as it would be in the file."""

import yaml

from autoflow.errors import AutoflowError
from autoflow.parser.scalars import SCALAR_TAGS, scalar
from autoflow.parser.values import json_scalar
from autoflow.specs import Json


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses the scalars that are refused in the file, with ValueError."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> object:
        """Return what `node` stands for."""
        if isinstance(node, yaml.ScalarNode) and node.tag in SCALAR_TAGS:
            return scalar(node, super().construct_object)
        return super().construct_object(node, deep=deep)


def parse_value(text: str) -> Json:
    """Return what `text` means in YAML, of which JSON is a part; dates become ISO strings.

    Raises
    ------
    AutoflowError
        If it is no YAML, strict JSON has no such value, or it would be refused in the file.

    """
    try:
        return _as_json(_Loader(text).get_single_data())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else "it is no YAML; text with special characters needs quotes"
        raise AutoflowError(f"{text!r}: {reason}") from error


def _as_json(value: object) -> Json:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("the keys of a mapping have to be text")
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    return json_scalar(value)

"""Convert YAML's nodes to plain values: dictionaries with text keys, lists, text, numbers, dates, booleans, None."""

from typing import TypeAlias

import yaml

from autoflow.errors import WorkflowsFileError
from autoflow.parser.loader import MAX_DEPTH
from autoflow.parser.places import Place
from autoflow.parser.problems import BROKEN, Broken, Problems
from autoflow.parser.scalars import SCALAR_TAGS, TAG_PREFIX, scalar, whole_text
from autoflow.parser.wording import show

MAX_VALUES = 100_000
"""How many values the file may have once its aliases are expanded."""

_TEXT_TAG = f"{TAG_PREFIX}str"
_MERGE_TAG = f"{TAG_PREFIX}merge"
_INVALID_KEY = "?"
_Pairs: TypeAlias = dict[str, tuple[yaml.Node, yaml.Node]]


class PlainValues:
    """Converts nodes to plain values and records their lines; reports what is wrong and replaces it by `BROKEN`."""

    def __init__(self, loader: yaml.SafeLoader, problems: Problems) -> None:
        self._loader = loader
        self._problems = problems
        self._count = 0
        self._open: set[yaml.Node] = set()
        self._pairs_of: dict[yaml.Node, _Pairs] = {}

    def value(self, node: yaml.Node, place: Place) -> object:
        """Return the plain value of `node`, which is at `place`."""
        self._count += 1
        if self._count > MAX_VALUES:
            raise self._too_much(place, f"more than {MAX_VALUES} values")
        if len(place) >= MAX_DEPTH:
            raise self._too_much(place, f"values nested more than {MAX_DEPTH} levels deep")
        if node in self._open:
            return self._broken(place, "this alias refers to a value that contains it")
        self._open.add(node)
        try:
            return self._opened(node, place)
        finally:
            self._open.remove(node)

    def _opened(self, node: yaml.Node, place: Place) -> object:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{TAG_PREFIX}map":
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{TAG_PREFIX}seq":
            return self._sequence(node, place)
        if isinstance(node, yaml.ScalarNode) and node.tag in SCALAR_TAGS:
            return self._scalar(node, place)
        tag = node.tag.replace(TAG_PREFIX, "!!")
        return self._broken(place, f"unsupported YAML tag {show(tag)}")

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> object:
        try:
            return scalar(node, self._loader.construct_object)
        except ValueError as error:
            return self._broken(place, str(error))

    def _sequence(self, node: yaml.SequenceNode, place: Place) -> list[object]:
        values = []
        for index, item in enumerate(node.value):
            line = item.start_mark.line + 1
            self._problems.places.add((*place, index), key_line=line, value_line=line)
            values.append(self.value(item, (*place, index)))
        return values

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        values: dict[str, object] = {}
        for key, (key_node, value_node) in self._pairs(node, place).items():
            key_line = key_node.start_mark.line + 1
            in_block = isinstance(value_node, yaml.CollectionNode) and not value_node.flow_style
            value_line = key_line if in_block else value_node.start_mark.line + 1
            self._problems.places.add((*place, key), key_line=key_line, value_line=value_line)
            # It is unclear which value of a duplicate key is meant.
            is_broken = self._problems.is_broken((*place, key))
            values[key] = BROKEN if is_broken else self.value(value_node, (*place, key))
        return values

    def _pairs(self, node: yaml.MappingNode, place: Place) -> _Pairs:
        """Return the keys of `node` and those merged into it; its own keys win."""
        if node in self._pairs_of:
            return self._pairs_of[node]
        self._pairs_of[node] = {}  # Ends the recursion if a mapping is merged into itself.
        own: _Pairs = {}
        merged: _Pairs = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE_TAG:
                merged = {**self._merged(value_node, place), **merged}
            else:
                self._add_pair(own, self._key(key_node, place), (key_node, value_node), place=place)
        self._pairs_of[node] = {**merged, **own}
        return self._pairs_of[node]

    def _add_pair(self, pairs: _Pairs, key: str, pair: tuple[yaml.Node, yaml.Node], *, place: Place) -> None:
        if key not in pairs:
            pairs[key] = pair
            return
        first, again = (key_node.start_mark.line + 1 for key_node in (pairs[key][0], pair[0]))
        self._problems.break_at((*place, key), f"duplicate key, first on line {first}", line=again)

    def _merged(self, node: yaml.Node, place: Place) -> _Pairs:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        pairs: _Pairs = {}
        for item in nodes:
            if isinstance(item, yaml.MappingNode):
                pairs = {**self._pairs(item, place), **pairs}
            else:
                line = item.start_mark.line + 1
                self._problems.add(place, "'<<' can merge only mappings", line=line)
        return pairs

    def _key(self, node: yaml.Node, place: Place) -> str:
        line = node.start_mark.line + 1
        problem = None if isinstance(node, yaml.ScalarNode) else "a key must be plain text"
        try:
            key = "" if problem else whole_text(node.value)
        except ValueError as error:
            problem = str(error)
        if problem:
            self._problems.places.add((*place, _INVALID_KEY), key_line=line, value_line=line)
            self._problems.break_at((*place, _INVALID_KEY), problem)
            return _INVALID_KEY
        if node.tag != _TEXT_TAG:
            self._problems.add((*place, key), f"YAML does not read this key as text; write {show(key)}", line=line)
        return key

    def _too_much(self, place: Place, what: str) -> WorkflowsFileError:
        line = self._problems.places.line(place[:1], at_key=True)
        return self._problems.stop(f"the file has {what} once its aliases are expanded", line=line)

    def _broken(self, place: Place, message: str) -> Broken:
        self._problems.break_at(place, message)
        return BROKEN

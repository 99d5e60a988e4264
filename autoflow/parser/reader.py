"""Check plain values against the expected structure, and report all mistakes."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from marshmallow import Schema

from autoflow.parser.places import Place
from autoflow.parser.problems import BROKEN, Problems
from autoflow.parser.schemas import load
from autoflow.parser.secret_values import REFUSAL
from autoflow.parser.values import mapping
from autoflow.parser.wording import alternatives, nearest, show

_Value = TypeVar("_Value")


class Reader:
    """Reads the values of one file, and reports mistakes to `problems`."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def value(self, read: Callable[[Any], _Value], value: object, place: Place) -> _Value | None:
        """Return what `read` makes of the value at `place`; if it raises ValueError, report that and return None."""
        if self.problems.is_broken_within(place):
            return None
        try:
            return read(value)
        except ValueError as error:
            self.problems.break_at(place, str(error))
            return None

    def keys(self, schema: Schema, value: object, place: Place) -> dict[str, Any]:
        """Return the valid keys of the mapping at `place` that have a value; report the invalid ones."""
        if not isinstance(value, dict):
            self.value(mapping, value, place)
            return {}
        valid, wrong = load(schema, self._known_keys(schema, value, place))
        for key, message in wrong.items():
            if not self.problems.is_broken_within((*place, key)):
                self.problems.break_at((*place, key), message)
        return {key: item for key, item in valid.items() if item is not None and item is not BROKEN}

    def refuse_secrets(self, texts: Mapping[str, object], place: Place) -> None:
        """Report those of `texts`, keys of the mapping at `place` and their values, that contain a secret."""
        for key, text in texts.items():
            if self.problems.redaction.is_in({key: text}):
                self.problems.break_at((*place, key), REFUSAL)

    def distinct(self, read: Callable[[object], _Value], values: list[object], place: Place) -> list[_Value]:
        """Return what `read` makes of the items of a list; report an empty list and duplicates."""
        if not values:
            self.problems.break_at(place, "the list is empty; expected at least one item")
        found: list[_Value] = []
        for index, value in enumerate(values):
            item = self.value(read, value, (*place, index))
            if item in found:
                self.problems.break_at((*place, index), f"duplicate item {show(value)}")
            elif item is not None:
                found.append(item)
        return found

    def _known_keys(self, schema: Schema, value: dict[str, object], place: Place) -> dict[str, object]:
        """Return the known keys, reporting the others; read a misspelt key as the one it probably means."""
        known = {key: item for key, item in value.items() if key in schema.fields}
        for key in [key for key in value if key not in known]:
            meant = nearest(key, schema.fields)
            hint = f"did you mean {meant!r}?" if meant else f"expected {alternatives(list(schema.fields))}"
            self.problems.add((*place, key), f"unknown key; {hint}", at_key=True)
            if meant and meant not in known:
                known[meant] = value[key]
                self.problems.places.add_misspelt((*place, meant), key)
        return known


def is_null(value: object, key: str) -> bool:
    """Return whether `key` of a mapping is given without a value, which is not the same as its absence."""
    return isinstance(value, dict) and value.get(key, "") is None

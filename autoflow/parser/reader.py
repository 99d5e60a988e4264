"""Reads plain values by what is expected of them, tells what is wrong, and goes on."""

from collections.abc import Callable
from typing import Any, TypeVar

from marshmallow import Schema

from autoflow.parser.places import Place
from autoflow.parser.problems import BROKEN, Problems
from autoflow.parser.schemas import load
from autoflow.parser.values import mapping
from autoflow.parser.wording import nearest, show

_Value = TypeVar("_Value")


class Reader:
    """Reads the values of one file; every mistake goes to its `problems`."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def value(self, read: Callable[[Any], _Value], value: object, place: Place) -> _Value | None:
        """Return what `read` makes of the value at `place`; None, and a problem told, where it raises ValueError."""
        if self.problems.is_broken_within(place):
            return None
        try:
            return read(value)
        except ValueError as error:
            self.problems.break_at(place, str(error))
            return None

    def keys(self, schema: Schema, value: object, place: Place) -> dict[str, Any]:
        """Return what is valid among the keys of the mapping at `place`, less those without a value; tell the rest."""
        if not isinstance(value, dict):
            self.value(mapping, value, place)
            return {}
        valid, wrong = load(schema, self._known_keys(schema, value, place))
        for key, message in wrong.items():
            if not self.problems.is_broken_within((*place, key)):
                self.problems.break_at((*place, key), message)
        return {key: item for key, item in valid.items() if item is not None and item is not BROKEN}

    def distinct(self, read: Callable[[object], _Value], values: list[object], place: Place) -> list[_Value]:
        """Return what `read` makes of the items of a list that is neither to be empty nor to hold anything twice."""
        if not values:
            self.problems.break_at(place, "the list is empty")
        found: list[_Value] = []
        for index, value in enumerate(values):
            item = self.value(read, value, (*place, index))
            if item in found:
                self.problems.break_at((*place, index), f"{show(value)} is in the list twice")
            elif item is not None:
                found.append(item)
        return found

    def _known_keys(self, schema: Schema, value: dict[str, object], place: Place) -> dict[str, object]:
        """Tell unknown keys; one that is but misspelt is taken for the right one from here on."""
        known = {key: item for key, item in value.items() if key in schema.fields}
        for key in [key for key in value if key not in known]:
            meant = nearest(key, schema.fields)
            hint = f"did you mean {meant!r}?" if meant else f"expected are {', '.join(schema.fields)}"
            self.problems.add((*place, key), f"unknown key; {hint}", at_key=True)
            if meant and meant not in known:
                known[meant] = value[key]
                self.problems.places.add_misspelt((*place, meant), key)
        return known

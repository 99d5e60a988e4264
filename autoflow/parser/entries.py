"""Read an entry of the sensor's list `workflows`; `for_each` makes several of it."""

import itertools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from autoflow.dates.completeness import Completeness
from autoflow.dates.intervals import IntervalEnds
from autoflow.dates.periods import Every
from autoflow.dates.stencil import DateStencil
from autoflow.parser import values
from autoflow.parser.drafts import Choice, TriggerDraft
from autoflow.parser.follow_ups import FollowUpReader
from autoflow.parser.places import Place
from autoflow.parser.reader import Reader
from autoflow.parser.schemas import TriggerSchema
from autoflow.parser.secret_values import REFUSAL
from autoflow.parser.wording import alternatives, show
from autoflow.specs import DEFAULT_STENCIL, Json, Order

MOST_ENTRIES = 500
"""How many entries a file may have after `for_each` has made several of some."""

_TEXTS = ("label", "title", "description")
_COMPLETENESS = ("enough", "longest_gap", "wait")


@dataclass(frozen=True, kw_only=True)
class SensorKeys:
    """What the keys of the sensor mean for its entries.

    `recipients` are the names that entries can give for messages; None if they are unknown, and any name is valid.
    """

    cdr_types: Sequence[str] | None = None
    interval_ends: IntervalEnds = IntervalEnds.INCLUDED
    timezone: str = "UTC"
    recipients: Collection[str] | None = None


def read_entries(items: Sequence[object], place: Place, reader: Reader, sensor: SensorKeys) -> tuple[TriggerDraft, ...]:
    """Read all entries of the list at `place`."""
    found: list[TriggerDraft] = []
    for index, item in enumerate(items):
        found += _EntryReader((*place, index), reader, sensor).read(item)
        if len(found) > MOST_ENTRIES:
            reader.problems.add((*place, index), f"more than {MOST_ENTRIES} entries, with those that 'for_each' makes")
            break
    return tuple(found)


@dataclass(frozen=True)
class _EntryReader:
    place: Place
    reader: Reader
    sensor: SensorKeys

    def read(self, item: object) -> list[TriggerDraft]:
        """Return the entry, or the entries that its `for_each` makes of it."""
        keys = self.reader.keys(TriggerSchema(), item, self.place)
        name = keys.pop("workflow_name", "")
        parameters = self._parameters(keys.pop("parameters", {}))
        for_each = self._for_each(keys.pop("for_each", {}), parameters)
        options = self._options(keys)
        drafts = []
        for choices in itertools.islice(itertools.product(*for_each), MOST_ENTRIES + 1):
            given = parameters | {choice.name: choice.value for choice in choices}
            drafts.append(TriggerDraft(self.place, name, given, options | _texts(options, choices), choices))
        return drafts

    def _parameters(self, given: Mapping[str, object]) -> dict[str, Json]:
        place = (*self.place, "parameters")
        return {name: self._parameter(name, value, (*place, name)) for name, value in given.items()}

    def _parameter(self, name: str, value: object, place: Place) -> Json:
        if self.reader.problems.redaction.is_in({name: value}):
            self.reader.problems.break_at(place, REFUSAL)
            return None
        return self._json(value, place)

    def _json(self, value: object, place: Place) -> Json:
        """Return the value of a parameter as strict JSON, dates as ISO strings."""
        if isinstance(value, dict):
            return {key: self._json(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._json(item, (*place, index)) for index, item in enumerate(value)]
        return self.reader.value(values.json_scalar, value, place)

    def _for_each(self, given: Mapping[str, object], parameters: Mapping[str, Json]) -> list[list[Choice]]:
        """Return the choices for each parameter of `for_each`."""
        found = []
        for name, items in given.items():
            place = (*self.place, "for_each", name)
            if name in parameters:
                problem = "this parameter is in 'parameters', too; remove one of them"
                self.reader.problems.add(place, problem, at_key=True)
            listed = self.reader.value(values.nonempty_list, items, place) or []
            found.append(self._choices(name, listed, place))
        return found

    def _choices(self, name: str, items: Sequence[object], place: Place) -> list[Choice]:
        """Return the choices for the parameter `name`, without those that are wrong."""
        found: dict[str, Choice] = {}
        for index, item in enumerate(items):
            value = self.reader.value(values.label_value, item, (*place, index))
            text = json.dumps(value)
            if value is None or self._parameter(name, value, (*place, index)) is None:
                continue
            if text in found:
                self.reader.problems.break_at((*place, index), f"duplicate item {show(item)}")
            found.setdefault(text, Choice(name, value, (*place, index)))
        return list(found.values())

    def _options(self, keys: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of the spec that the other keys give."""
        self.reader.refuse_secrets({name: keys[name] for name in _TEXTS if name in keys}, self.place)
        every = keys.get("every", Every.DAY)
        stencil = keys.pop("date_stencil", None)
        if stencil is None:
            stencil = [0] if every is Every.DAY else list(DEFAULT_STENCIL)
        keys["date_stencil"] = self._stencil(stencil, every)
        if "requires_all_of" in keys:
            keys["requires_all_of"] = self._required_types(keys["requires_all_of"])
        given = {name: keys.pop(name) for name in _COMPLETENESS if name in keys}
        if given:
            keys["needs"] = self._needs(given)
        follow_ups = FollowUpReader(
            self.place, self.reader, zone=self.sensor.timezone, recipients=self.sensor.recipients
        )
        if "deadline" in keys:
            keys["deadline"] = follow_ups.deadline(keys["deadline"])
        if "notify" in keys:
            keys["notify"] = follow_ups.notify(keys["notify"])
        self._check_together(keys)
        return keys

    def _stencil(self, elements: list[object], every: Every) -> DateStencil | None:
        def read(elements: Sequence[object]) -> DateStencil:
            return DateStencil(elements, interval_ends=self.sensor.interval_ends, every=every)

        place = (*self.place, "date_stencil")
        # Each alone first, so that every wrong element is reported on its own line.
        for index, element in enumerate(elements):
            self.reader.value(read, [element], (*place, index))
        return self.reader.value(read, elements, place)

    def _required_types(self, given: list[object]) -> tuple[str, ...]:
        place = (*self.place, "requires_all_of")
        types = tuple(self.reader.distinct(values.cdr_type, given, place))
        known = self.sensor.cdr_types
        for index, name in enumerate(types):
            if known is not None and name not in known:
                problem = f"{show(name)} is not in cdr_types, which has {alternatives(known)}"
                self.reader.problems.add((*place, index), problem)
        return types

    def _needs(self, given: Mapping[str, Any]) -> Completeness | None:
        broken = [name for name in _COMPLETENESS if self.reader.problems.is_broken_within((*self.place, name))]
        if broken:
            return None
        zone = ZoneInfo(self.sensor.timezone)
        place = (*self.place, next(iter(given)))
        return self.reader.value(lambda _: Completeness(**given, zone=zone), given, place)

    def _check_together(self, keys: Mapping[str, Any]) -> None:
        earliest, latest = keys.get("earliest_date"), keys.get("latest_date")
        if earliest and latest and latest < earliest:
            self.reader.problems.add((*self.place, "latest_date"), f"it is before earliest_date, {earliest}")
        if keys.get("after_previous") and keys.get("order") is Order.NEWEST_FIRST:
            problem = "it cannot be combined with 'order: newest_first': the previous date would come later"
            self.reader.problems.add((*self.place, "after_previous"), problem)


def _texts(options: Mapping[str, Any], choices: Sequence[Choice]) -> dict[str, str]:
    """Return the label, the title and the description of the entry with these `choices`."""
    if not choices:
        return {}
    written = {choice.name: values.written(choice.value) for choice in choices}
    own = [options["label"]] if options.get("label") else []
    found = {"label": "-".join([*own, *map(values.as_label, written.values())])}
    for key in ("title", "description"):
        if key in options:
            # All at once: a value may look like the name of another parameter.
            found[key] = re.sub(r"\{([^{}]*)\}", lambda match: written.get(match[1], match[0]), options[key])
    return found

"""Read the part `available_dates_sensor` of the file."""

from collections.abc import Callable, Sequence
from functools import partial

from autoflow.date_stencil import DateStencil, IntervalEnds
from autoflow.parser.drafts import SensorDraft, TriggerDraft
from autoflow.parser.places import Place
from autoflow.parser.reader import Reader
from autoflow.parser.schemas import SensorSchema, TriggerSchema
from autoflow.parser.secret_values import REFUSAL
from autoflow.parser.values import cdr_type, json_scalar
from autoflow.specs import Json

_PLACE: Place = ("available_dates_sensor",)


def read_sensor(value: object, reader: Reader) -> SensorDraft:
    """Read the sensor's schedule and the workflows it runs."""
    keys = reader.keys(SensorSchema(), value, _PLACE)
    cdr_types = None
    if "cdr_types" in keys:
        cdr_types = tuple(reader.distinct(cdr_type, keys["cdr_types"], (*_PLACE, "cdr_types")))
    ends = keys.get("interval_ends", IntervalEnds.INCLUDED)
    entries = enumerate(keys.get("workflows", []))
    triggers = tuple(_read_trigger(entry, (*_PLACE, "workflows", index), reader, ends) for index, entry in entries)
    return SensorDraft(keys.get("schedule"), cdr_types, ends, triggers)


def _read_trigger(value: object, place: Place, reader: Reader, ends: IntervalEnds) -> TriggerDraft:
    keys = reader.keys(TriggerSchema(), value, place)
    name = keys.pop("workflow_name", "")
    given = keys.pop("parameters", {})
    parameters = {key: _read_parameter(key, item, (*place, "parameters", key), reader) for key, item in given.items()}
    read = partial(DateStencil, interval_ends=ends)
    keys["date_stencil"] = _read_stencil(keys.get("date_stencil", [0]), (*place, "date_stencil"), reader, read)
    return TriggerDraft(place, name, parameters, keys)


def _read_stencil(
    elements: list[object], place: Place, reader: Reader, read: Callable[[Sequence[object]], DateStencil]
) -> DateStencil | None:
    # Each alone first, so that every wrong element is reported on its own line.
    for index, element in enumerate(elements):
        reader.value(read, [element], (*place, index))
    return reader.value(read, elements, place)


def _read_parameter(name: str, value: object, place: Place, reader: Reader) -> Json:
    if reader.problems.redaction.is_in({name: value}):
        reader.problems.break_at(place, REFUSAL)
        return None
    return _read_json(value, place, reader)


def _read_json(value: object, place: Place, reader: Reader) -> Json:
    """Return the value of a parameter as strict JSON, dates as ISO strings."""
    if isinstance(value, dict):
        return {key: _read_json(item, (*place, key), reader) for key, item in value.items()}
    if isinstance(value, list):
        return [_read_json(item, (*place, index), reader) for index, item in enumerate(value)]
    return reader.value(json_scalar, value, place)

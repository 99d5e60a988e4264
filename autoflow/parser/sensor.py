"""Read the part `available_dates_sensor` of the file."""

from collections.abc import Collection

from autoflow.dates.intervals import IntervalEnds
from autoflow.parser.drafts import SensorDraft
from autoflow.parser.entries import SensorKeys, read_entries
from autoflow.parser.places import Place
from autoflow.parser.reader import Reader
from autoflow.parser.schemas import SensorSchema
from autoflow.parser.values import cdr_type

_PLACE: Place = ("available_dates_sensor",)


def read_sensor(value: object, reader: Reader, *, recipients: Collection[str] | None = None) -> SensorDraft:
    """Read the sensor's schedule and the workflows it runs; `recipients` are as in `SensorKeys`."""
    keys = reader.keys(SensorSchema(), value, _PLACE)
    cdr_types = None
    if "cdr_types" in keys:
        cdr_types = tuple(reader.distinct(cdr_type, keys["cdr_types"], (*_PLACE, "cdr_types")))
    sensor = SensorKeys(
        cdr_types=cdr_types,
        interval_ends=keys.get("interval_ends", IntervalEnds.INCLUDED),
        timezone=keys.get("timezone", "UTC"),
        recipients=recipients,
    )
    triggers = read_entries(keys.get("workflows", []), (*_PLACE, "workflows"), reader, sensor)
    return SensorDraft(keys.get("schedule"), cdr_types, sensor.interval_ends, triggers, sensor.timezone)

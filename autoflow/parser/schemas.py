"""The keys of each part of the file, and the values they accept."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from marshmallow import Schema, ValidationError, fields

from autoflow.dates.completeness import Enough
from autoflow.dates.stencil import as_date
from autoflow.parser import values


class Key(fields.Function):
    """A key of the file; `read` returns the meaning of its value, or raises ValueError with the reason.

    An optional key without a value counts as absent.
    """

    def __init__(self, read: Callable[[object], object], *, required: bool = False, allow_none: bool = False) -> None:
        super().__init__(
            deserialize=partial(_valid, read),
            required=required,
            allow_none=allow_none or not required,
            error_messages={"required": "missing key", "null": "missing value"},
        )


def _valid(read: Callable[[object], object], value: object) -> object:
    try:
        return read(value)
    except ValueError as error:
        raise ValidationError(str(error)) from error


class FileSchema(Schema):
    """The whole file."""

    workflows = Key(values.any_list, required=True)
    available_dates_sensor = Key(values.mapping, required=True)


class WorkflowSchema(Schema):
    """A workflow of the list `workflows`."""

    name = Key(values.text, required=True)
    title = Key(values.text)
    description = Key(values.text)
    notebooks = Key(values.mapping, required=True)


class NotebookSchema(Schema):
    """A notebook of a workflow."""

    filename = Key(values.text, required=True)
    parameters = Key(values.mapping)
    output = Key(values.mapping)
    timeout = Key(values.positive_seconds)


class OutputSchema(Schema):
    """The reports of a notebook; `format` is one format or a list of them."""

    format = Key(values.any_value, required=True)
    template = Key(values.text)


class SensorSchema(Schema):
    """The part `available_dates_sensor`."""

    schedule = Key(values.schedule, required=True, allow_none=True)
    timezone = Key(values.timezone)
    cdr_types = Key(values.nonempty_list)
    interval_ends = Key(values.interval_ends)
    workflows = Key(values.any_list, required=True)


class TriggerSchema(Schema):
    """An entry of the sensor's list `workflows`."""

    workflow_name = Key(values.text, required=True)
    label = Key(values.label)
    title = Key(values.text)
    description = Key(values.text)
    parameters = Key(values.mapping)
    for_each = Key(values.nonempty_mapping)
    every = Key(values.every)
    earliest_date = Key(as_date)
    latest_date = Key(as_date)
    order = Key(values.order)
    after_previous = Key(values.boolean)
    date_stencil = Key(values.nonempty_list)
    requires_all_of = Key(values.nonempty_list)
    enough = Key(Enough.of)
    longest_gap = Key(values.days)
    wait = Key(values.days)
    on_change = Key(values.on_change)
    deadline = Key(values.mapping)
    notify = Key(values.nonempty_mapping)
    retry_delay = Key(values.seconds)
    max_attempts = Key(values.attempts)


class DeadlineSchema(Schema):
    """By when a date has to be done."""

    days = Key(values.days, required=True)
    at = Key(values.time_of_day)


class NotifySchema(Schema):
    """Who gets messages; `success` and `failure` are one name or a list of names."""

    success = Key(values.any_value)
    failure = Key(values.any_value)
    attach = Key(values.report_format)


def load(schema: Schema, given: dict[str, object]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the valid ones of the given keys, and what is wrong with each of the others."""
    try:
        return schema.load(given), {}
    except ValidationError as error:
        wrong = {key: messages[0] for key, messages in error.messages_dict.items()}
        return cast("dict[str, Any]", error.valid_data), wrong

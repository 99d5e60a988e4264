"""The keys of each part of the file, and the values they accept.

Each key has a description and a *form*: what JSON Schema can say about its value, for editors. `read` decides.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, TypeAlias, cast

from marshmallow import Schema, ValidationError, fields

from autoflow.dates.completeness import Enough
from autoflow.dates.stencil import as_date
from autoflow.parser import forms, values

Form: TypeAlias = Mapping[str, Any]
"""A part of a JSON Schema; in place of an object, it can have the class of the schema of its keys."""


class Key(fields.Function):
    """A key of the file; `read` returns the meaning of its value, or raises ValueError with the reason.

    `about` describes it in a sentence. An optional key without a value counts as absent.
    """

    def __init__(
        self,
        read: Callable[[object], object],
        form: Form,
        about: str,
        *,
        required: bool = False,
        allow_none: bool = False,
    ) -> None:
        super().__init__(
            deserialize=partial(_valid, read),
            required=required,
            allow_none=allow_none or not required,
            error_messages={"required": "missing key", "null": "missing value"},
        )
        self.form = form
        self.about = about


def _valid(read: Callable[[object], object], value: object) -> object:
    try:
        return read(value)
    except ValueError as error:
        raise ValidationError(str(error)) from error


class Keys(Schema):
    """The keys of a mapping. `together`: what JSON Schema can say about which of them belong together."""

    together: ClassVar[Form] = {}


class OutputSchema(Keys):
    """The reports of a notebook; `format` is one format or a list of them."""

    format = Key(
        values.any_value, forms.REPORT_FORMATS, "The format of the report, or a list of formats.", required=True
    )
    template = Key(values.text, forms.TEXT, "An asciidoc template in the inputs folder.")


class NotebookSchema(Keys):
    """A notebook of a workflow."""

    filename = Key(
        values.text, forms.NOTEBOOK_FILE, "File name of the notebook, from the inputs folder.", required=True
    )
    parameters = Key(
        values.mapping,
        forms.SOURCES,
        "Parameters of the notebook, and where each value comes from: a parameter of the workflow, the label of "
        "another notebook, or an automatic parameter such as reference_date.",
    )
    output = Key(values.mapping, {"schema": OutputSchema}, "Creates reports from the executed notebook.")
    timeout = Key(
        values.positive_seconds,
        forms.POSITIVE_SECONDS,
        "How long the notebook may run, in seconds; null means no limit. Default: AUTOFLOW_NOTEBOOK_TIMEOUT.",
    )
    memory = Key(
        values.memory,
        forms.MEMORY,
        "How much memory the notebook and all processes that it starts may use together, such as 4G. "
        "Default: no limit.",
    )
    pool = Key(values.text, forms.TEXT, "The pool of the notebook: at most so many notebooks of a pool run at a time.")
    secrets = Key(
        values.nonempty_list,
        forms.SECRETS,
        "Docker secrets or environment variables that only notebooks that list them get.",
    )


class KeepSchema(Keys):
    """How long the outputs of a workflow are kept."""

    together: ClassVar[Form] = {"minProperties": 1}

    notebooks = Key(
        values.kept_days,
        forms.DAYS_KEPT,
        "How many days after the end of a run its executed notebooks are kept; null means forever. "
        "Default: AUTOFLOW_KEEP_NOTEBOOKS.",
    )
    reports = Key(
        values.kept_days,
        forms.DAYS_KEPT,
        "How many days after the end of a run its reports are kept; null means forever. "
        "Default: AUTOFLOW_KEEP_REPORTS.",
    )


class WorkflowSchema(Keys):
    """A workflow of the list `workflows`."""

    name = Key(values.text, forms.TEXT, "Name of the workflow. It must be unique.", required=True)
    title = Key(values.text, forms.TEXT, "Name of the workflow for readers. Default: name.")
    description = Key(values.text, forms.TEXT, "A sentence for the index page.")
    notebooks = Key(
        values.mapping,
        {
            "type": "object",
            "minProperties": 1,
            "propertyNames": forms.NOTEBOOK_LABELS,
            "additionalProperties": {"schema": NotebookSchema},
        },
        "The notebooks of the workflow. Each has a label that you choose.",
        required=True,
    )
    keep = Key(
        values.nonempty_mapping,
        {"schema": KeepSchema},
        "How many days the outputs of the workflow are kept: {notebooks: 90, reports: 3650}. Dates stay done.",
    )


class DeadlineSchema(Keys):
    """By when a date has to be done."""

    days = Key(values.days, forms.DAYS, "How many days after the reference date.", required=True)
    at = Key(values.time_of_day, forms.TIME, "The time of the day, in the sensor's time zone: '09:00'. Default: 00:00.")


class NotifySchema(Keys):
    """Who gets messages; `success` and `failure` are one name or a list of names."""

    together: ClassVar[Form] = {"minProperties": 1, "dependencies": {"attach": ["success"]}}

    success = Key(values.any_value, forms.NAMES, "Who gets reports: names in AUTOFLOW_NOTIFY_URLS.")
    failure = Key(
        values.any_value,
        forms.NAMES,
        "Who hears of failures and missed deadlines. Default: the URLs in AUTOFLOW_NOTIFY_URLS without a name.",
    )
    attach = Key(
        values.report_format, forms.FORMAT, "The format of the reports to attach, where the service takes files."
    )


class TriggerSchema(Keys):
    """An entry of the sensor's list `workflows`."""

    together: ClassVar[Form] = {
        "dependencies": {"enough": ["wait"], "wait": ["enough"], "longest_gap": ["enough"]},
    }

    workflow_name = Key(values.text, forms.TEXT, "Name of the workflow.", required=True)
    label = Key(
        values.label,
        forms.LABEL,
        "Short name of the entry, with letters, digits, '.', '_' and '-'. It must be unique within the workflow.",
    )
    title = Key(values.text, forms.TEXT, "Name of the entry for readers. Default: that of the workflow.")
    description = Key(values.text, forms.TEXT, "A sentence for the index page.")
    parameters = Key(values.mapping, {"type": "object"}, "Values of the workflow's parameters.")
    for_each = Key(
        values.nonempty_mapping,
        forms.CHOICES,
        "Makes an entry for each value of parameters, or for each combination: {region: [north, south]}.",
    )
    every = Key(
        values.every,
        forms.EVERY,
        "Runs once for each period: day, week, month, quarter, year, or a weekday, the last day of the week. "
        "Default: day.",
    )
    earliest_date = Key(as_date, forms.DATE, "Earlier dates are skipped, and periods that start earlier.")
    latest_date = Key(as_date, forms.DATE, "Later dates are skipped. The date itself is included.")
    order = Key(values.order, forms.ORDER, "Which due dates run first. Default: oldest_first.")
    after_previous = Key(
        values.boolean, {"type": "boolean"}, "With true, a date waits for the dates before it. Default: false."
    )
    date_stencil = Key(
        values.nonempty_list,
        forms.STENCIL,
        "Which dates have to be available: dates, offsets in days from the reference date, {period: N}, or "
        "pairs of these.",
    )
    requires_all_of = Key(
        values.nonempty_list,
        forms.CDR_TYPES_LIST,
        "Some of the cdr_types. A date is available to this entry only if each of these types has data for it.",
    )
    enough = Key(
        Enough.of,
        forms.ENOUGH,
        "How many days of each element of the stencil are enough: a number, or a percentage such as 60%. It needs "
        "wait. Default: all.",
    )
    longest_gap = Key(
        values.days, forms.DAYS, "How many days in a row may be missing. It needs enough. Default: no limit."
    )
    wait = Key(
        values.days, forms.DAYS, "How many days to wait for the rest, once there are enough days. It needs enough."
    )
    on_change = Key(
        values.on_change,
        forms.ON_CHANGE,
        "What happens if a day that a run has used arrives or changes later. Default: ignore.",
    )
    deadline = Key(
        values.mapping,
        {"schema": DeadlineSchema},
        "By when a date has to be done; if it is not, 'failure' of 'notify' gets a message.",
    )
    notify = Key(values.nonempty_mapping, {"schema": NotifySchema}, "Who gets messages about this entry.")
    retry_delay = Key(
        values.seconds,
        forms.SECONDS,
        "Seconds to wait before the first retry of a failed run; the delay doubles with each further failure. "
        "Default: 60.",
    )
    max_attempts = Key(
        values.at_least_one,
        {"type": "integer", "minimum": 1},
        "AutoFlow gives up on a date after this many failed attempts. Default: 5.",
    )
    resume = Key(
        values.boolean,
        {"type": "boolean"},
        "With true, a retry takes over the executed notebooks of the failed attempt that have not changed. "
        "Default: false.",
    )


class SensorSchema(Keys):
    """The part `available_dates_sensor`."""

    schedule = Key(
        values.schedule,
        forms.NULLABLE_TEXT,
        "When to look for new dates: a cron expression, such as '0 6 * * *'. With null, AutoFlow runs everything "
        "that is due and then exits.",
        required=True,
        allow_none=True,
    )
    timezone = Key(
        values.timezone,
        forms.TEXT,
        "Name of the time zone of the schedule, in which days end, such as Africa/Accra. Default: UTC.",
    )
    cdr_types = Key(
        values.nonempty_list,
        forms.CDR_TYPES_LIST,
        "A date is available as soon as any one of these types has data for it. Default: all types.",
    )
    interval_ends = Key(
        values.interval_ends,
        forms.INTERVAL_ENDS,
        "Whether the second date of a pair is the last day (included), or the day after it (excluded). "
        "Default: included.",
    )
    workflows = Key(
        values.any_list,
        {"type": "array", "items": {"schema": TriggerSchema}},
        "The workflows to run for each available date. A workflow can have several entries, with different parameters.",
        required=True,
    )


class FileSchema(Keys):
    """The whole file."""

    workflows = Key(
        values.any_list,
        {"type": "array", "minItems": 1, "items": {"schema": WorkflowSchema}},
        "The workflows: sets of notebooks that depend on each other.",
        required=True,
    )
    pools = Key(
        values.mapping, forms.POOLS, "How many notebooks of each pool may run at a time, over all workflows: {name: 2}."
    )
    available_dates_sensor = Key(
        values.mapping, {"schema": SensorSchema}, "For which dates the workflows run.", required=True
    )


def load(schema: Schema, given: dict[str, object]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the valid ones of the given keys, and what is wrong with each of the others."""
    try:
        return schema.load(given), {}
    except ValidationError as error:
        wrong = {key: messages[0] for key, messages in error.messages_dict.items()}
        return cast("dict[str, Any]", error.valid_data), wrong

"""workflows.yml → specs: all that is wrong with the file is told at once, each mistake with its line."""

import datetime as dt
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import yaml
from marshmallow import Schema, ValidationError, fields

from autoflow.date_stencil import DateStencil, as_date
from autoflow.errors import WorkflowsFileError
from autoflow.notebook_parameters import DeclaredParameters, InputsFolder, InspectNotebook, did_you_mean, nearest, show
from autoflow.specs import (
    CDR_TYPES,
    RESERVED_NAMES,
    Json,
    NotebookSpec,
    OutputSpec,
    ReportFormat,
    SensorSpec,
    TriggerSpec,
    WorkflowsFile,
    WorkflowSpec,
)

MAX_FILE_BYTES = 256 * 1024
"""A file beyond this is refused: reading it would hold up each tick for seconds."""

MAX_DEPTH = 50
"""How deeply values may be nested."""

MAX_VALUES = 100_000
"""How many values the file may hold once its aliases are written out."""

MAX_SECONDS = 366 * 24 * 3600
"""The longest timeout or delay: a year."""

Place: TypeAlias = tuple[str | int, ...]
"""Where a value stands: the keys and the indices that lead to it."""

_LONGEST_CIRCLE = 12
_MANY_PROBLEMS = 1_000
_Value = TypeVar("_Value")


def parse_workflows_file(
    path: Path,
    *,
    inspect_notebook: InspectNotebook,
    inputs_dir: Path | None = None,
) -> WorkflowsFile:
    """Read the workflows.yml at `path`; its notebooks and templates are in `inputs_dir`, by default its own folder.

    Raises
    ------
    WorkflowsFileError
        If anything is wrong with it; each mistake has a line, and no line is a mere consequence of another.

    """
    problems = _Problems(path.name)
    document = _read_document(path, problems)
    folder = InputsFolder((inputs_dir or path.parent).absolute(), inspect_notebook)
    parser = _Parser(problems, folder)
    workflows, sensor = parser.document(document)
    problems.raise_if_any()
    return _build(workflows, sensor)


# --- What is wrong, and where -----------------------------------------------------------------------------------


class _Broken:
    """Stands for a value that has been complained of already."""


_BROKEN = _Broken()


class _Problems:
    """The mistakes found so far, and the lines of all values of the file.

    A value that is broken hides further complaints of it and of what is in it.
    """

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name
        self._lines: dict[Place, tuple[int, int]] = {(): (1, 1)}
        self._written_as: dict[Place, str] = {}
        self._found: list[tuple[int, str]] = []
        self._broken: set[Place] = set()
        self._around_broken: set[Place] = set()

    def locate(self, place: Place, *, key_line: int, value_line: int) -> None:
        """Note the lines, counted from 1, of the value at `place` and of the key that leads to it."""
        self._lines[place] = (key_line, value_line)

    def rename(self, place: Place, written: str) -> None:
        """Note that the last key of `place` is spelt `written` in the file."""
        self._written_as[place] = written

    def add(self, place: Place, message: str, *, line: int | None = None, at_key: bool = False) -> None:
        """Tell a mistake, unless the value at `place`, or one around it, is broken."""
        if self.is_broken(place):
            return
        shown = self._as_written(place)
        line = self.line(shown, at_key=at_key) if line is None else line
        where = f"{self._file_name}:{line}: "
        self._found.append((line, f"{where}{_show_place(shown)}: {message}" if shown else f"{where}{message}"))
        if len(self._found) == _MANY_PROBLEMS:
            self.raise_if_any()

    def break_at(self, place: Place, message: str) -> None:
        """Tell a mistake after which nothing more can be said of the value at `place`."""
        self.add(place, message)
        shown = self._as_written(place)
        self._broken.add(shown)
        self._around_broken.update(shown[:length] for length in range(len(shown) + 1))

    def stop(self, message: str, *, line: int | None = None) -> WorkflowsFileError:
        """Return the error for a file of which nothing more can be said at all."""
        where = self._file_name if line is None else f"{self._file_name}:{line}"
        return WorkflowsFileError([f"{where}: {message}"])

    def is_broken(self, place: Place) -> bool:
        """Tell whether the value at `place`, or one around it, is broken."""
        shown = self._as_written(place)
        return any(shown[:length] in self._broken for length in range(len(shown) + 1))

    def is_broken_within(self, place: Place) -> bool:
        """Tell whether the value at `place`, one around it, or one in it, is broken."""
        return self._as_written(place) in self._around_broken or self.is_broken(place)

    def raise_if_any(self) -> None:
        """Raise all mistakes, in the order of the file."""
        if self._found:
            raise WorkflowsFileError([text for _, text in sorted(self._found, key=lambda found: found[0])])

    def _as_written(self, place: Place) -> Place:
        return tuple(self._written_as.get(place[: index + 1], key) for index, key in enumerate(place))

    def line(self, place: Place, *, at_key: bool = False) -> int:
        """Return the line of the value at `place`, or of its key; of what is around it where it is not in the file."""
        if place in self._lines:
            return self._lines[place][0 if at_key else 1]
        return self.line(place[:-1])


def _show_place(place: Place) -> str:
    """Write `place` as in ``workflows[0].notebooks.report``."""
    parts = []
    for key in place:
        if isinstance(key, str) and re.fullmatch(r"[\w-]{1,100}", key):
            parts.append(f".{key}")
        else:
            parts.append(f"[{key if isinstance(key, int) else show(key)}]")
    return "".join(parts).removeprefix(".")


# --- YAML → plain values and their lines --------------------------------------------------------------------------

_TAG_PREFIX = "tag:yaml.org,2002:"
_MERGE_TAG = f"{_TAG_PREFIX}merge"
_TEXT_TAG = f"{_TAG_PREFIX}str"
_SCALAR_TAGS = {f"{_TAG_PREFIX}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "binary")}
_LONGEST_NUMBER = 100
_KEY_THAT_IS_NO_TEXT = "?"
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")


class _NodeLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which gives up on values that are nested so deeply that Python's stack might not hold."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next value of the file."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call] # untyped in types-PyYAML
            raise yaml.composer.ComposerError(None, None, f"values are nested more than {MAX_DEPTH} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _read_document(path: Path, problems: _Problems) -> object:
    text = _read_text(path, problems)
    try:
        loader = _NodeLoader(text)
        node = loader.get_single_node()
        if node is None:
            raise problems.stop("the file is empty; 'workflows' and 'available_dates_sensor' are expected", line=1)
        return _PlainValues(loader, problems).value(node, ())
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise problems.stop(f"the character {error.character:#04x} cannot be in a YAML file", line=line) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise problems.stop(_explain(error), line=mark.line + 1 if mark else 1) from error
    except RecursionError as error:
        raise problems.stop("values are nested too deeply") from error


def _read_text(path: Path, problems: _Problems) -> str:
    try:
        if not path.is_file():
            raise problems.stop(f"there is no such file in {path.parent}")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise problems.stop(f"the file cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise problems.stop(f"the file is larger than {MAX_FILE_BYTES // 1024} KiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise problems.stop("this is not UTF-8 text; save the file as UTF-8", line=line) from error


def _explain(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem or error.context)
    if "expected a single document" in str(error.context):
        return "a second YAML document starts here; one is expected"
    if error.context == "while scanning an alias" or "'@'" in problem:
        return f"not valid YAML: {problem}; a cron string has to be in quotes, as in schedule: '* * * * *'"
    if "'\\t'" in problem:
        return f"not valid YAML: {problem}; indent with spaces, not with tabs"
    return f"not valid YAML: {problem}"


_Pairs: TypeAlias = dict[str, tuple[yaml.Node, yaml.Node]]


class _PlainValues:
    """Makes plain values of YAML's nodes, and notes their lines; what is wrong becomes `_BROKEN`."""

    def __init__(self, loader: _NodeLoader, problems: _Problems) -> None:
        self._loader = loader
        self._problems = problems
        self._count = 0
        self._open: set[yaml.Node] = set()
        self._pairs_of: dict[yaml.Node, _Pairs] = {}

    def value(self, node: yaml.Node, place: Place) -> object:
        """Return the plain value of `node`, which stands at `place`."""
        self._count += 1
        if self._count > MAX_VALUES:
            line = self._problems.line(place[:1], at_key=True)
            raise self._problems.stop(f"with its aliases written out the file has over {MAX_VALUES} values", line=line)
        if node in self._open:
            return self._broken(place, "an alias stands inside of what it refers to")
        self._open.add(node)
        try:
            return self._opened(node, place)
        finally:
            self._open.remove(node)

    def _opened(self, node: yaml.Node, place: Place) -> object:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG_PREFIX}map":
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG_PREFIX}seq":
            return self._sequence(node, place)
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALAR_TAGS:
            return self._scalar(node, place)
        tag = node.tag.replace(_TAG_PREFIX, "!!")
        return self._broken(place, f"the YAML tag {show(tag)} cannot be used here")

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> object:
        kind = node.tag.removeprefix(_TAG_PREFIX)
        if node.tag == _TEXT_TAG:
            if _NOT_TEXT.search(node.value):
                return self._broken(place, "the text has a character that cannot be stored")
            return str(node.value)
        if kind in {"int", "float"} and len(node.value) > _LONGEST_NUMBER:
            return self._broken(place, "the number is too long")
        try:
            return self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, OverflowError):
            return self._broken(place, f"{show(node.value)} is not a valid {'date' if kind == 'timestamp' else kind}")

    def _sequence(self, node: yaml.SequenceNode, place: Place) -> list[object]:
        values = []
        for index, item in enumerate(node.value):
            line = item.start_mark.line + 1
            self._problems.locate((*place, index), key_line=line, value_line=line)
            values.append(self.value(item, (*place, index)))
        return values

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, object]:
        values = {}
        for key, (key_node, value_node) in self._pairs(node, place).items():
            key_line = key_node.start_mark.line + 1
            in_block = isinstance(value_node, yaml.CollectionNode) and not value_node.flow_style
            value_line = key_line if in_block else value_node.start_mark.line + 1
            self._problems.locate((*place, key), key_line=key_line, value_line=value_line)
            values[key] = self.value(value_node, (*place, key))
        return values

    def _pairs(self, node: yaml.MappingNode, place: Place) -> _Pairs:
        """Return the keys of `node` with those merged into it, which give way to its own."""
        if node in self._pairs_of:
            return self._pairs_of[node]
        self._pairs_of[node] = {}  # So that a mapping which is merged into itself comes to an end.
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
        self._problems.add((*place, key), f"this key is given twice, first in line {first}", line=again)

    def _merged(self, node: yaml.Node, place: Place) -> _Pairs:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        pairs: _Pairs = {}
        for item in nodes:
            if isinstance(item, yaml.MappingNode):
                pairs = {**self._pairs(item, place), **pairs}
            else:
                line = item.start_mark.line + 1
                self._problems.add(place, "'<<' merges mappings only", line=line)
        return pairs

    def _key(self, node: yaml.Node, place: Place) -> str:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode) or _NOT_TEXT.search(node.value):
            self._problems.locate((*place, _KEY_THAT_IS_NO_TEXT), key_line=line, value_line=line)
            self._problems.break_at((*place, _KEY_THAT_IS_NO_TEXT), "a key has to be plain text")
            return _KEY_THAT_IS_NO_TEXT
        if node.tag != _TEXT_TAG:
            message = f"the key {show(node.value)} is not text; put it in quotes"
            self._problems.add((*place, node.value), message, line=line)
        return str(node.value)

    def _broken(self, place: Place, message: str) -> _Broken:
        self._problems.break_at(place, message)
        return _BROKEN


# --- Which keys there are, and what each may hold ------------------------------------------------------------------


class _Key(fields.Field[Any]):
    """A key of the file; `read` takes its value and returns what it means, or raises ValueError with the reason.

    An optional key without a value counts as left out.
    """

    default_error_messages = {  # noqa: RUF012 - marshmallow's way
        "required": "this key is missing",
        "null": "a value is missing",
    }

    def __init__(self, read: Callable[[object], object], *, required: bool = False, allow_none: bool = False) -> None:
        super().__init__(required=required, allow_none=allow_none or not required)
        self._read = read

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> object:  # noqa: ARG002 - marshmallow's
        try:
            return self._read(value)
        except ValueError as error:
            raise ValidationError(str(error)) from error


def _any_value(value: object) -> object:
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text is expected, not {show(value)}")  # noqa: TRY004 - the field takes ValueError
    if not value.strip() or not value.isprintable():
        raise ValueError(f"{show(value)} is not a name: visible characters on one line are expected")
    return value


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"a mapping (key: value) is expected, not {show(value)}")  # noqa: TRY004 - the same
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"a list is expected, not {show(value)}")  # noqa: TRY004 - the same
    return value


def _nonempty_list(value: object) -> list[object]:
    if not _list(value):
        raise ValueError("the list is empty; leave the key out if it is not needed")
    return _list(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise ValueError(f"a number of seconds from 0 to {MAX_SECONDS} is expected, not {show(value)}")
    return float(value)


def _positive_seconds(value: object) -> float:
    if (seconds := _seconds(value)) == 0:
        raise ValueError("more than 0 seconds are expected")
    return seconds


def _attempts(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"a whole number from 1 is expected, not {show(value)}")
    return value


def _schedule(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a cron string such as '0 6 * * *' or null is expected, not {show(value)}")  # noqa: TRY004 - the same
    if problem := _cron_problem(value):
        raise ValueError(f"{show(value)} is not a cron string: {problem}")
    return value


class _FileSchema(Schema):
    workflows = _Key(_list, required=True)
    available_dates_sensor = _Key(_mapping, required=True)


class _WorkflowSchema(Schema):
    name = _Key(_text, required=True)
    notebooks = _Key(_mapping, required=True)


class _NotebookSchema(Schema):
    filename = _Key(_text, required=True)
    parameters = _Key(_mapping)
    output = _Key(_mapping)
    timeout = _Key(_positive_seconds)


class _OutputSchema(Schema):
    format = _Key(_any_value, required=True)
    template = _Key(_text)


class _SensorSchema(Schema):
    schedule = _Key(_schedule, required=True, allow_none=True)
    cdr_types = _Key(_nonempty_list)
    workflows = _Key(_list, required=True)


class _TriggerSchema(Schema):
    workflow_name = _Key(_text, required=True)
    parameters = _Key(_mapping)
    earliest_date = _Key(as_date)
    date_stencil = _Key(_nonempty_list)
    retry_delay = _Key(_seconds)
    max_attempts = _Key(_attempts)


# --- Cron strings ---------------------------------------------------------------------------------------------------

_CRON_ALIASES = {"@midnight", "@hourly", "@daily", "@weekly", "@monthly", "@yearly", "@annually"}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_CRON = 200
_DAY_FIELD, _MONTH_FIELD, _WEEKDAY_FIELD = 2, 3, 4
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True)
class _CronField:
    """One field of a cron string: its numbers from `low` to `high`, and names that stand for numbers."""

    name: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)

    def number(self, text: str) -> int | None:
        """Return the number that `text` stands for, None if it stands for none of this field's."""
        number = self.names.get(text, int(text) if re.fullmatch(r"[0-9]{1,4}", text) else -1)
        return number if self.low <= number <= self.high else None

    def allows(self, item: str) -> bool:
        """Tell whether `item`, one of those that commas separate, can stand in this field."""
        match = re.fullmatch(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]{1,4}))?", item, re.ASCII)
        if not match or (match["step"] and int(match["step"]) == 0):
            return False
        return all(self.number(end) is not None for end in (match["first"], match["last"]) if end)


class _DayField(_CronField):
    """The day of the month, where `l` is the last one."""

    def allows(self, item: str) -> bool:
        """Tell whether `item` can stand in this field."""
        return item == "l" or super().allows(re.sub(r"-l\b", "-31", item))


class _WeekdayField(_CronField):
    """The day of the week, with `fri#2` for the second Friday of a month and `l5` for the last."""

    def allows(self, item: str) -> bool:
        """Tell whether `item` can stand in this field."""
        return self.is_within_month(item) or super().allows(item)

    def is_within_month(self, item: str) -> bool:
        """Tell whether `item` is about one week of the month."""
        match = re.fullmatch(r"(?P<day>[a-z]{3}(?:-[a-z]{3})?|[0-9])#[1-5]|l(?P<last>[0-9])", item)
        return match is not None and super().allows(match["day"] or match["last"])


_CRON_FIELDS = (
    _CronField("minute", 0, 59),
    _CronField("hour", 0, 23),
    _DayField("day of the month", 1, 31),
    _CronField("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, start=1)}),
    _WeekdayField("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
    _CronField("second", 0, 59),
    _CronField("year", 1970, 2099),
)


def _cron_problem(cron: str) -> str | None:
    """Tell what is wrong with `cron`; None if Prefect takes it.

    The grammar is that of croniter, which Prefect uses: after the usual five fields there can be one for seconds and
    one for years. What croniter has beyond it (`h` and `r` for hashed and random values) Prefect does not support.
    """
    if cron.lower() in _CRON_ALIASES:
        return None
    texts = cron.lower().split()
    if len(cron) > _LONGEST_CRON or len(texts) not in {5, 6, 7}:
        return "five fields are expected: minute, hour, day of the month, month, day of the week"
    for index, (known, text) in enumerate(zip(_CRON_FIELDS, texts, strict=False)):
        if text == "?" and index in {_DAY_FIELD, _WEEKDAY_FIELD}:
            continue
        for item in text.split(","):
            if not known.allows(item):
                return f"{show(item)} is not a valid {known.name}"
    return _unusual_days_problem(texts)


def _unusual_days_problem(texts: list[str]) -> str | None:
    weekdays = texts[_WEEKDAY_FIELD]
    within_month = [bool(re.search("[#l]", item)) for item in weekdays.split(",")]
    if any(within_month) and not all(within_month):
        return "days of the week such as 'fri' and 'fri#2' cannot be mixed"
    if "7" in weekdays and len(texts) > 5:  # noqa: PLR2004 - a plain cron string has five fields
        return "Sunday is 0, not 7, where there are fields for seconds or years"
    if weekdays in {"*", "?"} and _never_comes(texts[_DAY_FIELD], texts[_MONTH_FIELD]):
        return "such a day never comes"
    return None


def _never_comes(days: str, months: str) -> bool:
    month = _CRON_FIELDS[_MONTH_FIELD]
    month_numbers = [month.number(item) for item in months.split(",")]
    day_numbers = [int(item) for item in days.split(",") if item.isdecimal()]
    if None in month_numbers or len(day_numbers) < len(days.split(",")):
        return False
    return min(day_numbers) > max(_MONTH_DAYS[cast("int", number) - 1] for number in month_numbers)


# --- Plain values → specs -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Workflow:
    """A workflow as far as it could be read; `name` is None and `notebooks` incomplete where something is wrong."""

    place: Place
    name: str | None
    notebooks: tuple[NotebookSpec, ...]

    @cached_property
    def labels(self) -> frozenset[str]:
        return frozenset(notebook.label for notebook in self.notebooks) - RESERVED_NAMES

    @cached_property
    def parameter_names(self) -> frozenset[str]:
        sources = {source for notebook in self.notebooks for source in notebook.parameters.values()}
        return frozenset(sources - self.labels - RESERVED_NAMES)

    def user_of(self, parameter: str) -> str:
        """Return the label of the first notebook that uses `parameter`."""
        return next(notebook.label for notebook in self.notebooks if parameter in notebook.parameters.values())


@dataclass(frozen=True)
class _Trigger:
    """An entry of the sensor's list as far as it could be read."""

    place: Place
    workflow_name: str | None
    parameters: dict[str, Json]
    options: dict[str, Any]


@dataclass(frozen=True)
class _Sensor:
    schedule: str | None
    cdr_types: tuple[str, ...] | None
    triggers: tuple[_Trigger, ...]


class _Parser:
    """Reads the plain values level by level, and goes on after each mistake."""

    def __init__(self, problems: _Problems, folder: InputsFolder) -> None:
        self._problems = problems
        self._folder = folder

    def document(self, value: object) -> tuple[tuple[_Workflow, ...], _Sensor]:
        """Read all of the file."""
        if not isinstance(value, dict):
            raise self._problems.stop("the keys 'workflows' and 'available_dates_sensor' are expected", line=1)
        keys = self._load(_FileSchema(), value, ())
        workflows = tuple(self._workflows(keys.get("workflows", [])))
        sensor = self._sensor(keys.get("available_dates_sensor", {}))
        self._check_triggers(workflows, sensor.triggers)
        return workflows, sensor

    def _load(self, schema: Schema, value: object, place: Place) -> dict[str, Any]:
        """Return what is valid among the keys of the mapping at `place`; tell the rest."""
        if not isinstance(value, dict):
            self._problems.break_at(place, f"a mapping (key: value) is expected, not {show(value)}")
            return {}
        try:
            loaded = schema.load(self._known_keys(schema, value, place))
        except ValidationError as error:
            for key, messages in error.messages_dict.items():
                self._problems.break_at((*place, key), messages[0])
            loaded = cast("dict[str, Any]", error.valid_data)
        return {key: item for key, item in loaded.items() if item is not None and item is not _BROKEN}

    def _known_keys(self, schema: Schema, value: dict[str, object], place: Place) -> dict[str, object]:
        """Tell unknown keys; one that is but misspelt is taken for the right one from here on."""
        known = {key: item for key, item in value.items() if key in schema.fields}
        for key in [key for key in value if key not in known]:
            meant = nearest(key, schema.fields)
            hint = f"did you mean {meant!r}?" if meant else f"expected are {', '.join(schema.fields)}"
            self._problems.add((*place, key), f"unknown key; {hint}", at_key=True)
            if meant and meant not in known:
                known[meant] = value[key]
                self._problems.rename((*place, meant), key)
        return known

    def _read(self, read: Callable[[Any], _Value], value: object, place: Place) -> _Value | None:
        """Return what `read` makes of the value at `place`; None, and a problem told, where it raises ValueError."""
        if self._problems.is_broken_within(place):
            return None
        try:
            return read(value)
        except ValueError as error:
            self._problems.break_at(place, str(error))
            return None

    # The workflows.

    def _workflows(self, values: list[object]) -> Iterator[_Workflow]:
        place: Place = ("workflows",)
        if not values:
            self._problems.break_at(place, "the list is empty; one workflow or more is expected")
        names: dict[str, int] = {}
        for index, value in enumerate(values):
            workflow = self._workflow(value, (*place, index))
            if workflow.name is not None and names.setdefault(workflow.name, index) != index:
                message = f"the name {show(workflow.name)} is that of workflows[{names[workflow.name]}] already"
                self._problems.add((*workflow.place, "name"), message)
            yield workflow

    def _workflow(self, value: object, place: Place) -> _Workflow:
        keys = self._load(_WorkflowSchema(), value, place)
        labelled = keys.get("notebooks", {})
        if not labelled:
            self._problems.break_at((*place, "notebooks"), "one notebook or more is expected")
        notebooks = tuple(self._notebook(item, (*place, "notebooks", label)) for label, item in labelled.items())
        workflow = _Workflow(place, keys.get("name"), notebooks)
        _, circles = _order(notebooks)
        for circle in circles:
            self._tell_circle(workflow, circle)
        return workflow

    def _tell_circle(self, workflow: _Workflow, circle: list[str]) -> None:
        last = next(notebook for notebook in workflow.notebooks if notebook.label == circle[-2])
        parameter = next(name for name, source in last.parameters.items() if source == circle[-1])
        shown = circle if len(circle) <= _LONGEST_CIRCLE else [*circle[: _LONGEST_CIRCLE - 2], "...", circle[-1]]
        place = (*workflow.place, "notebooks", last.label, "parameters", parameter)
        self._problems.add(place, f"notebooks depend on each other in a circle: {' → '.join(shown)}")

    def _notebook(self, value: object, place: Place) -> NotebookSpec:
        label = str(place[-1])
        self._check_label(label, place)
        keys = self._load(_NotebookSchema(), value, place)
        path = self._read(self._folder.notebook, keys["filename"], (*place, "filename")) if "filename" in keys else None
        parameters = self._sources(keys.get("parameters", {}), (*place, "parameters"))
        if path is not None:
            self._check_declared(parameters, self._folder.declared(path), (*place, "parameters"))
        output = self._output(keys["output"], (*place, "output")) if "output" in keys else None
        return NotebookSpec(
            label=label,
            path=path or Path(),
            parameters=parameters,
            output=output,
            timeout=keys.get("timeout"),
        )

    def _check_label(self, label: str, place: Place) -> None:
        if label in RESERVED_NAMES:
            message = f"{label!r} cannot be a notebook's label: it is a parameter that is provided automatically"
            self._problems.add(place, message, at_key=True)
        elif not label.strip() or not label.isprintable():
            self._problems.add(place, "a label has to be visible characters on one line", at_key=True)

    def _sources(self, values: dict[str, object], place: Place) -> dict[str, str]:
        """Return what fills each parameter of a notebook."""
        sources = {name: self._read(_source, value, (*place, name)) for name, value in values.items()}
        return {name: source for name, source in sources.items() if source is not None}

    def _check_declared(self, parameters: Iterable[str], declared: DeclaredParameters, place: Place) -> None:
        names = list(parameters)
        problems = {name: problem for name in names if (problem := declared.problem(name))}
        for name, problem in problems.items():
            self._problems.add((*place, name), problem, at_key=True)
        if names and declared.names is not None and not declared.has_cell:
            message = "the notebook has no cell tagged 'parameters', so nothing can be passed to it; tag one"
            self._problems.add(place, message, at_key=True)

    def _output(self, value: object, place: Place) -> OutputSpec:
        keys = self._load(_OutputSchema(), value, place)
        formats = self._formats(keys["format"], (*place, "format")) if "format" in keys else ()
        template = None
        if "template" in keys:
            template = self._read(self._folder.file, keys["template"], (*place, "template"))
        return OutputSpec(formats=formats, template=template)

    def _formats(self, value: object, place: Place) -> tuple[ReportFormat, ...]:
        if not isinstance(value, list):
            report_format = self._read(_report_format, value, place)
            return (report_format,) if report_format else ()
        return tuple(map(ReportFormat, self._distinct(_report_format, value, place)))

    def _distinct(self, read: Callable[[object], str], values: list[object], place: Place) -> list[str]:
        """Read the items of a list that is not to be empty or to hold anything twice."""
        if not values:
            self._problems.break_at(place, "the list is empty")
        found: list[str] = []
        for index, value in enumerate(values):
            item = self._read(read, value, (*place, index))
            if item in found:
                self._problems.break_at((*place, index), f"{show(value)} is in the list twice")
            elif item is not None:
                found.append(item)
        return found

    # The sensor.

    def _sensor(self, value: object) -> _Sensor:
        place: Place = ("available_dates_sensor",)
        if self._problems.is_broken(place):
            return _Sensor(schedule=None, cdr_types=None, triggers=())
        keys = self._load(_SensorSchema(), value, place)
        cdr_types = None
        if "cdr_types" in keys:
            cdr_types = tuple(self._distinct(_cdr_type, keys["cdr_types"], (*place, "cdr_types")))
        entries = enumerate(keys.get("workflows", []))
        triggers = tuple(self._trigger(entry, (*place, "workflows", index)) for index, entry in entries)
        return _Sensor(keys.get("schedule"), cdr_types, triggers)

    def _trigger(self, value: object, place: Place) -> _Trigger:
        keys = self._load(_TriggerSchema(), value, place)
        name = keys.pop("workflow_name", None)
        given = keys.pop("parameters", {})
        parameters = {key: self._json(item, (*place, "parameters", key)) for key, item in given.items()}
        if "date_stencil" in keys:
            keys["date_stencil"] = self._stencil(keys["date_stencil"], (*place, "date_stencil"))
        return _Trigger(place, name, parameters, keys)

    def _stencil(self, elements: list[object], place: Place) -> DateStencil | None:
        for index, element in enumerate(elements):
            self._read(DateStencil, [element], (*place, index))
        return self._read(DateStencil, elements, place)

    def _json(self, value: object, place: Place) -> Json:
        """Return the value of a parameter as strict JSON has it, dates as ISO strings."""
        if isinstance(value, dict):
            return {key: self._json(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._json(item, (*place, index)) for index, item in enumerate(value)]
        return self._read(_json_scalar, value, place)

    def _check_triggers(self, workflows: tuple[_Workflow, ...], triggers: tuple[_Trigger, ...]) -> None:
        named: dict[str, list[_Workflow]] = {}
        for workflow in workflows:
            if workflow.name is not None:
                named.setdefault(workflow.name, []).append(workflow)
        # A workflow whose name is missing, or another's, may be the one that an entry looks for.
        are_all_named = bool(workflows) and len(named) == len(workflows)
        for trigger in triggers:
            found = named.get(trigger.workflow_name or "", [])
            if len(found) == 1:
                self._check_parameters(trigger, found[0])
            elif trigger.workflow_name is not None and not found and are_all_named:
                message = (
                    f"there is no workflow {show(trigger.workflow_name)}{did_you_mean(trigger.workflow_name, named)}"
                )
                self._problems.add((*trigger.place, "workflow_name"), message)
        self._check_repeats(triggers)

    def _check_parameters(self, trigger: _Trigger, workflow: _Workflow) -> None:
        place = (*trigger.place, "parameters")
        missing = workflow.parameter_names - trigger.parameters.keys()
        for name in trigger.parameters:
            meant = nearest(name, missing)
            if problem := self._parameter_problem(name, workflow, meant):
                self._problems.add((*place, name), problem, at_key=True)
                missing -= {meant}
        for name in sorted(missing):
            user = workflow.user_of(name)
            hint = did_you_mean(name, workflow.labels)
            message = (
                f"this parameter is missing: notebook {show(user)} of workflow {show(workflow.name)} uses it{hint}"
            )
            self._problems.add((*place, name), message)

    def _parameter_problem(self, name: str, workflow: _Workflow, meant: str | None) -> str | None:
        if name in RESERVED_NAMES:
            return "this is provided automatically; leave it out"
        if name in workflow.labels:
            return f"a notebook of workflow {show(workflow.name)} has this label; name one of them otherwise"
        if name in workflow.parameter_names or not self._are_sources_known(workflow):
            return None
        hint = f"; did you mean {meant!r}?" if meant else ""
        return f"no notebook of workflow {show(workflow.name)} uses this parameter{hint}"

    def _are_sources_known(self, workflow: _Workflow) -> bool:
        """Tell whether all that fills the parameters of the workflow's notebooks could be read."""
        place = (*workflow.place, "notebooks")
        places = [(*place, notebook.label, "parameters") for notebook in workflow.notebooks]
        return not self._problems.is_broken(place) and not any(map(self._problems.is_broken_within, places))

    def _check_repeats(self, triggers: tuple[_Trigger, ...]) -> None:
        seen: dict[str, Place] = {}
        for trigger in triggers:
            if trigger.workflow_name is None or self._problems.is_broken_within((*trigger.place, "parameters")):
                continue
            key = json.dumps([trigger.workflow_name, trigger.parameters], sort_keys=True)
            first = seen.setdefault(key, trigger.place)
            if first != trigger.place:
                message = f"this is the workflow of {_show_place(first)} with the same parameters"
                self._problems.add(trigger.place, message)


def _source(value: object) -> str:
    if not isinstance(value, str):
        expected = "the name of a workflow parameter, the label of a notebook or an automatic parameter"
        raise ValueError(f"{expected} is expected, not {show(value)}")  # noqa: TRY004 - as for the fields
    return _text(value)


def _report_format(value: object) -> ReportFormat:
    if not isinstance(value, str) or value not in set(ReportFormat):
        raise ValueError(f"{show(value)} is not an output format; expected are {_either(ReportFormat)}")
    return ReportFormat(value)


def _cdr_type(value: object) -> str:
    if not isinstance(value, str) or value not in CDR_TYPES:
        raise ValueError(f"{show(value)} is not a type of CDR data; expected are {_either(CDR_TYPES)}")
    return value


def _either(names: Iterable[str]) -> str:
    return ", ".join(map(str, names))


def _json_scalar(value: object) -> Json:
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a parameter cannot be infinite or not a number (NaN): JSON has no such values")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError("a parameter is text, a number, a date, true, false, null, or a list or mapping of these")


def _order(notebooks: Iterable[NotebookSpec]) -> tuple[list[NotebookSpec], list[list[str]]]:
    """Put each notebook after those that it depends on, else in the given order; return it and all circles."""
    labelled = {notebook.label: notebook for notebook in notebooks}
    referable = labelled.keys() - RESERVED_NAMES
    ordered: dict[str, NotebookSpec] = {}
    circles = []
    for first, notebook in labelled.items():
        trail = {} if first in ordered else {first: iter(notebook.parameters.values())}
        while trail:
            label, sources = next(reversed(trail.items()))
            source = next((source for source in sources if source in referable), None)
            if source is None:
                del trail[label]
                ordered[label] = labelled[label]
            elif source in trail:
                labels = list(trail)
                circles.append([*labels[labels.index(source) :], source])
            elif source not in ordered:
                trail[source] = iter(labelled[source].parameters.values())
    return list(ordered.values()), circles


def _build(workflows: tuple[_Workflow, ...], sensor: _Sensor) -> WorkflowsFile:
    specs = {
        cast("str", workflow.name): WorkflowSpec(
            name=cast("str", workflow.name),
            notebooks=tuple(_order(workflow.notebooks)[0]),
        )
        for workflow in workflows
    }
    triggers = tuple(
        TriggerSpec(
            workflow=specs[cast("str", trigger.workflow_name)],
            parameters=trigger.parameters,
            **trigger.options,
        )
        for trigger in sensor.triggers
    )
    return WorkflowsFile(
        workflows=tuple(specs.values()),
        sensor=SensorSpec(schedule=sensor.schedule, cdr_types=sensor.cdr_types, triggers=triggers),
    )

"""What JSON Schema can say about single values of the file; `values` decides.

Editors read YAML 1.2, in which dates are text.
"""

from typing import Any, Final

from autoflow.dates.intervals import IntervalEnds
from autoflow.dates.periods import MOST_PERIODS_AWAY, Every
from autoflow.dates.stencil import MAX_OFFSET_DAYS
from autoflow.parser.values import MEMORY_PATTERN, MOST_DAYS
from autoflow.settings.checks import MAX_SECONDS, MOST_DAYS_KEPT
from autoflow.specs import CDR_TYPES, RESERVED_NAMES, OnChange, Order, ReportFormat

TEXT: Final = {"type": "string", "pattern": r"^.*\S.*$"}
NOTEBOOK_FILE: Final = {"type": "string", "pattern": r"^(?!/|(.*/)?\.\./).*\.ipynb$"}
NOTEBOOK_LABELS: Final = {"pattern": r"^.*\S.*$", "not": {"enum": sorted(RESERVED_NAMES)}}
NULLABLE_TEXT: Final = {"type": ["string", "null"]}
# JavaScript's \w, unlike Python's, has no letters beyond ASCII, so this lists what a label cannot have.
LABEL: Final = {"type": "string", "pattern": r"^[^\s!-,/:-@\[-^`{-~]{1,60}$"}
SECONDS: Final = {"type": "number", "minimum": 0, "maximum": MAX_SECONDS}
POSITIVE_SECONDS: Final = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS}
DAYS: Final = {"type": "integer", "minimum": 0, "maximum": MOST_DAYS}
DAYS_KEPT: Final = {"type": "integer", "minimum": 1, "maximum": MOST_DAYS_KEPT}
DATE: Final = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}
ENOUGH: Final = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"^(100|\d{1,2}|\d{1,2}\.\d{1,6})%$"}]
}
EVERY: Final = {"enum": [*map(str, Every), "sunday"]}
ORDER: Final = {"enum": [*map(str, Order)]}
ON_CHANGE: Final = {"enum": [*map(str, OnChange)]}
INTERVAL_ENDS: Final = {"enum": [*map(str, IntervalEnds)]}
CDR_TYPES_LIST: Final = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"enum": list(CDR_TYPES)}}
SOURCES: Final = {"type": "object", "additionalProperties": TEXT}
CHOICES: Final = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": "array", "minItems": 1, "items": {"type": ["string", "number", "boolean"]}},
}

MEMORY: Final = {"type": "string", "pattern": f"^{MEMORY_PATTERN}$"}
SECRETS: Final = {
    "type": "array",
    "minItems": 1,
    "uniqueItems": True,
    "items": {"type": "string", "pattern": r"^[A-Za-z_]\w*$"},
}
POOLS: Final = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}}

TIME: Final = {"type": "string", "pattern": r"^([01]?\d|2[0-3]):[0-5]\d$"}
NAMES: Final = {"anyOf": [TEXT, {"type": "array", "minItems": 1, "uniqueItems": True, "items": TEXT}]}

FORMAT: Final = {"enum": [*map(str, ReportFormat)]}
REPORT_FORMATS: Final = {"anyOf": [FORMAT, {"type": "array", "minItems": 1, "uniqueItems": True, "items": FORMAT}]}

_DAY: Final[list[dict[str, Any]]] = [
    DATE,
    {"type": "integer", "minimum": -MAX_OFFSET_DAYS, "maximum": MAX_OFFSET_DAYS},
    {
        "type": "object",
        "properties": {"period": {"type": "integer", "minimum": -MOST_PERIODS_AWAY, "maximum": MOST_PERIODS_AWAY}},
        "required": ["period"],
        "additionalProperties": False,
    },
]
_PAIR: Final = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"anyOf": _DAY}}
STENCIL: Final = {"type": "array", "minItems": 1, "items": {"anyOf": [*_DAY, _PAIR]}}

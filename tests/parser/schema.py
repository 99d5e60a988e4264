"""The JSON Schema of workflows.yml, applied to every file that the parser's tests read, as an editor would."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import jsonschema
import yaml

from autoflow.parser.json_schema import json_schema


class Yaml12(yaml.SafeLoader):
    """Reads YAML as editors do, by the core schema of YAML 1.2: dates are text, and only true and false booleans."""


Yaml12.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in {"null", "int", "float", "merge"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Yaml12.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false|True|False|TRUE|FALSE"), list("tTfF"))

UNSEEN = [
    # The meaning of text, and what only YAML 1.1 reads otherwise.
    r"is not a valid date|expected YYYY|cron string|unknown time zone|not a valid Python name|the number is too",
    r"YAML reads|YAML does not read|unsupported YAML tag|not 2016-01-01$|not 2\.0$|cannot be stored|infinite or NaN",
    # The whole file.
    r"aliases are expanded|merges are nested|alias refers|more than 500 entries|a parameter must be",
    # Several values together.
    r"duplicate|circular|not in cdr_types|starts after its end|is empty, because|it is before|gives the label",
    r"in 'parameters', too|missing parameter|uses this parameter|this parameter is automatic|has this label",
    r"unknown workflow|unknown pool|cannot be listed|is too little|cannot be combined",
    r"has an 'output' with the format|AUTOFLOW_NOTIFY_URLS",
    # Notebooks and other files.
    r"no file '|is not a file|cannot access|outside the inputs folder|is not a valid notebook|does not declare",
    r"has no cell tagged",
]
"""The mistakes that a JSON Schema cannot see."""


@cache
def validator() -> jsonschema.Draft7Validator:
    schema = json_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def mistakes(path: Path) -> list[str] | None:
    """Return what an editor reports; None if the file is not YAML."""
    try:
        content = Yaml12(path.read_bytes()).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError):
        return None
    return [f"{error.json_path}: {error.message}" for error in validator().iter_errors(content)]


def check_accepted(path: Path) -> None:
    """Fail if the schema refuses a file that the parser accepts."""
    assert mistakes(path) == [], path.read_text(encoding="utf-8")


def check_refused(path: Path, problems: Iterable[str]) -> None:
    """Fail if the schema accepts a file with mistakes that it should see."""
    assert mistakes(path) != [] or all(re.search("|".join(UNSEEN), problem) for problem in problems), problems

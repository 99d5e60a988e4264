"""A JSON Schema of the file, for editors: completion, descriptions, and most mistakes as one types."""

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema

from autoflow.parser.schemas import FileSchema, Key, Keys

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The version of JSON Schema that YAML language servers understand best."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of workflows.yml.

    It accepts every valid file. It cannot see mistakes that concern several parts of the file, or other files.
    """
    return {"$schema": DRAFT, "title": "AutoFlow's workflows.yml", **_mapping(FileSchema)}


def _mapping(keys: type[Keys]) -> dict[str, Any]:
    fields = {name: field for name, field in _fields(keys).items() if isinstance(field, Key)}
    return {
        "type": "object",
        "properties": {name: _key(field) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if field.required],
        "additionalProperties": False,
        **keys.together,
    }


def _fields(keys: type[Schema]) -> Mapping[str, object]:
    return keys().fields


def _key(field: Key) -> dict[str, Any]:
    form = _resolved(field.form)
    # An optional key without a value counts as absent.
    return {"description": field.about, **(form if field.required else _or_null(form))}


def _or_null(form: dict[str, Any]) -> dict[str, Any]:
    if "enum" in form:
        return {**form, "enum": [*form["enum"], None]}
    if isinstance(form.get("type"), str):
        return {**form, "type": [form["type"], "null"]}
    return {**form, "anyOf": [*form["anyOf"], {"type": "null"}]}


def _resolved(form: Any) -> Any:
    """Return `form` with the schema of each mapping in place of the class of its keys."""
    if isinstance(form, Mapping):
        return _mapping(form["schema"]) if "schema" in form else {key: _resolved(each) for key, each in form.items()}
    return [_resolved(each) for each in form] if isinstance(form, list) else form

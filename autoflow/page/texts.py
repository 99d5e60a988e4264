"""Texts of the page: without secrets, and as JSON."""

import json
from collections.abc import Mapping
from typing import Any

from autoflow.notebooks.redaction import Redaction


def without_secrets(value: Any, redaction: Redaction) -> Any:
    """Return `value` with secrets removed from its strings; keys stay, even if one happens to equal a secret."""
    if isinstance(value, str):
        return redaction.of_text(value)
    if isinstance(value, Mapping):
        return {key: without_secrets(item, redaction) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item, redaction) for item in value]
    return value


def as_json(value: Any) -> str:
    """Return `value` as compact JSON without a "<", which could end the script element that contains it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")

"""Remove secrets from texts and notebooks."""

import html
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, cast

import nbformat

from autoflow.utils import SHORTEST_SECRET, redact

_ANSI = r"(?:\x1b\[[0-9;?]*[ -/]*[@-~])"

_ANSI_CODE = re.compile(_ANSI)

SHORTEST_WRAPPED = 40
"""Secrets of at least this many characters are also found if they are wrapped over several lines."""

_PLAIN_KEYS = frozenset({"cell_type", "id", "execution_count", "output_type", "name"})
"""Keys of a cell or an output whose values the notebook format defines; a secret may look like one of them."""


def without_ansi_codes(text: str) -> str:
    """Return `text` without ANSI escape codes."""
    return _ANSI_CODE.sub("", text)


class Redaction:
    """Removes secrets in all their forms: as they are, and as written in HTML, JSON, Python or a URL."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _forms(secret)}
        # The longest first: one may contain another.
        self._forms = sorted(forms, key=len, reverse=True)

    def of_text(self, text: str) -> str:
        """Return `text` without the secrets."""
        text = redact(text, self._forms)
        if self._forms and "\x1b" in text:
            text = self._coloured.sub("[secret]", text)
        return self._without_wrapped(text) if self._long_forms and "\n" in text else text

    def of_value(self, value: Any) -> Any:
        """Return a JSON `value` without the secrets, even if one is spread over a list of lines."""
        if isinstance(value, str):
            return self.of_text(value)
        if isinstance(value, Mapping):
            return {self.of_text(key): self.of_value(item) for key, item in value.items()}
        if isinstance(value, list):
            return self._of_list(value)
        return value

    def of_notebook(self, notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
        """Return a valid copy of `notebook` without the secrets."""
        cells = [self._of_part(cell) for cell in notebook.cells]
        clean = {**notebook, "metadata": self.of_value(notebook.metadata), "cells": cells}
        return cast("nbformat.NotebookNode", nbformat.from_dict(clean))

    @cached_property
    def _long_forms(self) -> list[str]:
        return [form for form in self._forms if len(form) >= SHORTEST_WRAPPED]

    def _without_wrapped(self, text: str) -> str:
        """Return `text` without secrets that are wrapped over several lines."""
        in_one_line = "".join(text.split())
        for form in self._long_forms:
            if form in in_one_line:
                text = re.sub(r"\s*".join(map(re.escape, form)), "[secret]", text)
        return text

    @cached_property
    def _coloured(self) -> re.Pattern[str]:
        # Each character may have a colour of its own, like the tokens of a source in a traceback.
        return re.compile("|".join(f"{_ANSI}*".join(map(re.escape, form)) for form in self._forms))

    def _of_part(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """Return a cell or an output without secrets in the values that authors or kernels have set."""
        clean = {key: value if key in _PLAIN_KEYS else self.of_value(value) for key, value in part.items()}
        if "outputs" in part:
            clean["outputs"] = [self._of_part(output) for output in part["outputs"]]
        return clean

    def _of_list(self, items: list[Any]) -> list[Any]:
        clean = [self.of_value(item) for item in items]
        if not all(isinstance(item, str) for item in clean):
            return clean
        for separator in ("", "\n"):
            whole = separator.join(clean)
            if (redacted := self.of_text(whole)) != whole:
                return [redacted]
        return clean


def _forms(secret: str) -> set[str]:
    return {
        secret,
        html.escape(secret),
        html.escape(secret, quote=False),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        urllib.parse.quote(secret),
        urllib.parse.quote(secret, safe=""),
    }

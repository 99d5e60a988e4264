"""Remove secrets from texts and notebooks."""

import base64
import binascii
import html
import html.entities
import json
import re
import string
import urllib.parse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import nbformat

from autoflow.utils import SHORTEST_SECRET, redact

_ANSI = r"(?:\x1b\[[0-9;?]*[ -/]*[@-~])"

_ANSI_CODE = re.compile(_ANSI)

_TAG = r"<[^<>]*>"

_JOINT = "\ufdd0"
"""Stands between two outputs of one stream. Unicode reserves it for such a purpose: no text has it."""

_UNSEEN = "\x00\u00ad\u200b\u200c\u200d\u2060\ufeff" + _JOINT
"""Characters without a width."""

_UNSEEN_NAMES = "&(?:shy|ZeroWidthSpace|zwj|zwnj|NoBreak);|&#(?:173|8203|8204|8205|8288);"
_HIDDEN = rf"{_ANSI}|{_TAG}|[*_~`{_UNSEEN}]|{_UNSEEN_NAMES}"
"""What can stand between the characters of a secret unseen: colours, tags and emphasis."""

_WORDLESS = dict.fromkeys(map(ord, string.punctuation + string.whitespace + _UNSEEN + "\x1b"))

_ENCODED = re.compile(r"[\x1b&\\%<*~`\n" + _UNSEEN + "]|_.*_", re.DOTALL)
"""Characters of a text that may have a secret in it in another form than as it is."""

_ESCAPED = re.compile(r"\\(?:u00|x)([0-9a-fA-F]{2})")

_CHARACTER = r"&#?\w+;|(?:%[0-9a-fA-F]{2})+|\\(?:u00|x)[0-9a-fA-F]{2}|."
_UNIT = re.compile(rf"(?P<hidden>{_ANSI}|{_UNSEEN_NAMES})|{_CHARACTER}", re.DOTALL)
_UNIT_OR_TAG = re.compile(rf"(?P<hidden>{_ANSI}|{_UNSEEN_NAMES}|{_TAG})|{_CHARACTER}", re.DOTALL)
"""One character as it is usually written, or something hidden."""

_UNFINISHED_UNIT = re.compile(
    r"(?:&#?\w{0,31}|%[0-9a-fA-F]?|\\(?:u0{0,2}|x)?[0-9a-fA-F]?|\x1b(?:\[[0-9;?]*)?|<[^<>]{0,1000})\Z"
)
"""The beginning of a unit of several characters."""

_SVG = re.compile(r"(data:image/svg\+xml;base64,)([A-Za-z0-9+/=]+)")

_LONGEST_CHARACTER = 20
"""The most that one character takes, as it is usually written: with colour codes or in tags."""

SHORTEST_WRAPPED = 40
"""Secrets of at least this many characters are also found if they are wrapped over several lines."""

_LEAST_OF_LONG = 3
"""How much of the beginning of such a secret a text has to end with to be taken for it, in characters."""

_PLAIN_KEYS = frozenset({"cell_type", "id", "execution_count", "output_type", "name"})
"""Keys of a cell or an output whose values the notebook format defines; a secret may look like one of them."""


def without_ansi_codes(text: str) -> str:
    """Return `text` without ANSI escape codes."""
    return _ANSI_CODE.sub("", text)


class Redaction:
    """Removes secrets in all their forms: as they are, and as written in HTML, markdown, JSON, Python or a URL."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({each for each in secrets if len(each) >= SHORTEST_SECRET}, key=len, reverse=True)
        self._forms = {secret: sorted(_forms(secret), key=len, reverse=True) for secret in self._secrets}
        self._patterns: dict[str, re.Pattern[str]] = {}

    def of_text(self, text: str) -> str:
        """Return `text` without the secrets."""
        if not self._secrets:
            return text
        if "image/svg+xml;base64," in text:
            text = _SVG.sub(lambda found: found[1] + self._of_base64(found[2]), text)
        is_encoded, words = _ENCODED.search(text) is not None, ""
        # The longest first, and each in all its forms: one may contain another.
        for secret in self._secrets:
            clean = redact(text, self._forms[secret])
            if is_encoded:
                words = _all_words(clean) if clean != text or not words else words
                clean = self._without_encoded(clean, secret, words)
            text, words = clean, words if clean == text else ""
        return text

    def is_in(self, value: Any) -> bool:
        """Return whether a JSON `value` has a secret in it, also in a key, or as a number."""
        if isinstance(value, int | float):
            return str(value) in self._secrets
        if isinstance(value, Mapping):
            return any(self.is_in(key) or self.is_in(item) for key, item in value.items())
        if isinstance(value, list | tuple):
            return any(map(self.is_in, value)) or self.of_value(list(value)) != list(value)
        return isinstance(value, str) and self.of_text(value) != value

    def of_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a workflow without the secrets, also where one is a number."""
        return {
            self.of_text(name): "[secret]" if self.is_in(value) and not isinstance(value, str) else self.of_value(value)
            for name, value in parameters.items()
        }

    def of_cut_text(self, text: str, mark: str = "...") -> str:
        """Return `text` without the secrets, and without the beginnings of secrets that were cut before `mark`."""
        pieces = self.of_text(text).split(mark)
        return mark.join([*map(self._without_beginning, pieces[:-1]), pieces[-1]])

    def beginning(self, text: str, most: int) -> str:
        """Return at most `most` characters from the beginning of `text`, without secrets or parts of one."""
        return self.kept(text[:most], text[most : most + self.margin])

    def kept(self, text: str, rest: str) -> str:
        """Return `text` without secrets; `rest` is what followed it, up to `margin`, where it was cut."""
        split = max(0, len(text) - 2 * self.margin)
        head, tail = text[:split], text[split:]
        clean = self.of_text(tail + rest)
        if self.margin and len(rest) >= self.margin:
            clean = clean[: -self.margin]  # it may end with a part of a secret
        return self.of_text(head + clean[: len(tail)])

    @cached_property
    def margin(self) -> int:
        """The length of the longest secret, as it is usually written, in characters."""
        return _LONGEST_CHARACTER * len(self._secrets[0]) if self._secrets else 0

    def unfinished(self, text: str) -> int:
        """Return how many characters at the end of `text`, which has no secrets, may be the beginning of one.

        A few characters do not count where they are a small part of a secret, because most texts end like that.
        """
        tail = text.rpartition("[secret]")[2][-self.margin :] if self.margin else ""
        half = _UNFINISHED_UNIT.search(tail)
        found = _beginning_at_end(self._forms, tail)
        if half:
            whole = _beginning_at_end(self._forms, tail[: half.start()])
            found = min(found, whole if whole < half.start() else found)
        return len(tail) - found

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

    def _without_encoded(self, text: str, secret: str, words: str) -> str:
        """Return `text`, which has these `words`, without a secret that is written in another way but shown as is."""
        # Most texts have none. To build the pattern and to search with it both take long.
        if _words(secret) in words or secret.translate(_WORDLESS) in words:
            return self._pattern(secret).sub("[secret]", text)
        return text

    def _without_beginning(self, text: str) -> str:
        """Return `text` without the beginning of a secret at its end."""
        for form in (form for forms in self._forms.values() for form in forms):
            for length in range(min(len(form), len(text)), SHORTEST_SECRET - 1, -1):
                if text.endswith(form[:length]):
                    return f"{text[:-length]}[secret]"
        return text

    def _pattern(self, secret: str) -> re.Pattern[str]:
        if secret not in self._patterns:
            hidden = rf"(?:\s|{_HIDDEN})*" if len(secret) >= SHORTEST_WRAPPED else f"(?:{_HIDDEN})*"
            self._patterns[secret] = re.compile(hidden.join(map(_written, secret)))
        return self._patterns[secret]

    def _of_base64(self, encoded: str) -> str:
        """Return a text in base64 without the secrets in that text."""
        try:
            content = base64.b64decode(encoded).decode()
        except (binascii.Error, UnicodeDecodeError):
            return encoded
        clean = self.of_text(content)
        return encoded if clean == content else base64.b64encode(clean.encode()).decode()

    def _of_part(self, part: Mapping[str, Any]) -> dict[str, Any]:
        """Return a cell or an output without secrets in the values that authors or kernels have set."""
        clean = {key: value if key in _PLAIN_KEYS else self.of_value(value) for key, value in part.items()}
        if "attachments" in part:
            clean["attachments"] = {name: self._of_pictures(bundle) for name, bundle in clean["attachments"].items()}
        if "outputs" in part:
            clean["outputs"] = [self._of_part(output) for output in self._of_streams(part["outputs"])]
        return clean

    def _of_streams(self, outputs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the outputs of a cell without secrets that begin in one output of a stream and end in a later one."""
        found = list(outputs)
        for name in ("stdout", "stderr"):
            places = [place for place, output in enumerate(found) if output.get("name") == name]
            if len(places) > 1:
                texts = self._of_texts(["".join(found[place]["text"]) for place in places])
                for place in places:
                    found[place] = {**found[place], "text": texts.pop(0) if texts else ""}
        return found

    def _of_pictures(self, bundle: Mapping[str, Any]) -> dict[str, Any]:
        """Return an attachment; a drawing is text in base64."""
        return {
            kind: self._of_base64(content) if kind == "image/svg+xml" and isinstance(content, str) else content
            for kind, content in bundle.items()
        }

    def _of_list(self, items: list[Any]) -> list[Any]:
        if not all(isinstance(item, str) for item in items):
            return [self.of_value(item) for item in items]
        return self._of_texts(items)

    def _of_texts(self, texts: Sequence[str]) -> list[str]:
        """Return the texts without the secrets; they are fewer if a secret begins in one and ends in a later one."""
        return self.of_text(_JOINT.join(texts)).split(_JOINT) if texts else []


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


def _beginning_at_end(forms_of_secrets: Mapping[str, Iterable[str]], text: str) -> int:
    """Return where the beginning of a secret starts with which `text` ends; the length of `text` if it has none."""
    readings = [_reading(text, pattern) for pattern in (_UNIT, _UNIT_OR_TAG)]
    line, found = text.rfind("\n") + 1, len(text)
    for secret, forms in forms_of_secrets.items():
        is_short = len(secret) < SHORTEST_WRAPPED
        least = 1 if is_short else SHORTEST_SECRET if text[-1:].isspace() else _LEAST_OF_LONG
        found = min(found, len(text) - max(_overlap(text, form, least) for form in forms))
        for words, starts in readings:
            length = _overlap(words, secret.translate(_WORDLESS), least)
            if length and not (is_short and starts[-length] < line):
                found = min(found, starts[-length])
    return found


def _reading(text: str, pattern: re.Pattern[str]) -> tuple[str, list[int]]:
    """Return the letters and digits that a reader sees in `text`, and where each of them is written."""
    units = [(unit.start(), _seen(unit)) for unit in pattern.finditer(text)]
    return "".join(seen for _, seen in units), [start for start, seen in units for _ in seen]


def _overlap(text: str, wanted: str, least: int) -> int:
    """Return how long the longest part of `text` at its end is with which `wanted` begins; 0 if under `least`."""
    lengths = range(min(len(wanted), len(text)), least - 1, -1)
    return next((length for length in lengths if text.endswith(wanted[:length])), 0)


def _seen(unit: re.Match[str]) -> str:
    """Return the letters and digits that a reader sees in one unit."""
    if unit["hidden"]:
        return ""
    return _words(unit[0]) if len(unit[0]) > 1 else unit[0].translate(_WORDLESS)


def _all_words(text: str) -> str:
    """Return the words in `text`, with those in the attributes of tags and without them: a secret may be in either."""
    return _words(text) + ("\n" + _words(re.sub(_TAG, "", text)) if "<" in text else "")


def _words(text: str) -> str:
    """Return the letters and digits that a reader sees in `text`, however it is encoded."""
    text = _ANSI_CODE.sub("", text) if "\x1b" in text else text
    text = html.unescape(text)
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "\\" in text else text
    return (urllib.parse.unquote(text) if "%" in text else text).translate(_WORDLESS)


_NAMES: Mapping[str, list[str]] = defaultdict(list)
for _name, _character in html.entities.html5.items():
    if _name.endswith(";"):
        _NAMES[_character].append(_name)


def _written(character: str) -> str:
    """Return a pattern for a character as it is, escaped as in markdown, JSON or JavaScript, in HTML or in a URL."""
    number = ord(character)
    ways = [rf"\\?{re.escape(character)}", f"&#0*{number};?", f"&#[xX]0*(?i:{number:x});?"]
    ways += [f"&{name}" for name in _NAMES.get(character, ())]
    if number < 256:
        ways.append(rf"\\(?:u00|x)(?i:{number:02x})")
    ways.append("".join(f"%(?i:{byte:02x})" for byte in character.encode("utf-8", "replace")))
    return f"(?:{'|'.join(ways)})"

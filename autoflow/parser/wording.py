"""How messages show a value, and what they propose for a word that is misspelt."""

import datetime as dt
import difflib
from collections.abc import Iterable

_LONGEST_SHOWN = 80
_LONGEST_WORD = 100


def show(value: object) -> str:
    """Write a value for a message: as it would stand in the file, on one line, and not all of it if it is long."""
    text = _as_yaml(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 5]}...{text[-1]}"


def _as_yaml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_as_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_as_yaml(key)}: {_as_yaml(item)}' for key, item in value.items())}}}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, dt.date) else repr(value)


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the one of `known` that `word` is likely to stand for, None if none is alike to the degree `cutoff`."""
    near = difflib.get_close_matches(word[:_LONGEST_WORD], sorted(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return the end of a message that proposes the nearest of `known`, empty if none is near."""
    near = nearest(word, known, cutoff=cutoff)
    return f"; did you mean {near!r}?" if near else ""

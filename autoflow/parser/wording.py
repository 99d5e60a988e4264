"""Words of messages: a value as in the file, alternatives, and the likely meaning of a misspelt word."""

import difflib
from collections.abc import Iterable, Sequence

from autoflow.utils import as_yaml

_LONGEST_SHOWN = 80
_LONGEST_WORD = 100


def show(value: object) -> str:
    """Write a value for a message: as in the file, on one line, shortened if it is long."""
    text = as_yaml(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 5]}...{text[-1]}"


def alternatives(words: Sequence[str]) -> str:
    """Write words as in "calls, sms or mds"."""
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the word of `known` that `word` probably means; None if none reaches the similarity `cutoff`."""
    near = difflib.get_close_matches(word[:_LONGEST_WORD], sorted(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return the end of a message that suggests the nearest of `known`; empty if none is near."""
    near = nearest(word, known, cutoff=cutoff)
    return f"; did you mean {near!r}?" if near else ""

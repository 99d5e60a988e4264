"""Hints for errors of notebooks: what to do about queries that FlowKit never finishes.

FlowMachine, FlowKit's query server, keeps the state of each query in Redis, where no rerun changes it.
"""

import re
from collections.abc import Iterable

TIMEOUT = "Timeout"
"""The class of the error of a notebook that took too long."""

_ERRORED = re.compile(
    r"status '?errored\b|Query with id '[^']*' finished with an error|\bquery\b[^.\n]*\berrored\b", re.IGNORECASE
)
"""How flowclient and FlowAPI describe a query that is in the state 'errored'."""

_ERRORED_HINT = (
    "FlowMachine remembers this query as errored, and each rerun fails in the same way; "
    "reset the query's state, or FlowMachine's Redis, then run 'autoflow retry'"
)
_EXECUTING_HINT = (
    "if it was waiting for a query of FlowKit: a query whose FlowMachine was killed stays 'executing' forever; "
    "reset the query's state, or FlowMachine's Redis, then run 'autoflow retry'"
)


def with_hint(error_class: str, message: str, code: Iterable[str]) -> str:
    """Return `message`, with a hint on its first line if a query of FlowKit is stuck.

    `code` is that of the notebook's cells.
    """
    if error_class == TIMEOUT:
        hint = _EXECUTING_HINT if any("flowclient" in source for source in code) else ""
    else:
        hint = _ERRORED_HINT if _ERRORED.search(message) else ""
    return with_note(message, hint)


def with_note(message: str, note: str) -> str:
    """Return `message` with a note, unless that is empty, on its first line."""
    first, newline, rest = message.partition("\n")
    return f"{first} ({note}){newline}{rest}" if note else message

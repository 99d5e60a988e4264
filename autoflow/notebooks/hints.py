"""Hints for errors of notebooks: queries that FlowKit refuses or never finishes, and names that libraries dropped.

FlowMachine, FlowKit's query server, keeps the state of each query in Redis, where no rerun changes it.
"""

import re
from collections.abc import Iterable

from autoflow.notebooks.dropped_names import replacement

TIMEOUT = "Timeout"
"""The class of the error of a notebook that took too long."""

_ERRORED = re.compile(
    r"status '?errored\b|Query with id '[^']*' finished with an error|\bquery\b[^.\n]{0,200}\berrored\b", re.IGNORECASE
)
"""How flowclient and FlowAPI describe a query that is in the state 'errored'."""

_REFUSED = "Could not parse query spec."
"""How FlowAPI answers a query over no days, among others."""

_REFUSED_HINT = (
    "FlowAPI refuses a query over no days, for example; flowclient's intervals are half-open, so a notebook that "
    "passes date_ranges to flowclient needs 'interval_ends: excluded' in workflows.yml"
)

_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception): .+$", re.MULTILINE)
"""The line of a traceback with the class and the message of an exception."""

_SHADOWED = re.compile(r"module 'autoflow' has no attribute '(?:check|skip)'")
_SHADOWED_HINT = (
    "another module called 'autoflow' was imported; "
    "if there is a file or folder of that name beside the notebook, rename it"
)

LONGEST_BEFORE_HINT = 300
"""The longest beginning of an error before a hint, in characters: messages and pages cut long errors."""

_ERRORED_HINT = (
    "FlowMachine remembers this query as errored, and each rerun fails in the same way; "
    "reset the query's state, or FlowMachine's Redis, then run 'autoflow retry'"
)
_EXECUTING_HINT = (
    "if it was waiting for a query of FlowKit: a query whose FlowMachine was killed stays 'executing' forever; "
    "reset the query's state, or FlowMachine's Redis, then run 'autoflow retry'"
)


def with_hint(
    error_class: str, message: str, code: Iterable[str], *, has_own_python: bool = True, traceback: str = ""
) -> str:
    """Return `message`, with a hint on its first line if it is known what to do; a long line is cut before it.

    `code` is that of the notebook's cells, and `has_own_python` whether they run in AutoFlow's own Python. The
    `traceback` also names the errors that have caused this one. The message must have no secrets: a cut one would not
    be found later.
    """
    if error_class == TIMEOUT:
        hint = _EXECUTING_HINT if any("flowclient" in source for source in code) else ""
    elif _SHADOWED.search(message):
        hint = _SHADOWED_HINT
    elif _REFUSED in message:
        hint = _REFUSED_HINT
    elif any(map(_ERRORED.search, (message, *_EXCEPTION.findall(traceback)))):
        hint = _ERRORED_HINT
    else:
        hint = replacement(message, has_own_python=has_own_python)
    return with_note(message, hint)


def with_note(message: str, note: str) -> str:
    """Return `message` with a note, unless that is empty, on its first line; a long line is cut before it."""
    if not note:
        return message
    first, newline, rest = message.partition("\n")
    if len(first) > LONGEST_BEFORE_HINT:
        first = f"{first[:LONGEST_BEFORE_HINT]}..."
    return f"{first} ({note}){newline}{rest}"

"""Hints for errors of notebooks: what to do about queries that FlowKit never finishes.

FlowMachine, FlowKit's query server, keeps the state of each query in Redis, where no rerun changes it.
"""

import re
from collections.abc import Iterable

TIMEOUT = "Timeout"
"""The class of the error of a notebook that took too long."""

_ERRORED = re.compile(
    r"status '?errored\b|Query with id '[^']*' finished with an error|\bquery\b[^.\n]{0,200}\berrored\b", re.IGNORECASE
)
"""How flowclient and FlowAPI describe a query that is in the state 'errored'."""

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


def with_hint(error_class: str, message: str, code: Iterable[str]) -> str:
    """Return `message`, with a hint on its first line if a query of FlowKit is stuck; a long line is cut before it.

    `code` is that of the notebook's cells. The message must have no secrets: a cut one would not be found later.
    """
    if error_class == TIMEOUT:
        hint = _EXECUTING_HINT if any("flowclient" in source for source in code) else ""
    else:
        hint = _ERRORED_HINT if _ERRORED.search(message) else ""
    if not hint:
        return message
    first, newline, rest = message.partition("\n")
    if len(first) > LONGEST_BEFORE_HINT:
        first = f"{first[:LONGEST_BEFORE_HINT]}..."
    return f"{first} ({hint}){newline}{rest}"

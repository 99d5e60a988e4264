"""Explain invalid YAML to users who do not know YAML's grammar."""

import yaml

from autoflow.parser.loader import TooDeepError


def explain(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    """Return the line, counted from 1, and what is wrong there."""
    here = _line(error.problem_mark or error.context_mark)
    if isinstance(error, TooDeepError):
        return here, str(error.problem)
    start = _line(error.context_mark or error.problem_mark)
    context, problem = str(error.context), str(error.problem or error.context)
    if "while scanning a quoted scalar" in context and "end of stream" in problem:
        return start, "this quote is never closed"
    if "could not find expected ':'" in problem:
        return start, "missing colon after this key"
    if context in {"while parsing a flow sequence", "while parsing a flow mapping"}:
        opening, closing = "[]" if context.endswith("sequence") else "{}"
        return here, f"missing ',' or '{closing}' before this; line {start} has the opening '{opening}'"
    return here, _explain_character(context, problem) or _explain_structure(context, problem)


def _explain_character(context: str, problem: str) -> str | None:
    """Return what is wrong with a character that has a meaning in YAML; None if that is not the problem."""
    if "while scanning an alias" in context:
        return "text that starts with '*' must be quoted, as in schedule: '* * * * *'"
    if "found undefined alias" in problem:
        name = problem.split("'")[1]
        return f"unknown alias '*{name}'; text that starts with '*' must be quoted"
    if "'\\t'" in problem:
        return "a tab is not allowed here; indent with spaces"
    if "cannot start any token" in problem:
        character = problem.split("'")[1]
        hint = ", as in schedule: '@daily'" if character == "@" else ""
        return f"text that starts with '{character}' must be quoted{hint}"
    if "unknown escape character" in problem:
        return "unknown escape sequence; put text with backslashes in single quotes"
    return None


def _explain_structure(context: str, problem: str) -> str:
    if "expected a single document" in context:
        return "a second YAML document starts here; expected only one"
    if "mapping values are not allowed" in problem:
        return "a key is not allowed here; put a space after each colon, and quote text that contains a colon"
    if "expected <block end>" in problem and ("start>" in problem or "entry>" in problem or "scalar>" in problem):
        return "the indentation does not match the lines before"
    if "expected <block end>" in problem:
        return f"unexpected {problem.rpartition('found ')[2]}"
    return f"invalid YAML: {problem}"


def _line(mark: yaml.Mark | None) -> int:
    return mark.line + 1 if mark else 1

"""What is wrong with a text that is no YAML, in words for people who have not read YAML's grammar."""

import yaml


def explain(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    """Return the line, counted from 1, and what is wrong there."""
    here = _line(error.problem_mark or error.context_mark)
    start = _line(error.context_mark or error.problem_mark)
    context, problem = str(error.context), str(error.problem or error.context)
    if "while scanning a quoted scalar" in context and "end of stream" in problem:
        return start, "the quote that opens here is never closed"
    if "could not find expected ':'" in problem:
        return start, "a colon is missing after this key"
    if context in {"while parsing a flow sequence", "while parsing a flow mapping"}:
        opening, closing = "[]" if context.endswith("sequence") else "{}"
        return here, f"a ',' or a '{closing}' is missing before this, to go with the '{opening}' of line {start}"
    return here, _explain_character(context, problem) or _explain_structure(context, problem)


def _explain_character(context: str, problem: str) -> str | None:
    """Tell what is wrong with a character that means something in YAML; None if none is to blame."""
    if "while scanning an alias" in context:
        return "text that starts with '*' has to be in quotes, as in schedule: '* * * * *'"
    if "found undefined alias" in problem:
        name = problem.split("'")[1]
        return f"no '&{name}' stands before this '*{name}'; text that starts with '*' has to be in quotes"
    if "'\\t'" in problem:
        return "a tab cannot stand here; indent with spaces"
    if "cannot start any token" in problem:
        character = problem.split("'")[1]
        hint = ", as in schedule: '@daily'" if character == "@" else ""
        return f"text that starts with '{character}' has to be in quotes{hint}"
    if "unknown escape character" in problem:
        return "a backslash in double quotes means something to YAML; use single quotes"
    return None


def _explain_structure(context: str, problem: str) -> str:
    if "expected a single document" in context:
        return "a second YAML document starts here; one is expected"
    if "mapping values are not allowed" in problem:
        return "a key cannot stand here; put a space after each colon, and text that has a colon in it in quotes"
    if "expected <block end>" in problem and ("start>" in problem or "entry>" in problem or "scalar>" in problem):
        return "this does not fit the lines before; check how far it is indented"
    if "expected <block end>" in problem:
        return f"{problem.rpartition('found ')[2]} is not expected here"
    return f"not valid YAML: {problem}"


def _line(mark: yaml.Mark | None) -> int:
    return mark.line + 1 if mark else 1

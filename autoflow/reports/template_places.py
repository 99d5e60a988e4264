"""Find the line of a template that is wrong, and say what to do about it."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from jinja2 import TemplateAssertionError, TemplateNotFound, TemplateSyntaxError, UndefinedError

from autoflow.errors import ReportError

_LINE = re.compile(
    r"^(?:asciidoctor-pdf failed: )?asciidoctor: (\w+): (?:report\.adoc: line (\d+): )?(.*)$", re.MULTILINE
)
_HINT_AT_PICTURES = "put the picture beside the template, and write image::{{ 'name.png' | beside }}[]"
_TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}")


def explained(error: Exception, template: Path, files: Collection[str]) -> str:
    """Return the place of a mistake in `template`, what is wrong, and what to do.

    `files` are the paths of all templates that were used.
    """
    if isinstance(error, TemplateSyntaxError):
        place = f"{error.filename or template}:{error.lineno}"
    else:
        place = _place(error, template, files)
    return f"{place}: {' '.join(_what_and_hint(error).split())}"


def _what_and_hint(error: Exception) -> str:
    message = str(error).rstrip(".")
    if isinstance(error, TemplateNotFound):
        return f"there is no template '{error.name}': put it beside this one, or correct its name"
    if isinstance(error, TemplateAssertionError):
        return f"{(error.message or '').rstrip('.')}: correct the name; Jinja's and nbconvert's filters are available"
    if isinstance(error, TemplateSyntaxError):
        return f"{(error.message or 'syntax error').rstrip('.')}: correct the template"
    if isinstance(error, UndefinedError):
        return f"{message}: correct the name, or write {{{{ … | default('') }}}}"
    if isinstance(error, FileNotFoundError):
        return f"there is no file {error.filename}: put it there, or correct its name"
    return f"{type(error).__name__}: {message}: correct the template"


def _place(error: Exception, template: Path, files: Collection[str]) -> str:
    """Return the file and line of the innermost of the templates in `files` that raised `error`."""
    place, traceback = str(template), error.__traceback__
    while traceback is not None:
        if (file := traceback.tb_frame.f_code.co_filename) in files:
            place = f"{file}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


def refused(error: ReportError, document: str, template: Path) -> ReportError:
    """Return `error` of asciidoctor about `document` with the lines of `template` that it concerns."""
    messages = complaints(str(error), document, template)
    return ReportError("; ".join(messages), is_death=error.is_death) if messages else error


def complaints(messages: str, document: str, template: Path) -> tuple[str, ...]:
    """Return each of asciidoctor's messages about `document` once, with the line of `template` that it concerns."""
    lines = document.split("\n")
    source = template.read_text(encoding="utf-8").split("\n")
    found = []
    for _, number, what in _LINE.findall(messages):
        line = _origin(lines[: int(number)], source) if number else _line_with(what.rpartition(": ")[2], source)
        hint = _HINT_AT_PICTURES if what.startswith("image ") else "correct the asciidoc that the template writes"
        found.append(f"{template}{f':{line}' if line else ''}: asciidoctor: {what}: {hint}")
    return tuple(dict.fromkeys(found))


def _origin(lines: Sequence[str], source: Sequence[str]) -> int:
    """Return the number of the line in `source` that wrote the last of `lines`, or a line before; 0 if none did."""
    patterns = {number: pattern for number, line in enumerate(source, 1) if (pattern := _pattern(line))}
    for line in reversed(lines):
        for number, pattern in patterns.items():
            if pattern.fullmatch(line.strip()):
                return number
    return 0


def _line_with(name: str, source: Sequence[str]) -> int:
    return next((number for number, line in enumerate(source, 1) if name in line), 0)


def _pattern(line: str) -> re.Pattern[str] | None:
    """Return the pattern of what a line of a template writes; None if it writes only what tags print."""
    static = _TAG.split(line.strip())
    return re.compile(".*".join(map(re.escape, static))) if "".join(static).strip() else None

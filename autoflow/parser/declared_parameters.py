"""What a notebook's file says of its parameters."""

import json
import keyword
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat.validator import iter_validate

from autoflow.parser.wording import did_you_mean

PARAMETERS_TAG = "parameters"


@dataclass(frozen=True)
class DeclaredParameters:
    """What a notebook says of its parameters.

    `names` is None where the names cannot be told, because the notebook's language is not one that papermill reads.
    `has_cell` is whether a cell is tagged `parameters`.
    """

    names: frozenset[str] | None
    has_cell: bool

    def problem(self, parameter: str) -> str | None:
        """Tell why `parameter` cannot be passed to the notebook; None if it can, or if that cannot be told."""
        if self.names is None:
            return None
        if not parameter.isidentifier() or keyword.iskeyword(parameter):
            return "a parameter of a Python notebook has to be a valid Python name"
        if not self.has_cell or parameter in self.names:
            return None
        return (
            f"the notebook does not declare this in its cell tagged 'parameters'{did_you_mean(parameter, self.names)}"
        )


def has_parameters_cell(path: Path) -> bool:
    """Check that the file at `path` is a notebook, and tell whether one of its cells is tagged `parameters`.

    Raises
    ------
    ValueError
        If it is not a notebook, or cannot be read; the message says why, in the words that follow a file's name.

    """
    notebook = _read_json(path)
    if not isinstance(notebook, dict) or not isinstance(notebook.get("nbformat"), int):
        raise ValueError("is not a notebook: its JSON has no 'nbformat'")  # noqa: TRY004 - it is the file's content
    if problem := next(_format_problems(notebook), None):
        raise ValueError(f"is not a valid notebook: {problem}")
    return any(PARAMETERS_TAG in _tags(cell) for cell in notebook.get("cells", []))


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError("is not a notebook: it is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise ValueError("is not a notebook: it is not JSON") from error


def _format_problems(notebook: Mapping[str, Any]) -> Iterator[str]:
    # Cell ids are mended as a notebook is read: in format 4.4 they are not looked at.
    minor = notebook.get("nbformat_minor", 0)
    minor = min(minor, 4) if isinstance(minor, int) and notebook["nbformat"] == nbformat.current_nbformat else minor
    try:
        for error in iter_validate(notebook, version=notebook["nbformat"], version_minor=minor, relax_add_props=True):
            yield str(error).splitlines()[0][:200]
    except (ImportError, TypeError, AttributeError):
        yield f"format {notebook['nbformat']}.{minor} is not known"


def _tags(cell: Mapping[str, Any]) -> list[str]:
    tags: list[str] = cell["metadata"].get("tags", [])
    return tags

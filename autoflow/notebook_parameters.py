"""The inputs folder: whether a file is there, whether it is a notebook, and what that declares."""

import datetime as dt
import difflib
import json
import keyword
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import nbformat
from nbformat.validator import iter_validate

InspectNotebook: TypeAlias = Callable[[Path], frozenset[str] | None]
"""Returns the names of the parameters that a notebook declares, or None where that cannot be told."""

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


class InputsFolder:
    """The folder with the notebooks and templates; what a notebook declares is looked at once for each parse."""

    def __init__(self, path: Path, inspect_notebook: InspectNotebook) -> None:
        self._path = path
        self._inspect_notebook = inspect_notebook
        self._declared: dict[Path, DeclaredParameters] = {}

    def file(self, name: str) -> Path:
        """Return the absolute path of the file called `name`; ValueError says why it cannot be used."""
        try:
            path = self._path / name
            if Path(name).is_absolute() or not path.resolve().is_relative_to(self._path.resolve()):
                raise ValueError(f"{show(name)} is outside of the inputs folder")
            if path.is_file():
                return path
            if path.exists():
                raise ValueError(f"{show(name)} is not a file")
            names = [entry.relative_to(self._path).as_posix() for entry in path.parent.glob("*") if entry.is_file()]
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{show(name)} cannot be looked at: {error}") from error
        raise ValueError(f"{show(name)} is not in the inputs folder{did_you_mean(name, names, cutoff=0.8)}")

    def notebook(self, name: str) -> Path:
        """Return the absolute path of the notebook called `name`; ValueError says why it cannot be used."""
        path = self.file(name)
        if path.suffix != ".ipynb":
            raise ValueError(f"{show(name)} is not a notebook: its name does not end in .ipynb")
        if path not in self._declared:
            try:
                has_cell = has_parameters_cell(path)
                self._declared[path] = DeclaredParameters(self._inspect_notebook(path), has_cell)
            except (ValueError, OSError) as error:
                raise ValueError(f"{show(name)} {error}") from error
        return path

    def declared(self, path: Path) -> DeclaredParameters:
        """Return what the notebook says of its parameters; `path` is one that `notebook` has returned."""
        return self._declared[path]


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


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the one of `known` that `word` is likely to stand for, None if none is alike to the degree `cutoff`."""
    near = difflib.get_close_matches(word[:100], sorted(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """Return the end of a message that proposes the nearest of `known`, empty if none is near."""
    near = nearest(word, known, cutoff=cutoff)
    return f"; did you mean {near!r}?" if near else ""


def show(value: object) -> str:
    """Write a value for a message: on one line, and not all of it if it is long."""
    if isinstance(value, dt.date):
        return value.isoformat()
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:75]}...{text[-1]}"  # noqa: PLR2004 - it is about a line's length


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

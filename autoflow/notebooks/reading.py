"""Read notebooks and the parameters they declare."""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nbformat
from nbformat.validator import iter_validate

from autoflow.kernels.kernel import PYTHON_KERNEL, is_installed
from autoflow.system.lean_imports import hidden

# papermill would import pyarrow for hdfs:// paths; our notebooks are files.
with hidden("pyarrow"):
    import papermill

PARAMETERS_TAG = "parameters"

_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LONGEST_REASON = 200


class InvalidNotebookError(ValueError):
    """The file is not a valid notebook; the message is the reason ("it is not valid JSON")."""


@dataclass(frozen=True)
class DeclaredParameters:
    """The parameters a notebook declares in its cell tagged `parameters`, and whether it has such a cell.

    `names` is None if papermill cannot read the notebook's language.
    """

    names: frozenset[str] | None
    has_cell: bool


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Read the notebook at `path`, in the newest format.

    Raises
    ------
    InvalidNotebookError
        If the file is not a valid notebook.
    OSError
        If it cannot be read.

    """
    content = _read_json(path)
    try:
        notebook = _converted(content)
        nbformat.validate(notebook, relax_add_props=True)
    except nbformat.ValidationError as error:
        raise InvalidNotebookError(_reason(error)) from error
    except RecursionError as error:
        raise InvalidNotebookError("it is nested too deeply") from error
    return notebook


def _converted(content: Mapping[str, Any]) -> nbformat.NotebookNode:
    """Return a notebook in the newest format, with what papermill or nbformat would stumble over repaired."""
    try:
        notebook = nbformat.versions[content["nbformat"]].to_notebook_json(content, minor=_minor(content))
        # Conversion of an old format leaves plain dicts behind; from_dict makes nodes of them.
        notebook = nbformat.from_dict(nbformat.convert(notebook, nbformat.current_nbformat))
        _repair_cell_ids(notebook)
        if not isinstance(notebook.metadata.get("papermill", {}), dict):
            del notebook.metadata["papermill"]
    except (nbformat.ValidationError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise InvalidNotebookError(_why_invalid(content) or _reason(error)) from error
    return cast("nbformat.NotebookNode", notebook)


def declared_parameters(path: Path) -> DeclaredParameters:
    """Read the notebook at `path` and return the parameters it declares; raise as `read_notebook` does."""
    notebook = read_notebook(path)
    cell = next((cell for cell in notebook.cells if PARAMETERS_TAG in cell.metadata.get("tags", ())), None)
    if not is_python(notebook):
        return DeclaredParameters(None, has_cell=cell is not None)
    if cell is None:
        return DeclaredParameters(frozenset(), has_cell=False)
    choose_kernel(notebook)
    # papermill serializes and parses what it inspects, so it gets this cell alone; in a path it would expand braces.
    tagged = nbformat.v4.new_code_cell(cell.source, metadata={"tags": [PARAMETERS_TAG]})
    alone = nbformat.v4.new_notebook(metadata=notebook.metadata, cells=[tagged])
    return DeclaredParameters(frozenset(papermill.inspect_notebook(alone)), has_cell=True)


def is_python(notebook: nbformat.NotebookNode) -> bool:
    """Return whether the notebook is in Python; one that names no language counts as Python."""
    kernelspec = notebook.metadata.get("kernelspec", {})
    language = notebook.metadata.get("language_info", {}).get("name") or kernelspec.get("language")
    if language:
        return str(language).lower() in {"python", "ipython"}
    name = str(kernelspec.get("name", PYTHON_KERNEL))
    return name.startswith(("python", "conda-env")) or not is_installed(name)


def choose_kernel(notebook: nbformat.NotebookNode) -> str:
    """Return the kernel to run `notebook` with, and record it in its metadata.

    A Python notebook without a kernelspec, or with one that is not installed here, runs with AutoFlow's own Python.
    """
    name = str(notebook.metadata.get("kernelspec", {}).get("name") or PYTHON_KERNEL)
    if not is_installed(name) and is_python(notebook):
        name = PYTHON_KERNEL
    if is_python(notebook):
        notebook.metadata.setdefault("language_info", {}).setdefault("name", "python")
        notebook.metadata["kernelspec"] = {
            "name": name,
            "display_name": notebook.metadata.get("kernelspec", {}).get("display_name", name),
            "language": "python",
        }
    return name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidNotebookError("it is not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise InvalidNotebookError("it is not valid JSON") from error
    if not (isinstance(content, dict) and isinstance(content.get("nbformat"), int)):
        raise InvalidNotebookError("its JSON has no 'nbformat'")
    return content


def _minor(content: Mapping[str, Any]) -> int:
    minor = content.get("nbformat_minor")
    return minor if isinstance(minor, int) else 0


def _why_invalid(content: Mapping[str, Any]) -> str | None:
    """Return the first rule of its own format that a notebook breaks; None if it breaks none."""
    version, minor = content["nbformat"], _minor(content)
    if version == nbformat.current_nbformat:
        # Format 4.4 has no cell ids, and those are repaired.
        minor = min(minor, 4)
    try:
        error = next(iter_validate(content, version=version, version_minor=minor, relax_add_props=True), None)
    except (ImportError, TypeError, AttributeError):
        return f"unknown format {version}.{_minor(content)}"
    return _reason(error) if error else None


def _reason(error: Exception) -> str:
    """Return the error's first line, after the place in the JSON if it names one ("cells[0].source: ...")."""
    path = getattr(error, "relative_path", ())
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
    line = str(error).splitlines()[0][:_LONGEST_REASON]
    return f"{place}: {line}" if place else line


def _repair_cell_ids(notebook: nbformat.NotebookNode) -> None:
    """Give each cell a valid, unique id if the format has ids; nbformat does so too, but warns about each."""
    seen: set[str] = set()
    for cell in notebook.cells if (notebook.nbformat, notebook.nbformat_minor) >= (4, 5) else ():
        if cell.get("id") in seen or not _CELL_ID.fullmatch(str(cell.get("id", ""))):
            cell["id"] = uuid.uuid4().hex[:8]
        seen.add(cell["id"])

"""Read notebooks and the parameters they declare."""

import json
import os
import re
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import nbformat
from nbformat.validator import iter_validate

from autoflow.kernels.kernel import PYTHON_KERNEL, is_installed, is_own_python
from autoflow.notebooks.parameters import Declaration, InvalidCellError, declarations
from autoflow.system.lean_imports import hidden

# papermill would import pyarrow for hdfs:// paths; our notebooks are files.
with hidden("pyarrow"):
    from papermill.exceptions import PapermillException
    from papermill.translators import PythonTranslator, papermill_translators

PARAMETERS_TAG = "parameters"

MAX_NOTEBOOK_BYTES = 100 * 1024 * 1024
"""Larger notebooks are refused before they are read. Each tick reads all, and that takes several times their size."""

MAX_DEPTH = 200
"""How deeply the JSON of a notebook may be nested. Python's stack is enough for that in all that is done with it."""

HOW_TO_TAG = (
    "in JupyterLab, select the cell, open the property inspector (the gears at the top right) and add the tag "
    "'parameters' under 'Cell Tags'; in VS Code, choose 'Mark Cell as Parameters', or 'Add Cell Tag', in the '...' "
    "menu of the cell"
)

_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LONGEST_REASON = 200
_TOO_DEEP = "it is nested too deeply"


class InvalidNotebookError(ValueError):
    """The file is not a valid notebook; the message is the reason ("it is not valid JSON")."""


@dataclass(frozen=True)
class DeclaredParameters:
    """The parameters a notebook declares in its code cell tagged `parameters`, and whether it has such a cell.

    `names` is None if they are not known: the notebook is in another language, or the cell is not valid Python, in
    which case `invalid_cell` is the reason. `declarations` has those of each name. `hint` is on cells with nearly the
    right tag. `missing_kernel` is why the notebook cannot run here, if it needs a kernel that is not installed.
    `has_own_kernel` is whether it runs in a kernel whose Python may be another version than AutoFlow's.
    """

    names: frozenset[str] | None
    has_cell: bool
    declarations: Mapping[str, tuple[Declaration, ...]] = field(default_factory=dict, compare=False)
    invalid_cell: str | None = field(default=None, compare=False)
    hint: str = field(default="", compare=False)
    missing_kernel: str | None = field(default=None, compare=False)
    has_own_kernel: bool = field(default=False, compare=False)


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
        raise InvalidNotebookError(_TOO_DEEP) from error
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
    missing, hint = missing_kernel(notebook), _hint_on_tags(notebook)
    # As papermill, which inserts the values after the first one.
    cell = next((cell for cell in notebook.cells if PARAMETERS_TAG in cell.metadata.get("tags", ())), None)
    if cell is None or cell.cell_type != "code":
        names = frozenset[str]() if is_python(notebook) else None
        return DeclaredParameters(names, has_cell=False, hint=hint, missing_kernel=missing)
    if not is_python(notebook):
        return DeclaredParameters(None, has_cell=True, hint=hint, missing_kernel=missing)
    try:
        found = declarations(cell.source)
    except InvalidCellError as error:
        is_own = choose_kernel(notebook) == PYTHON_KERNEL
        return DeclaredParameters(None, has_cell=True, invalid_cell=str(error), has_own_kernel=not is_own)
    return DeclaredParameters(frozenset(found), has_cell=True, declarations=found, hint=hint)


def _hint_on_tags(notebook: nbformat.NotebookNode) -> str:
    """Return which cell has a tag that was probably meant for the cell of parameters; empty if there is none."""
    for number, cell in enumerate(notebook.cells, 1):
        for tag in cell.metadata.get("tags", ()):
            if tag == PARAMETERS_TAG and cell.cell_type != "code":
                return f"cell {number} has this tag, but it is a {cell.cell_type} cell: move the tag to a code cell"
            if tag != PARAMETERS_TAG and tag.strip().lower() in {PARAMETERS_TAG, "parameter", "params"}:
                return f"cell {number} is tagged {tag!r}: the tag must be exactly 'parameters'"
            if tag == PARAMETERS_TAG:
                return ""
    return ""


def is_python(notebook: nbformat.NotebookNode) -> bool:
    """Return whether the notebook is in Python; one that names no language counts as Python."""
    kernelspec = notebook.metadata.get("kernelspec", {})
    language = notebook.metadata.get("language_info", {}).get("name") or kernelspec.get("language")
    if language:
        return str(language).lower() in {"python", "ipython"}
    name = str(kernelspec.get("name") or PYTHON_KERNEL)
    return not _is_of_another_language(name) and (name.startswith(("python", "conda-env")) or not is_installed(name))


def _is_of_another_language(kernel: str) -> bool:
    """Return whether the name of a kernel, such as `ir` or `julia-1.10`, is known to be that of another language."""
    if kernel == "ir":
        return True
    try:
        translator = papermill_translators.find_translator(kernel, re.split(r"[-\d]", kernel)[0])
    except PapermillException:
        return False
    return translator is not PythonTranslator


def missing_kernel(notebook: nbformat.NotebookNode) -> str | None:
    """Return why the notebook cannot run here, if it needs a kernel that is not installed; None if it can.

    A Python notebook always can: see `choose_kernel`.
    """
    if is_python(notebook):
        return None
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if not name:
        language = notebook.metadata.get("language_info", {}).get("name") or notebook.metadata.kernelspec.language
        return f"the notebook is in {language}, and names no kernel"
    return None if is_installed(str(name)) else f"no kernel named '{name}' is installed"


def choose_kernel(notebook: nbformat.NotebookNode) -> str:
    """Return the kernel to run `notebook` with, and record it in its metadata.

    A Python notebook without a kernelspec, or with one that is not installed here or is the same Python, runs with
    AutoFlow's own Python.
    """
    name = str(notebook.metadata.get("kernelspec", {}).get("name") or PYTHON_KERNEL)
    if is_python(notebook) and (is_own_python(name) or not is_installed(name)):
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
    data = _read_bytes(path)
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidNotebookError("it is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise InvalidNotebookError("it is not valid JSON") from error
    except RecursionError as error:
        raise InvalidNotebookError(_TOO_DEEP) from error
    except ValueError as error:
        raise InvalidNotebookError("a number in it has too many digits") from error
    if not (isinstance(content, dict) and isinstance(content.get("nbformat"), int)):
        raise InvalidNotebookError("its JSON has no 'nbformat'")
    if _is_deep(content):
        raise InvalidNotebookError(_TOO_DEEP)
    return content


def _read_bytes(path: Path) -> bytes:
    """Return the content of a file, unless it is too large or is not a regular file."""
    # Opening a pipe would wait for a writer.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidNotebookError("it is not a regular file")
        size = os.fstat(file.fileno()).st_size
        content = file.read(MAX_NOTEBOOK_BYTES + 1) if size <= MAX_NOTEBOOK_BYTES else b""
    if max(size, len(content)) > MAX_NOTEBOOK_BYTES:
        raise InvalidNotebookError(
            f"it has {max(size, len(content)) / 2**20:,.0f} MiB, and the limit is {MAX_NOTEBOOK_BYTES // 2**20}; "
            "clear its outputs and save it"
        )
    return content


def _is_deep(content: object) -> bool:
    """Return whether lists and mappings are nested more than `MAX_DEPTH` levels deep."""
    level = [content]
    for _ in range(MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [item for items in inner for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True


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

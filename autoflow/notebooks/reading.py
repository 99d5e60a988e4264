"""Reads notebooks, and the parameters that they declare."""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import nbformat
from nbformat.validator import iter_validate

from autoflow.kernels.kernel import PYTHON_KERNEL, is_installed
from autoflow.lean_imports import hidden

# It looks after hdfs:// with it, and our notebooks are files.
with hidden("pyarrow"):
    import papermill

_CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Read the notebook at `path`, in the newest format.

    Raises
    ------
    ValueError
        If the file is not a notebook; the message says why.
    OSError
        If it cannot be read.

    """
    try:
        notebook = nbformat.reader.reads(path.read_text(encoding="utf-8-sig"))
        # As nodes of today's format, which those of an old one do not become by themselves.
        notebook = nbformat.from_dict(nbformat.convert(notebook, nbformat.current_nbformat))
        _mend_cell_ids(notebook)
        if not isinstance(notebook.metadata.get("papermill", {}), dict):
            del notebook.metadata["papermill"]
        nbformat.validate(notebook, relax_add_props=True)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except (nbformat.reader.NotJSONError, RecursionError):
        raise ValueError("it is not JSON") from None
    except (nbformat.ValidationError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"it is not a Jupyter notebook ({error})".splitlines()[0]) from error
    return cast("nbformat.NotebookNode", notebook)


def _mend_cell_ids(notebook: nbformat.NotebookNode) -> None:
    """Give each cell an id of its own where the format has them: nbformat does so as well, with a warning each."""
    seen: set[str] = set()
    for cell in notebook.cells if (notebook.nbformat, notebook.nbformat_minor) >= (4, 5) else ():
        if cell.get("id") in seen or not _CELL_ID.fullmatch(str(cell.get("id", ""))):
            cell["id"] = uuid.uuid4().hex[:8]
        seen.add(cell["id"])


def declared_parameters(path: Path) -> frozenset[str] | None:
    """Return the names that the notebook at `path` assigns in its cell tagged `parameters`.

    None where papermill cannot tell, because it does not know the language. A notebook without such a cell declares
    no parameters.

    Raises
    ------
    ValueError
        If the file is not a notebook.
    OSError
        If it cannot be read.

    """
    notebook = read_notebook(path)
    if not is_python(notebook):
        return None
    choose_kernel(notebook)
    # The node rather than its path: papermill fills braces in a path as if they were parameters.
    return frozenset(papermill.inspect_notebook(notebook))


def is_python(notebook: nbformat.NotebookNode) -> bool:
    """Tell whether the notebook is in Python, as one that does not say is taken to be."""
    kernelspec = notebook.metadata.get("kernelspec", {})
    language = notebook.metadata.get("language_info", {}).get("name") or kernelspec.get("language")
    if language:
        return str(language).lower() in {"python", "ipython"}
    name = str(kernelspec.get("name", PYTHON_KERNEL))
    return name.startswith(("python", "conda-env")) or not is_installed(name)


def choose_kernel(notebook: nbformat.NotebookNode) -> str:
    """Return the kernel to run `notebook` with, and have its metadata say so.

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


PARAMETERS_TAG = "parameters"


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

"""What a run is made from: the source of its notebooks, and the files beside them that they import or open.

Everything is read once as long as the files stay as they are. What a notebook imports or opens is known as far as its
code names it: imports of modules in its folder, and texts that are names of files there.
"""

import ast
import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Self

from autoflow import __version__
from autoflow.notebooks.reading import InvalidNotebookError, choose_kernel, is_python, read_notebook
from autoflow.system.git import recent_git_state
from autoflow.utils import without_warnings

LARGEST_FILE = 64 * 1024 * 1024
"""Larger files beside a notebook are not read; in bytes."""

MOST_FILES = 200
"""The highest number of modules, and of other files, that are recorded for a notebook."""

_LONGEST_FILE_NAME = 200
_MAGIC = re.compile(r"^([ \t]*)[%!?].*$", re.MULTILINE)
_DIGITS = 32


@dataclass(frozen=True, kw_only=True)
class NotebookSource:
    """What a notebook is made from: digests of its cells, of the modules that it imports, and of files that it opens.

    The modules and files are those in its folder, by their paths from there. `kernel` is the name of its kernel.
    """

    cells: str
    modules: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    kernel: str = ""

    @classmethod
    def of(cls, notebook: Path) -> Self:
        """Return the source of a notebook as it is now.

        Outputs, execution counts and other metadata make no difference; tags do, because AutoFlow acts on some.

        Raises
        ------
        InvalidNotebookError, OSError
            If the notebook is not valid, or cannot be read.

        """
        cells, names, kernel = _cells(notebook, _stamp(notebook))
        modules = _modules(names, notebook.parent)
        opened = {name for name in names.texts if _is_file_in(notebook.parent, name)} - {notebook.name, *modules}
        files = {name: notebook.parent / name for name in sorted(opened)[:MOST_FILES]}
        return cls(cells=cells, modules=_digests(modules), files=_digests(files), kernel=kernel)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Return the source with the content that `as_json` has returned."""
        return cls(
            cells=content["cells"],
            modules=content.get("modules", {}),
            files=content.get("files", {}),
            kernel=content.get("kernel", ""),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the source for JSON; what is empty is left out."""
        content = {
            "cells": self.cells,
            "modules": dict(self.modules),
            "files": dict(self.files),
            "kernel": self.kernel,
        }
        return {name: value for name, value in content.items() if value}


def source_as_json(notebook: Path) -> dict[str, Any]:
    """Return the source of a notebook for JSON; empty if the notebook cannot be read."""
    try:
        return NotebookSource.of(notebook).as_json()
    except (InvalidNotebookError, OSError):
        return {}


def made_from(inputs_dir: Path, source: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an executed notebook is made from: its `source`, and the state of the inputs folder and of Python."""
    return {**source, "git": recent_git_state(inputs_dir), **environment()}


@lru_cache(maxsize=1)
def installed_packages() -> tuple[str, ...]:
    """Return the packages of this Python as lines of a requirements file, sorted."""
    # Each `metadata` reads a file: `version` would read it again.
    read = [each.metadata for each in distributions()]
    found = {(each["Name"] or "").lower(): each["Version"] for each in read}
    return tuple(f"{name}=={version}" for name, version in sorted(found.items()) if name)


@lru_cache(maxsize=1)
def environment() -> Mapping[str, str]:
    """Return the versions of AutoFlow and Python, and the digest of the list of installed packages."""
    packages = _digest("\n".join(installed_packages()).encode())
    return {"version": __version__, "python": platform.python_version(), "packages": packages}


@dataclass(frozen=True)
class _Names:
    """What code names: modules that it imports, and texts that may be names of files."""

    modules: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()


_Stamp = tuple[int, int, int]


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


@lru_cache(maxsize=1024)
def _cells(notebook: Path, _stamp: _Stamp) -> tuple[str, _Names, str]:
    """Return the digest of the cells of a notebook, what their code names, and its kernel."""
    node = read_notebook(notebook)
    cells = [[cell.cell_type, sorted(cell.metadata.get("tags", ())), cell.source] for cell in node.cells]
    digest = _digest(json.dumps(cells).encode())
    code = "\n".join(_python(cell.source) for cell in node.cells if cell.cell_type == "code")
    return digest, _names(code) if is_python(node) else _Names(), choose_kernel(node)


def _python(source: str) -> str:
    """Return the code of a cell without magics and commands of IPython; empty if it is not valid Python."""
    code = _MAGIC.sub(r"\1pass", source)
    return code if _tree(code) else ""


def _tree(code: str) -> ast.Module | None:
    try:
        with without_warnings():
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _names(code: str) -> _Names:
    modules, texts = set(), set()
    tree = _tree(code)
    for node in ast.walk(tree) if tree else ():
        match node:
            case ast.Import():
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            case ast.ImportFrom(module=str(module), level=0):
                modules.add(module.partition(".")[0])
            case ast.Constant(value=str(text)) if 0 < len(text) <= _LONGEST_FILE_NAME and text.isprintable():
                texts.add(text)
    return _Names(frozenset(modules), frozenset(texts))


def _modules(names: _Names, folder: Path) -> dict[str, Path]:
    """Return the files of the modules in `folder` that are imported, also by each other."""
    found: dict[str, Path] = {}
    wanted = sorted(names.modules)
    while wanted and len(found) < MOST_FILES:
        for path in _files_of(wanted.pop(), folder):
            name = path.relative_to(folder).as_posix()
            if name not in found:
                found[name] = path
                wanted += sorted(_names_in(path, _stamp(path)).modules)
    return dict(sorted(found.items())[:MOST_FILES])


def _files_of(module: str, folder: Path) -> Iterator[Path]:
    package = folder / module
    if (package / "__init__.py").is_file():
        yield from sorted(package.rglob("*.py"))
    elif (path := folder / f"{module}.py").is_file():
        yield path


@lru_cache(maxsize=4096)
def _names_in(module: Path, _stamp: _Stamp) -> _Names:
    return _names(module.read_text(encoding="utf-8", errors="replace"))


def _is_file_in(folder: Path, name: str) -> bool:
    path = os.path.normpath(folder / name)
    return Path(path).is_relative_to(folder) and os.path.isfile(path)


def _digests(files: Mapping[str, Path]) -> dict[str, str]:
    found = {}
    for name, path in files.items():
        stamp = _stamp(path)
        if stamp[2] <= LARGEST_FILE:
            found[name] = _digest_of(path, stamp)
    return found


@lru_cache(maxsize=4096)
def _digest_of(path: Path, _stamp: _Stamp) -> str:
    return _digest(path.read_bytes())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]

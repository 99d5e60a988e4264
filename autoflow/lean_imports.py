"""Imports libraries without the large ones that they could use and that AutoFlow itself never does.

Together, pyarrow, numpy and pandas would take 80 MB of the daemon, a third of it, and half a second at its start.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Let what is imported in the block find no module `name`: for libraries that can do without it.

    Later, it can be imported as ever.
    """
    if name in sys.modules:
        yield
        return
    # So says Python's documentation: None has an import fail as if the module were not there.
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    modules[name] = None
    try:
        yield
    finally:
        del modules[name]


@contextmanager
def postponed(name: str, *, annotations: Iterable[str]) -> Iterator[None]:
    """Let what is imported in the block import module `name` only when it uses something of it.

    `annotations` are the names that it looks up in the module already while it is imported, for its annotations.
    """
    if name in sys.modules:
        yield
        return
    stand_in = _Postponed(name)
    vars(stand_in).update(dict.fromkeys(annotations, Any))
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        del sys.modules[name]
        for annotation in annotations:
            delattr(stand_in, annotation)


def module_alone(package: str, file: str) -> ModuleType:
    """Return what `file` of `package` defines, without importing the package: for a file that needs none of it.

    Raises
    ------
    ModuleNotFoundError
        If the package is not installed.

    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)
    path = Path(found.submodule_search_locations[0]) / file
    spec = cast("ModuleSpec", importlib.util.spec_from_file_location(path.stem, path))
    module = importlib.util.module_from_spec(spec)
    cast("Loader", spec.loader).exec_module(module)
    return module


class _Postponed(ModuleType):
    """Stands for a module, and imports it when something of it is wanted."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)

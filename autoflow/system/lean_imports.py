"""Import libraries without large optional ones that AutoFlow never uses.

Together, pyarrow, numpy and pandas would take 80 MB of the daemon's memory, and 0.2 s of CPU time at its start.
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
    """Hide the module `name` from libraries imported in the block, which must work without it.

    After the block, it can be imported as usual.
    """
    if name in sys.modules:
        yield
        return
    # As documented, an import finds None and fails as if the module were not installed.
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    modules[name] = None
    try:
        yield
    finally:
        del modules[name]


@contextmanager
def postponed(name: str, *, annotations: Iterable[str]) -> Iterator[None]:
    """Postpone the import of module `name` by libraries imported in the block until they use it.

    `annotations` are the names of the module that they need during their own import, for annotations.
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
    """Import `file` of `package` without the package, which the file must not need, and return the module.

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
    """Stands in for a module, and imports it at the first access."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.__name__), name)

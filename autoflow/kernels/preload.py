"""Imports modules ahead of time so that they are as they would be if a notebook had imported them.

A stand-in for IPython's shell makes modules believe that they run in a kernel. Modules that use more of the shell than
the stand-in has, or create something that kernels must not share (see `hazards`), must not be preloaded. As a module
cannot be unloaded, the server then starts again without it.
"""

import builtins
import gc
import importlib
import io
import os
import sys
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TextIO, cast

from autoflow.kernels.hazards import UnshareableError, hazards, no_temporary_files, process_state
from autoflow.kernels.stamps import Stamps

OF_A_KERNEL = (
    *(f"ipykernel.{name}" for name in ("kernelapp", "ipkernel", "zmqshell", "debugger")),
    *(f"IPython.core.{name}" for name in ("completerlib", "debugger", "logger", "oinspect")),
    "IPython.extensions.storemagic",
    "IPython.utils.wildcard",
    "faulthandler",
    "pdb",
    "sqlite3",
    "tornado.platform.asyncio",
)
"""What each kernel imports before its first cell, when modules beside the notebook cannot shadow anything yet."""

ON_FIRST_USE = {
    "matplotlib.backends.backend_agg": ("matplotlib.pyplot",),
    "IPython.core.pylabtools": ("matplotlib.pyplot",),
    # In Pillow's own order: it tries formats in the order of their import.
    **{f"PIL.{name}ImagePlugin": ("matplotlib.pyplot",) for name in ("Bmp", "Gif", "Jpeg", "Ppm")},
    "pandas.plotting._matplotlib": ("pandas", "matplotlib.pyplot"),
    "pyarrow.pandas_compat": ("pandas", "pyarrow"),
    "pyarrow.vendored.version": ("pandas", "pyarrow"),
}
"""What a first plot or table imports, which takes 40 ms, and the modules that must all be loaded for it to be used."""


@dataclass
class Preloaded:
    """The result of preloading.

    `missing` modules are not installed, `changed` is a file that changed meanwhile, and `left_out` a module that must
    not be preloaded, with what it does; without a module, nothing can be preloaded. The rest is for processes without
    `changed` and `left_out`: the `names` of packages that a module beside a notebook could shadow, whether they were
    found or not, environment `variables` that modules have set, and all imported modules, `own_modules` of AutoFlow's.
    """

    missing: list[str] = field(default_factory=list)
    changed: str | None = None
    left_out: tuple[str | None, str] | None = None
    names: frozenset[str] = frozenset()
    stamps: Stamps = field(default_factory=lambda: Stamps({}, {}))
    variables: dict[str, str] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()
    own_modules: frozenset[str] = frozenset()

    def conflict_with(self, folder: str) -> str | None:
        """Return why a notebook in `folder` would have imported something else, if it would."""
        try:
            entries = [Path(folder, entry) for entry in os.listdir(folder)]
        except OSError as error:
            return f"cannot search {folder} for modules: {error.strerror}"
        for entry in entries:
            name = entry.name.partition(".")[0]
            if name in self.names and (entry.suffix in {".py", ".so", ".pyc"} or any(entry.glob("__init__.*"))):
                return f"{entry} has the name of a module that preloaded packages try to import"
            if entry.name == "matplotlibrc" and "matplotlib" in self.names and entry.is_file():
                return f"matplotlib reads {entry} on import"
        return None


def preload(modules: Sequence[str], own_descriptors: Collection[int]) -> Preloaded:
    """Import what a kernel needs, and `modules` as far as that is safe; see `hazards` for `own_descriptors`.

    Modules of `ON_FIRST_USE` are imported only if those that use them are there.
    """
    began = time.time_ns()
    environment = dict(os.environ)
    folders = Stamps.taken([], sys.path).folders
    preloaded = Preloaded()
    for name in OF_A_KERNEL:
        importlib.import_module(name)
    for does in hazards(own_descriptors):
        preloaded.left_out = (None, does)
        return preloaded
    gc.freeze()
    # As in a kernel; matplotlib reads it on import.
    os.environ["MPLBACKEND"] = os.environ.get("MPLBACKEND") or "module://matplotlib_inline.backend_inline"
    output, error = (cast("TextIO", _Output(name)) for name in ("stdout", "stderr"))
    with _recorded_searches() as searched, redirect_stdout(output), redirect_stderr(error):
        for name in modules:
            if all(user in sys.modules for user in ON_FIRST_USE.get(name, ())):
                for does in _import(name, preloaded.missing, own_descriptors):
                    preloaded.left_out = (name, does)
                    return preloaded
                gc.freeze()
    # Nothing beside a notebook shadows the standard library.
    preloaded.names = frozenset(name for name in searched if "." not in name) - sys.stdlib_module_names
    stamps = Stamps.taken(_files({*searched.values()}), sys.path)
    preloaded.changed = stamps.changed_since(began)
    preloaded.stamps = Stamps(stamps.files, {**stamps.folders, **folders})
    preloaded.variables = {name: value for name, value in os.environ.items() if environment.get(name) != value}
    preloaded.modules = frozenset(sys.modules)
    preloaded.own_modules = frozenset(name for name in sys.modules if name.partition(".")[0] == "autoflow")
    return preloaded


def _import(name: str, missing: list[str], own_descriptors: Collection[int]) -> Iterator[str]:
    """Import the module `name`; yield what it does that must not be done before the fork."""
    refused: list[str] = []

    def refuse(does: str) -> NoReturn:
        refused.append(does)
        raise UnshareableError(does)

    before = process_state()
    failure = None
    with no_temporary_files(refuse), _stand_in_for_the_shell(refuse) as lent:
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - a notebook that imports it reports the error
            if isinstance(error, ModuleNotFoundError) and error.name in {name, name.partition(".")[0]}:
                missing.append(name)
            else:
                failure = f"fails with {type(error).__name__}"
    yield from refused
    if failure:
        yield failure
    after = process_state()
    yield from (does for does in after if after[does] != before[does])
    yield from hazards(own_descriptors)
    if lent:
        yield "keeps IPython's shell"


@contextmanager
def _recorded_searches() -> Iterator[dict[str, str | None]]:
    """Yield a mapping that receives each module looked for in folders, with its file; None if it is not found."""
    original = vars(PathFinder)["find_spec"]
    searched: dict[str, str | None] = {}

    def find_spec(name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        spec = original.__get__(None, PathFinder)(name, path, target)
        searched[name] = spec and spec.origin
        return spec

    PathFinder.find_spec = staticmethod(find_spec)  # type: ignore[assignment, method-assign]
    try:
        yield searched
    finally:
        PathFinder.find_spec = original  # type: ignore[method-assign]


class _Output:
    """Stands for standard output or error of each kernel, because modules keep references to it."""

    def __init__(self, name: str) -> None:
        self._name = name
        # With the encoding of a kernel's output.
        self._nowhere = io.TextIOWrapper(io.BytesIO(), encoding="UTF-8")

    def __getattr__(self, attribute: str) -> Any:
        stream = getattr(sys, self._name)
        return getattr(self._nowhere if stream is self else stream, attribute)


@contextmanager
def _stand_in_for_the_shell(refuse: Callable[[str], NoReturn]) -> Iterator["weakref.WeakSet[Any]"]:
    """Give modules a stand-in for IPython's shell and its builtins; yield the objects that they must not keep."""
    # Imported here because AutoFlow itself, which imports this module, does without IPython.
    shell_class = importlib.import_module("IPython.core.interactiveshell").InteractiveShell
    display = importlib.import_module("IPython.display").display
    lent: weakref.WeakSet[Any] = weakref.WeakSet()

    def get_ipython() -> object:
        return _shell(refuse, lent)

    lent.add(get_ipython)
    shell_class.initialized = staticmethod(lambda: True)
    shell_class.instance = staticmethod(get_ipython)
    vars(builtins).update(get_ipython=get_ipython, display=display, __IPYTHON__=True)
    try:
        yield lent
    finally:
        for name in ("get_ipython", "display", "__IPYTHON__"):
            vars(builtins).pop(name, None)
        del shell_class.initialized, shell_class.instance


def _shell(refuse: Callable[[str], NoReturn], lent: "weakref.WeakSet[Any]") -> object:
    """Return a shell that has a kernel and the configuration of one, and refuses everything else.

    The shell, its kernel and its configuration are added to `lent`.
    """
    kernel_shell = importlib.import_module("ipykernel.zmqshell").ZMQInteractiveShell

    def refuse_all(*_: object) -> NoReturn:
        refuse("uses IPython's shell")

    class Part:
        __getattribute__ = __setattr__ = __delattr__ = __getitem__ = __call__ = __iter__ = __len__ = refuse_all

        def __bool__(self) -> bool:
            return True

        def __contains__(self, name: object) -> bool:
            return name == "IPKernelApp" or refuse_all()

    class Shell(Part):
        def __getattribute__(self, name: str) -> Any:  # type: ignore[override]
            if name == "__class__":
                return kernel_shell
            if name not in {"kernel", "config"}:
                refuse_all()
            part = Part()
            lent.add(part)
            return part

    Shell.__name__ = Shell.__qualname__ = kernel_shell.__name__
    Shell.__module__ = kernel_shell.__module__
    shell = Shell()
    lent.add(shell)
    return shell


def _files(searched: set[str | None]) -> set[str]:
    """Return the files of all modules, including those `searched`, but of the standard library only its folder."""
    library = str(Path(os.__file__).parent)
    found: set[Any] = set(searched)
    for module in list(sys.modules.values()):
        # Read in a way that does not trigger the import of lazy modules.
        names = object.__getattribute__(module, "__dict__") if issubclass(type(module), ModuleType) else {}
        found.add(names.get("__file__"))
        with suppress(TypeError):
            found.update(names.get("__path__") or ())
    paths = {path for path in found if isinstance(path, str) and path.startswith("/")}
    of_python = {path for path in paths if path.startswith(f"{library}/") and "-packages/" not in path}
    archives = {path for path in sys.path if not Path(path).is_dir()}
    return {library, *archives, *_read_by_matplotlib(), *paths} - of_python


def _read_by_matplotlib() -> set[str]:
    """Return the files that matplotlib reads on import, or would read if they existed."""
    matplotlib = sys.modules.get("matplotlib")
    if not matplotlib:
        return set()
    folder = Path(matplotlib.get_configdir())
    return {str(matplotlib.matplotlib_fname()), str(folder / "matplotlibrc"), str(folder / "stylelib")}

"""Imports modules ahead of time, so that they are what they would be if a notebook had imported them.

While it does, all looks as it does in a kernel: IPython's shell seems to be there. A module that wants more
of it than to see that it is there, or that makes something of which each kernel would need its own (`kernel_hazards`),
cannot be imported ahead of time. No more can be done then than to start over without it, in another process: what
imported it before has hold of it, and its parts of each other.
"""

import builtins
import gc
import importlib
import io
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TextIO, cast

from autoflow.kernels.hazards import ProcessState, UnshareableError, hazards, no_temporary_files
from autoflow.kernels.stamps import Stamps

OF_A_KERNEL = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
    "ipykernel.debugger",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "IPython.utils.wildcard",
    "faulthandler",
    "pdb",
    "sqlite3",
    "tornado.platform.asyncio",
)
"""What every kernel imports before its first cell, and before modules beside a notebook could come first."""

SOON_OF_A_KERNEL = ("psutil",)
"""What a kernel imports when it is asked how it does."""

ON_FIRST_USE = {
    "matplotlib.backends.backend_agg": ("matplotlib.pyplot",),
    "IPython.core.pylabtools": ("matplotlib.pyplot",),
    # In the order in which Pillow does it: it tries formats in that of their import.
    "PIL.BmpImagePlugin": ("matplotlib.pyplot",),
    "PIL.GifImagePlugin": ("matplotlib.pyplot",),
    "PIL.JpegImagePlugin": ("matplotlib.pyplot",),
    "PIL.PpmImagePlugin": ("matplotlib.pyplot",),
    "pandas.plotting._matplotlib": ("pandas", "matplotlib.pyplot"),
    "pyarrow.pandas_compat": ("pandas", "pyarrow"),
    "pyarrow.vendored.version": ("pandas", "pyarrow"),
}
"""What is imported by a first plot or table, which takes 40 ms, and of which modules, all of which have to be there."""

INLINE_BACKEND = "module://matplotlib_inline.backend_inline"
"""What a kernel sets MPLBACKEND to where it is not set; matplotlib looks at it as it is imported."""


@dataclass
class Imported:
    """What came of it.

    `missing` are the modules that are not installed, `names` the packages that a module beside a notebook would come
    before, or which were not found and would be, `stamps` tells whether something has changed since. `left_out` is
    the module that must not be imported ahead of time, and why, or nothing and why none must be; nothing else counts
    then.
    """

    missing: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    stamps: Stamps = field(default_factory=lambda: Stamps({}, {}))
    changed: str | None = None
    left_out: tuple[str | None, str] | None = None


def import_ahead(modules: Sequence[str], own_descriptor: int) -> Imported:
    """Import what a kernel needs and `modules`, as far as that is safe; see `hazards` for `own_descriptor`.

    Those of `ON_FIRST_USE` are imported only after what uses them.
    """
    began = time.time_ns()
    folders = Stamps.taken([], sys.path).folders
    imported = Imported()
    for name in OF_A_KERNEL:
        importlib.import_module(name)
    for does in hazards(own_descriptor):
        imported.left_out = (None, does)
        return imported
    gc.freeze()
    with _searched() as searched, _inline_backend(), _output_of_kernels():
        for name in SOON_OF_A_KERNEL:
            importlib.import_module(name)
        for name in modules:
            if not all(user in sys.modules for user in ON_FIRST_USE.get(name, ())):
                continue
            for does in _import(name, imported.missing, own_descriptor):
                imported.left_out = (name, does)
                return imported
            gc.freeze()
    # Python's own come first wherever a notebook is.
    imported.names = sorted({name for name in searched if "." not in name} - sys.stdlib_module_names)
    stamps = Stamps.taken(_files({*searched.values()} - {None}), sys.path)
    imported.changed = stamps.changed_since(began)
    # Of folders, what was there at the beginning.
    imported.stamps = Stamps(stamps.files, {**stamps.folders, **folders})
    return imported


def _import(name: str, missing: list[str], own_descriptor: int) -> Iterator[str]:
    """Import the module `name`; yield what it does that must not be done ahead of time."""
    refused: list[str] = []

    def refuse(does: str) -> NoReturn:
        refused.append(does)
        raise UnshareableError(does)

    state = ProcessState.now()
    failure = None
    with no_temporary_files(refuse), _shell_seems_to_be_there(refuse) as lent:
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - whatever it raises, notebooks that import it will tell
            if isinstance(error, ModuleNotFoundError) and error.name in {name, name.partition(".")[0]}:
                missing.append(name)
            else:
                failure = f"fails with {type(error).__name__}"
    yield from refused
    if failure:
        yield failure
    yield from state.changes()
    yield from hazards(own_descriptor)
    if lent:
        yield "keeps IPython's shell"


@contextmanager
def _searched() -> Iterator[dict[str, str | None]]:
    """Yield what is going to have the modules that are looked for in folders, and the file of each; None if none."""
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


@contextmanager
def _inline_backend() -> Iterator[None]:
    """Let matplotlib find the backend that it finds in a kernel."""
    if os.environ.get("MPLBACKEND"):
        yield
        return
    os.environ["MPLBACKEND"] = INLINE_BACKEND
    try:
        yield
    finally:
        del os.environ["MPLBACKEND"]


class _Stream:
    """Stands for the standard output, or that of errors, of each kernel: modules make it a default, and keep it."""

    def __init__(self, name: str) -> None:
        self._name = name
        # Of the encoding that it has in a kernel, which writes it in its own way.
        self._nowhere = io.TextIOWrapper(io.BytesIO(), encoding="UTF-8")

    def __getattr__(self, attribute: str) -> Any:
        stream = getattr(sys, self._name)
        return getattr(self._nowhere if stream is self else stream, attribute)


@contextmanager
def _output_of_kernels() -> Iterator[None]:
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast("TextIO", _Stream("stdout")), cast("TextIO", _Stream("stderr"))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


@contextmanager
def _shell_seems_to_be_there(refuse: Callable[[str], NoReturn]) -> Iterator["weakref.WeakSet[Any]"]:
    """Have modules see IPython's shell, and what it adds to the builtins; yield what they must not keep of it."""
    from IPython.core.interactiveshell import InteractiveShell  # noqa: PLC0415 - to be imported without IPython
    from IPython.display import display  # noqa: PLC0415 - as above

    lent: weakref.WeakSet[Any] = weakref.WeakSet()

    def get_ipython() -> object:
        return _stand_in(refuse, lent)

    lent.add(get_ipython)
    InteractiveShell.initialized = staticmethod(lambda: True)  # type: ignore[method-assign]
    InteractiveShell.instance = staticmethod(get_ipython)  # type: ignore[assignment, method-assign]
    vars(builtins).update(get_ipython=get_ipython, display=display, __IPYTHON__=True)
    try:
        yield lent
    finally:
        for name in ("get_ipython", "display", "__IPYTHON__"):
            vars(builtins).pop(name, None)
        del InteractiveShell.initialized, InteractiveShell.instance


def _stand_in(refuse: Callable[[str], NoReturn], lent: "weakref.WeakSet[Any]") -> object:
    """Return what has a kernel and is configured for one, as IPython's shell is, and refuses all else that it is asked.

    It adds itself to `lent`, and its kernel and configuration.
    """
    from ipykernel.zmqshell import ZMQInteractiveShell  # noqa: PLC0415 - as above

    def refuse_all(*_: object) -> NoReturn:
        refuse("asks for IPython's shell")

    class Part:
        __getattribute__ = __setattr__ = __delattr__ = __getitem__ = __call__ = __iter__ = __len__ = refuse_all

        def __bool__(self) -> bool:
            return True

        def __contains__(self, name: object) -> bool:
            return name == "IPKernelApp" or refuse_all()

    class Shell(Part):
        def __getattribute__(self, name: str) -> Any:  # type: ignore[override]
            if name == "__class__":
                return ZMQInteractiveShell
            if name not in {"kernel", "config"}:
                refuse_all()
            part = Part()
            lent.add(part)
            return part

    Shell.__name__ = Shell.__qualname__ = ZMQInteractiveShell.__name__
    Shell.__module__ = ZMQInteractiveShell.__module__
    shell = Shell()
    lent.add(shell)
    return shell


def _files(searched: set[Any]) -> set[str]:
    """Return the files of which modules were made, the `searched` ones among them, but for Python's own."""
    library = str(Path(os.__file__).parent)
    files: set[Any] = set(searched)
    folders: set[Any] = set()
    for module in list(sys.modules.values()):
        # Asked in a way that has no module import itself which does so when it is used.
        names = object.__getattribute__(module, "__dict__") if issubclass(type(module), ModuleType) else {}
        files.add(names.get("__file__"))
        with suppress(TypeError):
            folders.update(names.get("__path__") or ())
    found = {path for path in files | folders if isinstance(path, str) and path.startswith("/")}
    own = f"{Path(__file__).parents[1]}/"
    of_python = {path for path in found if path.startswith(f"{library}/") and "-packages/" not in path}
    archives = {path for path in sys.path if not Path(path).is_dir()}
    not_own = {path for path in found - of_python if not f"{path}/".startswith(own)}
    return {library, *archives, *_read_by_matplotlib(), *not_own}


def _read_by_matplotlib() -> set[str]:
    """Return what matplotlib reads as it is imported, and what it would read if it were there."""
    matplotlib = sys.modules.get("matplotlib")
    if not matplotlib:
        return set()
    folder = Path(matplotlib.get_configdir())
    return {str(matplotlib.matplotlib_fname()), str(folder / "matplotlibrc"), str(folder / "stylelib")}

"""A Python that has imported what notebooks need, and forks a kernel whenever it is asked to.

A process of its own; `forked_kernels` starts it, and says over a socket of messages what it wants. Each kernel gets a
guard, as a kernel that is started the ordinary way does, and the same things of its own: a session, an environment, a
folder, seeds for the random numbers of Python and numpy. What else modules make as they are imported is the same for
all kernels; nothing is forked if they make what must not be: threads, sockets, files to write to, random generators. No
kernel depends on this process, which only ever forks, once it has been forked.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import importlib.util
import io
import json
import linecache
import os
import random
import select
import signal
import socket
import stat
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from autoflow.kernel_guard import guard

LAUNCHER = "ipykernel_launcher"
"""The module that starts a kernel the ordinary way: ``python -m ipykernel_launcher -f FILE``."""

HISTORY_IN_MEMORY = "--HistoryManager.hist_file=:memory:"
"""The argument for IPython not to keep the code of all notebooks in a file, where others would see it."""

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
    "psutil",
    "sqlite3",
    "tornado.platform.asyncio",
)
"""What every kernel imports before its first cell."""

_BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)

INLINE_BACKEND = "module://matplotlib_inline.backend_inline"
"""What a kernel sets MPLBACKEND to where it is not set; matplotlib looks at it as it is imported."""


@dataclass(frozen=True)
class _Heritage:
    """What a kernel has to know of the process that it is forked from.

    `variables` are those that modules have set, `own_modules` the names of modules that are AutoFlow's and none of the
    kernel's business, `launcher` is the file of `LAUNCHER`.
    """

    variables: dict[str, str]
    own_modules: tuple[str, ...]
    launcher: str


def main(requests: socket.socket, modules: Sequence[str], idle_seconds: float) -> None:
    """Import `modules`, tell what came of it, and fork a kernel for each of `requests` until nobody wants any.

    That is when the other end of `requests` is closed, or nothing was asked for in `idle_seconds` and no kernel is
    left.
    """
    before = dict(os.environ)
    imported = _import_all(modules)
    launcher = importlib.util.find_spec(LAUNCHER)
    heritage = _Heritage(
        # A module that sets a variable for itself, or for those that it imports, counts on it.
        variables={name: value for name, value in os.environ.items() if before.get(name) != value},
        own_modules=tuple(name for name in sys.modules if name.partition(".")[0] == "autoflow"),
        launcher=str(launcher.origin if launcher else LAUNCHER),
    )
    # What each kernel forgets is forgotten here: memory that a fork frees is copied for it first.
    _forget_caches()
    gc.collect()
    gc.freeze()
    _tell(requests, imported)
    # Children are collected by the system.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    while True:
        if not poll.poll(idle_seconds * 1000):
            if not _has_children():
                return
            continue
        message, descriptors, _, _ = socket.recv_fds(requests, 1, 3)
        if not message:
            return
        with contextlib.suppress(OSError):
            if len(descriptors) == 3 and os.fork() == 0:  # noqa: PLR2004 - see `_be_guard`
                _be_guard(requests, heritage, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _tell(requests: socket.socket, imported: dict[str, Any]) -> None:
    """Send `imported` in a file: as a message, it would have to fit into the buffer of the socket."""
    with open(os.memfd_create("imported"), "wb") as file:  # noqa: PTH123 - a number, not a path
        file.write(json.dumps(imported).encode())
        file.seek(0)
        socket.send_fds(requests, [b"i"], [file.fileno()])


def _import_all(modules: Sequence[str]) -> dict[str, Any]:
    """Import what a kernel needs and `modules`; return what there is to know of it.

    That is `missing`, the modules that are not installed, `failed`, what the others failed with, `unsafe`, why a fork
    of this process would not work or not be what an ordinary kernel is, `names`, the packages that a module beside a
    notebook would come before, and `files`, which must not change.
    """
    for name in OF_A_KERNEL:
        importlib.import_module(name)
    before = set(sys.modules)
    missing: list[str] = []
    failed: dict[str, str] = {}
    unsafe: list[str] = []
    opened = _opened()
    with _inline_backend(), _forgetting_what_asks_for_a_shell():
        for name in modules:
            known = set(sys.modules)
            try:
                importlib.import_module(name)
            except BaseException as error:  # noqa: BLE001 - whatever it raises, notebooks that import it will tell
                if isinstance(error, ModuleNotFoundError) and error.name in {name, name.partition(".")[0]}:
                    missing.append(name)
                else:
                    failed[name] = type(error).__name__
            if not unsafe:
                unsafe.extend(f"{name} {does} as it is imported" for does in _unsafe_since(opened, known))
    names = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
    return {"missing": missing, "failed": failed, "unsafe": unsafe, "names": sorted(names), "files": _files()}


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


@contextmanager
def _forgetting_what_asks_for_a_shell() -> Iterator[None]:
    """Have modules imported again by the kernels that need them, if they ask for IPython's shell: here is none yet.

    matplotlib's inline backend for instance has the shell show its figures.
    """
    from IPython.core import getipython  # noqa: PLC0415 - this module is to be imported without IPython
    from IPython.core.interactiveshell import InteractiveShell  # noqa: PLC0415

    askers: set[str] = set()

    def initialized() -> bool:
        # Called by `get_ipython`, which the module calls.
        askers.update(_being_imported(sys._getframe(1), getipython.__name__))  # noqa: SLF001 - there is no other way
        return False

    InteractiveShell.initialized = staticmethod(initialized)  # type: ignore[method-assign]
    try:
        yield
    finally:
        del InteractiveShell.initialized
        for name in askers:
            module = sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            if module and parent in sys.modules:
                vars(sys.modules[parent]).pop(child, None)


def _being_imported(frame: FrameType | None, through: str) -> Iterator[str]:
    """Yield the modules of the package that is nearest on the stack at `frame`, as far as their import goes on."""
    package = ""
    while frame:
        name = str(frame.f_globals.get("__name__", ""))
        if frame.f_code.co_name == "<module>" and name != through:
            package = package or name.partition(".")[0]
            if name.partition(".")[0] == package:
                yield name
        frame = frame.f_back


def _files() -> dict[str, tuple[int, int]]:
    """Return time and size of what tells that modules have changed: folders of packages, and files elsewhere."""
    site = tuple(path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"})
    library = (str(Path(os.__file__).parent), *site)
    loaded = {str(_globals_of(module).get("__file__") or "") for module in list(sys.modules.values())}
    elsewhere = {path for path in loaded if path.startswith("/") and not path.startswith(library)}
    return {path: stamp for path in sorted(elsewhere.union(library)) if (stamp := stamp_of(path))}


def stamp_of(path: str) -> tuple[int, int] | None:
    """Return when a file or folder was changed, in nanoseconds, and its size; None if it is not there."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called for each kernel
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _unsafe_since(opened: set[tuple[str, str]], known: set[str]) -> Iterator[str]:
    """Yield what was done that kernels cannot have in common, since `opened` was open and `known` were the modules."""
    if threading.active_count() > 1:
        yield "starts threads"
    for kind in sorted({kind for kind, _ in _opened() - opened}):
        yield f"opens {kind}"
    if _have_random_generator(module for name, module in list(sys.modules.items()) if name not in known):
        yield "makes a random generator"


def _opened() -> set[tuple[str, str]]:
    """Return what is open that kernels cannot have in common: its kind, and what the system calls it."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a number, not a path
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
            if target.startswith(("socket:", "anon_inode:[event")):
                found.add(("sockets", target))
            elif _is_file_for_writing(int(descriptor)) and not target.startswith("/memfd:"):
                found.add(("files for writing", target))
    return found


def _is_file_for_writing(descriptor: int) -> bool:
    mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    return mode != os.O_RDONLY and stat.S_ISREG(os.fstat(descriptor).st_mode)


def _have_random_generator(modules: Iterable[object]) -> bool:
    """Whether one of `modules` has a random generator among its globals that `_start_afresh` does not seed."""
    kinds: tuple[type, ...] = (random.Random,)
    # The functions of both modules are methods of these.
    seeded = [vars(random)["random"].__self__]
    if numpy_random := sys.modules.get("numpy.random"):
        kinds += (numpy_random.Generator, numpy_random.RandomState, numpy_random.BitGenerator)
        seeded.append(numpy_random.random.__self__)
    return any(
        issubclass(type(value), kinds)
        and not issubclass(type(value), random.SystemRandom)
        and all(value is not generator for generator in seeded)
        for module in modules
        for value in list(_globals_of(module).values())
    )


def _globals_of(module: object) -> dict[str, Any]:
    """Return the globals of `module`, asked in a way that has no module import itself which does so when it is used."""
    return object.__getattribute__(module, "__dict__") if issubclass(type(module), ModuleType) else {}


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _forget_caches() -> None:
    """Forget what may have changed by the time that a kernel looks."""
    linecache.clearcache()
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


def _be_guard(requests: socket.socket, heritage: _Heritage, control: int, mouth: int, channel: int) -> None:
    """Be the guard of a new kernel, in a process of its own, to its end.

    `control` is closed by AutoFlow to have the kernel killed, into `mouth` goes what is said outside of cells. Through
    `channel` goes the id of this process, comes what kernel is wanted, if any still is, and goes at last the exit
    status. The environment of the kernel has what is wanted, and what modules have set in theirs.
    """
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        requests.close()
        os.dup2(control, 0)
        os.dup2(mouth, 1)
        os.dup2(mouth, 2)
        os.close(control)
        os.close(mouth)
        with socket.socket(fileno=channel) as connection:
            connection.sendall(f"{os.getpid()}\n".encode())
            with connection.makefile("r", encoding="ascii") as lines:
                line = lines.readline()
            if not line:
                return
            wanted = json.loads(line)
            folder = wanted.pop("folder")
            wanted["environment"] = heritage.variables | wanted["environment"]
            status = guard(folder, lambda: _be_kernel(connection, heritage, **wanted))
            connection.sendall(f"{status}\n".encode())
        # That nothing is left is told by closing these: before the system takes this process apart, for some ms.
        os.closerange(0, 3)
    except BrokenPipeError:
        pass
    except BaseException:  # noqa: BLE001 - this process has no other end
        traceback.print_exc()
    finally:
        os._exit(status)


def _be_kernel(
    connection: socket.socket,
    heritage: _Heritage,
    *,
    arguments: list[str],
    environment: dict[str, str],
    cwd: str,
) -> None:
    """Be the kernel, to its end, as if ``python -m ipykernel_launcher`` with `arguments` had been started in `cwd`."""
    status = 1
    try:
        connection.close()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(cwd)
        for name in heritage.own_modules:
            del sys.modules[name]
        _start_afresh()
        sys.argv = [heritage.launcher, *arguments]
        sys.orig_argv = [sys.executable, "-m", LAUNCHER, *arguments]
        status = _run_kernel(arguments)
    except BaseException:  # noqa: BLE001 - there is nobody else to tell
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            _end()
        os._exit(status)


def _start_afresh() -> None:
    """Forget what a Python that has just been started would not know, or would not have in common with others."""
    random.seed()
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
    if processes := sys.modules.get("multiprocessing.process"):
        processes.current_process().authkey = os.urandom(32)
    tempfile.tempdir = None
    _forget_caches()


def _run_kernel(arguments: list[str]) -> int:
    """Run a kernel until it is told to end; return the exit status."""
    from ipykernel.kernelapp import IPKernelApp  # noqa: PLC0415 - as above
    from traitlets.config import Config  # noqa: PLC0415 - as above

    class KernelApp(IPKernelApp):
        def parse_command_line(self, argv: list[str] | None = None) -> None:
            """Take the usual arguments as they are: the parser for all that there could be takes 5 ms."""
            match argv:
                case ["-f", connection_file, argument] if argument == HISTORY_IN_MEMORY:
                    application, history = {"connection_file": connection_file}, {"hist_file": ":memory:"}
                    self.cli_config = Config({"IPKernelApp": application, "HistoryManager": history})
                    self.update_config(self.cli_config)
                case _:
                    super().parse_command_line(argv)

    app = KernelApp.instance(parent_handle=os.getppid())
    # By the whole of its name it is there already; for "storemagic", all folders are searched first.
    app.default_extensions = ["IPython.extensions.storemagic"]
    try:
        app.initialize(arguments)  # type: ignore[no-untyped-call]
        app.start()  # type: ignore[no-untyped-call]
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    # The request to shut down may still be seen to in that thread, which waits for what `close` is to end.
    thread = app.control_thread
    if thread and thread.is_alive():
        thread.stop()
        thread.join(timeout=1)
    return 0


def _end() -> None:
    """Do what a Python does at its end, but for taking everything apart, which takes longer than most notebooks.

    The first two are what ``multiprocessing`` calls in the processes that it has forked. What was frozen is not looked
    through for files: there are none for writing among it, see `_opened`.
    """
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    gc.collect()
    for value in gc.get_objects():
        if issubclass(type(value), _BUFFERED):
            with contextlib.suppress(Exception):
                value.flush()
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream:
            stream.flush()

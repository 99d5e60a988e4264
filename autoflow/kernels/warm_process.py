"""A Python that has imported what notebooks need, and forks a kernel whenever it is asked to.

A process of its own; `fork_server` starts it, and says over a socket of messages what it wants. Each kernel gets a
guard, as a kernel that is started the ordinary way does, and the same things of its own: a session, an environment, a
folder, seeds for the random numbers of Python and numpy. What else modules make as they are imported is the same for
all kernels; what must not be is not imported here, see `preload`. No kernel depends on this process, which only
ever forks, once it has been forked.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import importlib.util
import io
import json
import linecache
import logging
import os
import random
import select
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from types import ModuleType
from typing import Any

from autoflow.kernels.guard import guard
from autoflow.kernels.hazards import has_children
from autoflow.kernels.preload import Imported, import_ahead

LAUNCHER = "ipykernel_launcher"
"""The module that starts a kernel the ordinary way: ``python -m ipykernel_launcher -f FILE``."""

HISTORY_IN_MEMORY = "--HistoryManager.hist_file=:memory:"
"""The argument for IPython not to keep the code of all notebooks in a file, where others would see it."""

_BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


class _Module:
    """What a debugger has to know of a module."""

    __slots__ = ("__file__",)

    def __init__(self, file: str) -> None:
        self.__file__ = file


@dataclass(frozen=True)
class _Heritage:
    """What a kernel has to know of the process that it is forked from.

    `variables` are those that modules have set, `own_modules` the names of modules that are AutoFlow's and none of the
    kernel's business, `launcher` is the file of `LAUNCHER`; `modules` are the names of all modules that are imported,
    and `files` those of their files. A kernel that went through them by itself would copy the memory of each.
    """

    variables: dict[str, str]
    own_modules: tuple[str, ...]
    launcher: str
    modules: frozenset[str]
    files: "dict[str, _Module]"


def main(requests: socket.socket, modules: Sequence[str], idle_seconds: float, warming_seconds: float) -> None:
    """Import `modules`, tell what came of it, and fork a kernel for each of `requests` until nobody wants any.

    That is when the other end of `requests` is closed, or nothing was asked for in `idle_seconds` and no kernel is
    left. After `warming_seconds`, what is still importing is ended by SIGALRM.
    """
    before = dict(os.environ)
    spec = importlib.util.find_spec(LAUNCHER)
    launcher = str(spec.origin if spec else LAUNCHER)
    sys.argv = [launcher]
    with _mortal(requests, warming_seconds):
        imported = import_ahead(modules, requests.fileno())
    heritage = _Heritage(
        # A module that sets a variable for itself, or for those that it imports, counts on it.
        variables={name: value for name, value in os.environ.items() if before.get(name) != value},
        own_modules=tuple(name for name in sys.modules if name.partition(".")[0] == "autoflow"),
        launcher=launcher,
        modules=frozenset(sys.modules),
        files={file: _Module(file) for file in _files_of_modules()},
    )
    # What each kernel forgets is forgotten here: memory that a fork frees is copied for it first.
    _forget_caches()
    _flush_c_streams()
    gc.collect()
    gc.freeze()
    _tell(requests, imported)
    _fork_on_request(requests, heritage, idle_seconds)


def _fork_on_request(requests: socket.socket, heritage: _Heritage, idle_seconds: float) -> None:
    # Children are collected by the system.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    while True:
        if not poll.poll(idle_seconds * 1000):
            if not has_children():
                return
            continue
        message, descriptors, _, _ = socket.recv_fds(requests, 1, 3)
        if not message:
            return
        with contextlib.suppress(OSError):
            if len(descriptors) == 3 and os.fork() == 0:
                _be_guard(requests, heritage, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _files_of_modules() -> Iterator[str]:
    """Yield the files of all modules that are not AutoFlow's own."""
    for name, module in list(sys.modules.items()):
        # Asked in a way that has no module import itself which does so when it is used.
        is_module = issubclass(type(module), ModuleType)
        file = object.__getattribute__(module, "__dict__").get("__file__") if is_module else None
        if file and name.partition(".")[0] != "autoflow":
            # The text anew, so that all of them are near each other in memory.
            yield f"{file[:1]}{file[1:]}"


@contextmanager
def _mortal(requests: socket.socket, seconds: float) -> Iterator[None]:
    """End this process, whatever the block is at, after `seconds`, or as the other end of `requests` is closed.

    The signals are the system's, and do so by themselves: the block may be at a place where Python handles none.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)
    fcntl.fcntl(requests, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(requests, fcntl.F_GETFL)
    # SIGIO comes as well if something is said, which nobody does.
    fcntl.fcntl(requests, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([requests], [], [], 0)[0]:
        sys.exit()
    yield
    fcntl.fcntl(requests, fcntl.F_SETFL, flags)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _tell(requests: socket.socket, imported: Imported) -> None:
    """Send `imported` in a file: as a message, it would have to fit into the buffer of the socket."""
    with open(os.memfd_create("imported"), "wb") as file:
        file.write(json.dumps(asdict(imported)).encode())
        file.seek(0)
        socket.send_fds(requests, [b"i"], [file.fileno()])


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
        status = _run_kernel(arguments, heritage.files)
    except BaseException:  # noqa: BLE001 - there is nobody else to tell
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            _end(heritage.modules)
        os._exit(status)


def _start_afresh() -> None:
    """Forget what a Python that has just been started would not know, or would not have in common with others."""
    random.seed()
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
    if processes := sys.modules.get("multiprocessing.process"):
        processes.current_process().authkey = os.urandom(32)
    tempfile.tempdir = None
    vars(logging)["_startTime"] = time.time() if sys.version_info < (3, 13) else time.time_ns()
    # A main thread that has been forked takes itself for the one that it was.
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined] # noqa: SLF001
    _forget_caches()


def _run_kernel(arguments: list[str], files: "dict[str, _Module]") -> int:
    """Run a kernel until it is told to end; return the exit status. `files` are those of the modules that are there."""
    from ipykernel.kernelapp import IPKernelApp  # noqa: PLC0415 - this module is to be imported without IPython

    app = IPKernelApp.instance(parent_handle=os.getppid())
    # By the whole of its name it is there already; for "storemagic", all folders are searched first.
    app.default_extensions = ["IPython.extensions.storemagic"]
    vars(app)["parse_command_line"] = partial(_parse_command_line, app)
    vars(app)["init_kernel"] = partial(_init_kernel, app, files)
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


def _parse_command_line(app: Any, argv: list[str] | None = None) -> None:
    """Take the usual arguments as they are: the parser for all that there could be takes 5 ms."""
    from traitlets.config import Config  # noqa: PLC0415 - as above

    match argv:
        case ["-f", connection_file, argument] if argument == HISTORY_IN_MEMORY:
            application, history = {"connection_file": connection_file}, {"hist_file": ":memory:"}
            app.cli_config = Config({"IPKernelApp": application, "HistoryManager": history})
            app.update_config(app.cli_config)
        case _:
            type(app).parse_command_line(app, argv)


def _init_kernel(app: Any, files: "dict[str, _Module]") -> None:
    """Make the kernel's objects, with the modules' `files` at hand: their list is for the debugger alone."""
    from ipykernel import ipkernel  # noqa: PLC0415 - as above

    vars(ipkernel)["sys"] = _SysWithFiles(files)
    try:
        type(app).init_kernel(app)
    finally:
        vars(ipkernel)["sys"] = sys


class _SysWithFiles:
    """The module `sys`, but for its modules, of which there are the files alone."""

    def __init__(self, files: "dict[str, _Module]") -> None:
        self.modules = files

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def _end(inherited: frozenset[str]) -> None:
    """Do what a Python does at its end, but for taking everything apart, which takes longer than most notebooks.

    Only what the notebook has imported is taken apart: everything but the modules `inherited`. Objects that end a file
    as they go, such as those of gzip, are flushed before all the same, should one of them have the process crash.
    The first two are what ``multiprocessing`` calls in the processes that it has forked. C's exit is not called: it
    would have libraries end the threads that they had before the fork.
    """
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    _flush()
    _take_apart(inherited)
    _flush()


def _flush() -> None:
    """Write what is in buffers. What was frozen is not looked through for files: see `kernel_hazards`."""
    gc.collect()
    for value in gc.get_objects():
        if issubclass(type(value), _BUFFERED):
            with contextlib.suppress(Exception):
                value.flush()
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream:
            stream.flush()
    _flush_c_streams()


def _flush_c_streams() -> None:
    ctypes.CDLL(None).fflush(None)


def _take_apart(inherited: frozenset[str]) -> None:
    """Let go of all modules but those `inherited`, as Python does: of the modules, then of what is in those left."""
    sys.last_type = sys.last_value = sys.last_traceback = None
    modules = [sys.modules.pop(name) for name in sys.modules.keys() - inherited]
    references = [weakref.ref(module) for module in modules if issubclass(type(module), ModuleType)]
    modules.clear()
    gc.collect()
    for reference in references:
        if module := reference():
            names = object.__getattribute__(module, "__dict__")
            for name in sorted(names, key=lambda name: name.startswith("__") or not name.startswith("_")):
                if name != "__builtins__":
                    names[name] = None

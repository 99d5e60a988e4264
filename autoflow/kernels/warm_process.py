"""A Python process that preloads what notebooks import, and forks a kernel for each request.

`fork_server` starts it and sends it requests over a socket. Each kernel gets a guard, a session, an environment, a
working folder and random seeds of its own; it shares all else that modules created on import. Modules for which that
would be wrong are not preloaded, see `preload`. This process is also the second one above each kernel, see `guard`: it
stays until its last kernel has ended. A kernel does not need it for anything else.
"""

import contextlib
import ctypes
import fcntl
import gc
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType, ModuleType

from autoflow.kernels.guard import GUARD_TIMEOUT, adopt_orphans, children, guard
from autoflow.kernels.hazards import has_children
from autoflow.kernels.preload import Preloaded, preload
from autoflow.system.exit import run_exit_functions

LAUNCHER = "ipykernel_launcher"
"""The module that starts a kernel the ordinary way: ``python -m ipykernel_launcher -f FILE``."""

HISTORY_IN_MEMORY = "--HistoryManager.hist_file=:memory:"
"""The argument that keeps IPython from storing the code of all notebooks in a file that others can read."""

OUTDATED = b"outdated"
"""The report of this process that something it has imported has changed on disk."""

_BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def main(
    reports: socket.socket, requests: socket.socket, modules: list[str], *, warm_up: float, check: float, idle: float
) -> None:
    """Preload `modules`, report the result, and fork a kernel for each of `requests`.

    Preloading may take `warm_up` seconds. Then this process ends when AutoFlow does, when there were no requests and
    kernels for `idle` seconds, or when a file that was imported has changed, which is checked every `check` seconds. It
    forks no further kernels then, and waits for the end of those that are running.
    """
    spec = importlib.util.find_spec(LAUNCHER)
    sys.argv = [str(spec.origin if spec else LAUNCHER)]
    with _ended_by_signals(reports, warm_up):
        preloaded = preload(modules, (reports.fileno(), requests.fileno()))
    result = {"missing": preloaded.missing, "changed": preloaded.changed, "left_out": preloaded.left_out}
    reports.send(json.dumps(result).encode())
    if preloaded.changed or preloaded.left_out:
        # Without the cleanup of a normal exit, which could wait for threads of a module for ever.
        os._exit(0)
    vars(importlib.import_module("ipykernel.ipkernel"))["sys"] = _SysWithoutModules("sys")
    # Each kernel does this as well; memory that is freed before the fork is not copied for each of them.
    _forget_caches()
    ctypes.CDLL(None).fflush(None)
    gc.collect()
    gc.freeze()
    guards = _Guards()
    _serve(reports, requests, preloaded, guards, check=check, idle=idle)
    # Before the requests are closed: once AutoFlow sees them closed, it has to find all reports.
    reports.close()
    requests.close()
    guards.wait_for_last()


@contextmanager
def _ended_by_signals(reports: socket.socket, seconds: float) -> Iterator[None]:
    """End this process by a signal after `seconds`, or as soon as AutoFlow closes the other end of `reports`.

    Nothing handles these signals, so they work even if a module hangs where Python handles none.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)
    fcntl.fcntl(reports, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(reports, fcntl.F_GETFL)
    fcntl.fcntl(reports, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([reports], [], [], 0)[0]:
        sys.exit()
    yield
    fcntl.fcntl(reports, fcntl.F_SETFL, flags)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _forget_caches() -> None:
    """Clear caches of files that may have changed by the time a kernel starts."""
    linecache.clearcache()
    sys.path_importer_cache.clear()
    importlib.invalidate_caches()


class _Guards:
    """The guards that this process has forked.

    A guard that a notebook has stopped is continued. If a guard was killed, the processes that it has left are killed.
    """

    def __init__(self) -> None:
        self._owner = os.getppid()
        self._pids: set[int] = set()
        adopt_orphans()
        self._ended, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wakeup)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def __bool__(self) -> bool:
        return bool(self._pids)

    def fileno(self) -> int:
        """Return the file descriptor that can be read when `collect` has something to do."""
        return self._ended

    def fork(self) -> bool:
        """Fork a guard; return True in the guard."""
        if pid := os.fork():
            self._pids.add(pid)
            return False
        signal.set_wakeup_fd(-1)
        os.close(self._ended)
        os.close(self._wakeup)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return True

    def collect(self) -> None:
        """Forget guards that have ended, continue stopped ones, and clean up after killed ones."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._ended, 4096)
        is_any_killed = False
        with contextlib.suppress(ChildProcessError):
            while (child := os.waitpid(-1, os.WNOHANG | os.WUNTRACED))[0]:
                pid, status = child
                if os.WIFSTOPPED(status):
                    os.kill(pid, signal.SIGCONT)
                else:
                    # A process that is not a guard was adopted; its own children may be new here.
                    is_any_killed |= os.WIFSIGNALED(status) or pid not in self._pids
                    self._pids.discard(pid)
        if is_any_killed:
            for pid in set(children()) - self._pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def wait_for_last(self) -> None:
        """Wait until all guards have ended; kill those that do not end soon after AutoFlow has."""
        deadline = None
        while self._pids or has_children():
            select.select([self], [], [], GUARD_TIMEOUT)
            self.collect()
            if os.getppid() != self._owner:
                deadline = deadline or time.monotonic() + GUARD_TIMEOUT
            if deadline and time.monotonic() >= deadline:
                for pid in self._pids:
                    os.kill(pid, signal.SIGKILL)


def _serve(
    reports: socket.socket,
    requests: socket.socket,
    preloaded: Preloaded,
    guards: _Guards,
    *,
    check: float,
    idle: float,
) -> None:
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    poll.register(guards, select.POLLIN)
    checked_at = time.monotonic()
    while (ready := {descriptor for descriptor, _ in poll.poll(idle * 1000)}) or guards:
        if guards.fileno() in ready:
            guards.collect()
        if requests.fileno() not in ready:
            continue
        if time.monotonic() >= checked_at + check:
            if preloaded.stamps.are_outdated:
                reports.send(OUTDATED)
                return
            checked_at = time.monotonic()
        message, descriptors, _, _ = socket.recv_fds(requests, 1, 1)
        if not message:
            return
        for descriptor in descriptors:
            with contextlib.suppress(OSError), socket.socket(fileno=descriptor) as channel:
                if guards.fork():
                    reports.close()
                    requests.close()
                    _be_guard(preloaded, channel)


def _be_guard(preloaded: Preloaded, channel: socket.socket) -> None:
    """Run as the guard of a new kernel.

    `channel` brings the request, takes the answer (why there is no kernel, or the id of this process), brings the file
    for output outside of cells, and takes the exit status. AutoFlow closes its end to kill the kernel.
    """
    status = 1
    try:
        os.setsid()
        with channel:
            with channel.makefile() as lines:
                request = json.loads(lines.readline())
            conflict = preloaded.conflict_with(request["cwd"])
            channel.sendall(conflict.encode() if conflict else b"%d" % os.getpid())
            _, outputs, _, _ = socket.recv_fds(channel, 1, 1)
            os.dup2(channel.fileno(), 0)
        for output in outputs:  # one, or none if AutoFlow no longer waits for the kernel
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(output)
            status = guard(request.pop("folder"), lambda: _be_kernel(preloaded, **request))
            os.write(0, b"%d" % status)
        # AutoFlow sees here that nothing is left; the system takes some milliseconds more to end this process.
        os.closerange(0, 3)
    except ConnectionError:
        pass  # the same case
    except BaseException:  # noqa: BLE001 - this process must not return to the loop that forked it
        traceback.print_exc()
    finally:
        os._exit(status)


def _be_kernel(preloaded: Preloaded, *, arguments: list[str], environment: dict[str, str], cwd: str) -> None:
    """Run as a kernel, as if ``python -m ipykernel_launcher`` had been started with `arguments` in `cwd`."""
    status = 1
    try:
        os.environ.clear()
        os.environ.update(preloaded.variables | environment)
        os.chdir(cwd)
        for name in preloaded.own_modules:
            del sys.modules[name]
        _start_afresh()
        sys.argv = [sys.argv[0], *arguments]
        sys.orig_argv = [sys.executable, "-m", LAUNCHER, *arguments]
        status = _run_kernel(arguments)
    except BaseException:  # noqa: BLE001 - this process must not return to the guard's code
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            _end(preloaded.modules)
        os._exit(status)


class _SysWithoutModules(ModuleType):
    """The module `sys` for ipykernel, which lists the files of all modules for debuggers; that takes a kernel 6 ms."""

    modules: Mapping[str, ModuleType] = MappingProxyType({})

    def __getattr__(self, name: str) -> object:
        return getattr(sys, name)


def _start_afresh() -> None:
    """Reset what each Python process has for itself, such as random seeds."""
    random.seed()
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
    if processes := sys.modules.get("multiprocessing.process"):
        processes.current_process().authkey = os.urandom(32)
    tempfile.tempdir = None
    vars(logging)["_startTime"] = time.time() if sys.version_info < (3, 13) else time.time_ns()
    # After a fork, the main thread still has the id of the one that it was forked from.
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined] # noqa: SLF001
    _forget_caches()


def _run_kernel(arguments: list[str]) -> int:
    """Run a kernel until it ends; return the exit status."""
    # Imported here because AutoFlow itself, which imports this module, does without ipykernel.
    app = importlib.import_module("ipykernel.kernelapp").IPKernelApp.instance(parent_handle=os.getppid())
    match arguments:
        case ["-f", file, argument] if argument == HISTORY_IN_MEMORY:
            # The usual arguments; ipykernel's parser would take 4 ms.
            usual = {"IPKernelApp": {"connection_file": file}, "HistoryManager": {"hist_file": ":memory:"}}
            app.cli_config = importlib.import_module("traitlets.config").Config(usual)
            app.update_config(app.cli_config)
            vars(app)["parse_command_line"] = lambda _: None
    try:
        app.initialize(arguments)
        app.start()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    # This thread may still handle the shutdown request and wait for what `close` ends.
    thread = app.control_thread
    if thread and thread.is_alive():
        thread.stop()
        thread.join(timeout=1)
    return 0


def _end(inherited: frozenset[str]) -> None:
    """Do what Python does at exit, but leave the modules `inherited` alone: tearing them down takes too long.

    Files are flushed before modules are torn down, in case an object crashes the process then. C's `exit` is not
    called, because libraries would wait for threads that exist only in the server.
    """
    run_exit_functions()
    _flush()
    _tear_down(inherited)
    _flush()


def _flush() -> None:
    """Write all buffers. Frozen objects are not searched for files; `hazards` ensures that there are none."""
    gc.collect()
    for value in gc.get_objects():
        if issubclass(type(value), _BUFFERED):
            with contextlib.suppress(Exception):
                value.flush()
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream:
            stream.flush()
    ctypes.CDLL(None).fflush(None)


def _tear_down(inherited: frozenset[str]) -> None:
    """Release all modules but those `inherited`, and then the contents of those that are still referenced."""
    sys.last_type = sys.last_value = sys.last_traceback = None
    modules = [sys.modules.pop(name) for name in sys.modules.keys() - inherited]
    references = [weakref.ref(module) for module in modules if issubclass(type(module), ModuleType)]
    modules.clear()
    gc.collect()
    for reference in references:
        if module := reference():
            names = object.__getattribute__(module, "__dict__")
            # In Python's own order: names with one underscore first, then the others.
            for name in sorted(names, key=lambda name: name.startswith("__") or not name.startswith("_")):
                if name != "__builtins__":
                    names[name] = None

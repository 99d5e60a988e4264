"""Runs a kernel, and lets nothing that the kernel has started outlive the kernel or AutoFlow.

A program of its own, which needs the standard library alone: ``python -I -S guard.py FOLDER COMMAND...``.
AutoFlow holds the other end of its standard input, and closes it to have the kernel killed; the operating system
does the same should AutoFlow be killed. A kernel looks after its parent itself at best, and its children never do;
those that leave its process group (daemons, `setsid`) could not be found again by anybody but the process that
inherits all orphans below it, which is this one.

Only a notebook that kills this process on purpose gets away with it: its kernel ends, and what that has started stays.

It ends with the exit status of the kernel, or 128 plus the number of the signal that ended it, as shells do, and
removes FOLDER, where the kernel's sockets are.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STDIN = 0


def guard(folder: str, become_kernel: Callable[[], None]) -> int:
    """Run a kernel until it ends or standard input is closed; return the exit status for this process.

    `become_kernel` is called in a new process, and does not return.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    kernel = _start(become_kernel, (woken, wake))
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, _: _send(signum, kernel))
    status = _wait(kernel, woken)
    _kill_children(kernel)
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            os.unlink(entry)
        os.rmdir(folder)
    return status


def _start(become_kernel: Callable[[], None], descriptors: tuple[int, ...]) -> int:
    """Start the kernel in a session of its own, to end with this process; return its process id.

    `descriptors` are those of open files that are none of the kernel's business.
    """
    guard_id = os.getpid()
    if pid := os.fork():
        return pid
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in descriptors:
            os.close(descriptor)
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == guard_id:
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, STDIN)
            os.close(null)
            become_kernel()
    finally:
        os._exit(1)


def execute(command: list[str]) -> None:
    """Have `command` take the place of this process."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - there is no shell wanted
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
        os._exit(127)


def _wait(kernel: int, woken: int) -> int:
    """Wait until the process `kernel` ends or standard input is closed; return what this process shall end with."""
    while True:
        readable, _, _ = select.select([STDIN, woken], [], [])
        if STDIN in readable and not os.read(STDIN, 1):
            return 128 + signal.SIGKILL
        if woken in readable:
            os.read(woken, 1024)
        for pid, status in _ended_children():
            if pid == kernel:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def _ended_children() -> list[tuple[int, int]]:
    """Collect the children that have ended, adopted ones included, so that none stays as a zombie."""
    ended = []
    with contextlib.suppress(ChildProcessError):
        while (child := os.waitpid(-1, os.WNOHANG))[0]:
            ended.append(child)
    return ended


def _kill_children(kernel: int) -> None:
    """Kill all children, then those that were theirs and are this process's now, until there are none."""
    _send(signal.SIGKILL, kernel)
    with contextlib.suppress(ChildProcessError):
        while True:
            # Raises if there are none, which is so nearly always, and saves the search for them.
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            for pid in _children():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    own = str(os.getpid()).encode()
    children: list[int] = []
    if sys.platform != "linux":
        return children
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
            # PID (NAME) STATE PPID ...: the name may hold anything, brackets and spaces included.
            if stat.read().rpartition(b")")[2].split()[1] == own:
                children.append(int(name))
    return children


def _send(signum: int, process_group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process_group, signum)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1], lambda: execute(sys.argv[2:])))

"""Runs a kernel and kills whatever the kernel has started when the kernel or AutoFlow ends.

As a program it needs the standard library alone: ``python -I -S guard.py FOLDER COMMAND...``. AutoFlow holds the other
end of its standard input and closes it to kill the kernel; the operating system does so if AutoFlow is killed. Orphans
below this process become its children, so even daemons and processes that called `setsid` are found. Only a notebook
that kills its guard on purpose leaves processes behind.
"""

import _thread
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STDIN = 0


def guard(folder: str, become_kernel: Callable[[], None]) -> int:
    """Run a kernel until it ends or standard input is closed, and remove `folder` with the kernel's sockets.

    Return the exit status of the kernel, or 128 plus the number of the signal that killed it, as shells do.
    `become_kernel` is called in a new process and does not return.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    kernel = _start(become_kernel)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, _: _send(signum, kernel))
    _thread.start_new_thread(_kill_at_end_of_input, (kernel,))
    status = _wait(kernel)
    _kill_children(kernel)
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            os.unlink(entry)
        os.rmdir(folder)
    return status


def _start(become_kernel: Callable[[], None]) -> int:
    """Start the kernel in a session of its own, to be killed with this process; return its process id."""
    guard_id = os.getpid()
    if pid := os.fork():
        return pid
    try:
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
    """Replace this process by `command`."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
        os._exit(127)


def _kill_at_end_of_input(kernel: int) -> None:
    """Kill the process group `kernel` once standard input is closed; runs in a thread."""
    # Signals are for the main thread, which waits for processes and would not wake up otherwise.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with contextlib.suppress(OSError):
        while os.read(STDIN, 1):
            pass
    _send(signal.SIGKILL, kernel)


def _wait(kernel: int) -> int:
    """Wait until the process `kernel` ends and return its status; collect adopted children that end before it."""
    pid = status = 0
    while pid != kernel:
        pid, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _kill_children(kernel: int) -> None:
    """Kill all children, and then the orphans that become children of this process, until none are left."""
    _send(signal.SIGKILL, kernel)
    with contextlib.suppress(ChildProcessError):
        while True:
            # Raises if there are no children, which is the usual case and saves the search.
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            for pid in _children():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> Iterator[int]:
    own = str(os.getpid()).encode()
    for name in filter(str.isdecimal, os.listdir("/proc") if sys.platform == "linux" else ()):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
            # PID (NAME) STATE PPID ...: the name may hold anything, even brackets and spaces.
            if stat.read().rpartition(b")")[2].split()[1] == own:
                yield int(name)


def _send(signum: int, process_group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process_group, signum)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(guard(sys.argv[1], lambda: execute(sys.argv[2:])))

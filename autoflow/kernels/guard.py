"""Runs a kernel and kills whatever the kernel has started when the kernel or AutoFlow ends.

As a program it needs the standard library alone: ``python -I -S guard.py FOLDER COMMAND...``. AutoFlow holds the other
end of its standard input and closes it to kill the kernel; the operating system does so if AutoFlow is killed. Orphans
below this process become its children, so even daemons and processes that called `setsid` are found.

The guard also kills the kernel at a deadline, which AutoFlow moves on while it is at work: an AutoFlow that was stopped
cannot end its kernels, but others will take its runs.

A notebook can kill or stop its guard. So there is a second process above the guard, which adopts what a killed guard
leaves and lets a stopped one continue. For a forked kernel, that is the warm process; for an ordinary kernel, the
program is that process, and its child is the guard. Only a notebook that kills both, or stops both before AutoFlow
is killed, leaves processes behind.
"""

import _thread
import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STDIN = 0

GUARD_TIMEOUT = 1.0
"""How long a guard may take to kill everything, in seconds, before the process above it does."""

DEADLINE = "deadline"
"""The file in the folder of a kernel with the time at which its guard kills it, in seconds of `now`."""

DEADLINE_SECONDS = 0.5
"""How often the deadline is read, and moved on, in seconds."""


def now() -> float:
    """Return the time since the boot, which counts while the machine is suspended, in seconds."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def main(folder: str, command: list[str]) -> int:
    """Run the kernel that `command` starts below a guard; if the guard is killed, kill what it has left.

    Parameters and result are those of `guard`.
    """
    adopt_orphans()
    # The guard reads the end of this pipe when this process is killed.
    pipe, own_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(own_end)
        os.setsid()
        os._exit(guard(folder, lambda: execute(command), pipe))
    os.close(pipe)
    _forward_signals(lambda signum: os.kill(pid, signum))
    has_ended = _thread.allocate_lock()
    has_ended.acquire()
    _thread.start_new_thread(_kill_late, (pid, has_ended))
    status = _wait_for_guard(pid)
    has_ended.release()
    _kill_children()
    _remove(folder)
    return status


def guard(folder: str, become_kernel: Callable[[], None], pipe: int | None = None) -> int:
    """Run a kernel until it ends or standard input or `pipe` is closed, and remove `folder` with its sockets.

    Return the exit status of the kernel, or 128 plus the number of the signal that killed it, as shells do.
    `become_kernel` is called in a new process and does not return.
    """
    adopt_orphans()
    kernel = _start(become_kernel, pipe)
    _forward_signals(lambda signum: _send(signum, kernel))
    _thread.start_new_thread(_kill_at_end_of_input, (kernel, pipe))
    _thread.start_new_thread(_kill_at_deadline, (kernel, f"{folder}/{DEADLINE}"))
    status = _wait(kernel)
    _send(signal.SIGKILL, kernel)
    _kill_children()
    _remove(folder)
    return status


def adopt_orphans() -> None:
    """Make this process the parent of all orphans below it."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _forward_signals(send: Callable[[int], None]) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, _: send(signum))


def _start(become_kernel: Callable[[], None], pipe: int | None) -> int:
    """Start the kernel in a session of its own, to be killed with this process; return its process id."""
    guard_id = os.getpid()
    has_session, own_end = os.pipe()
    if pid := os.fork():
        # Before it has a process group, it could not be killed by that.
        os.close(own_end)
        os.read(has_session, 1)
        os.close(has_session)
        return pid
    try:
        os.setsid()
        os.close(has_session)
        os.close(own_end)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == guard_id:
            if pipe is not None:
                os.close(pipe)
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


def _kill_at_end_of_input(kernel: int, pipe: int | None) -> None:
    """Kill the process group `kernel` once standard input or `pipe` is closed; runs in a thread."""
    if pipe is None:
        _wait_for_end_of(STDIN)
    else:
        parent = os.getppid()
        _wait_for_end_of(STDIN, pipe)
        if os.getppid() == parent:
            # A notebook may have stopped it.
            os.kill(parent, signal.SIGCONT)
    _send(signal.SIGKILL, kernel)


def _kill_at_deadline(kernel: int, file: str) -> None:
    """Kill the process group `kernel` once the deadline in `file` has passed; runs in a thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        time.sleep(DEADLINE_SECONDS)
        with contextlib.suppress(OSError, ValueError), open(file) as deadline:
            if now() > float(deadline.read()):
                _send(signal.SIGKILL, kernel)


def _kill_late(pid: int, has_ended: _thread.LockType) -> None:
    """Kill the guard `pid` if it has not ended soon after standard input is closed; runs in a thread."""
    _wait_for_end_of(STDIN)
    if not has_ended.acquire(timeout=GUARD_TIMEOUT):
        os.kill(pid, signal.SIGKILL)


def _wait_for_end_of(*descriptors: int) -> None:
    """Return when the other end of one of `descriptors` is closed; for threads."""
    # Signals are for the main thread, which waits for processes and would not wake up otherwise.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with contextlib.suppress(OSError):
        while all(os.read(each, 1) for each in select.select(descriptors, [], [])[0]):
            pass


def _wait_for_guard(guard_id: int) -> int:
    """Wait until the guard ends and return its status; let it continue whenever it is stopped."""
    while True:
        _, status = os.waitpid(guard_id, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return _as_in_shells(status)
        os.kill(guard_id, signal.SIGCONT)


def _wait(kernel: int) -> int:
    """Wait until the process `kernel` ends and return its status; collect adopted children that end before it."""
    pid = status = 0
    while pid != kernel:
        pid, status = os.wait()
    return _as_in_shells(status)


def _as_in_shells(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _kill_children() -> None:
    """Kill all children, and then the orphans that become children of this process, until none are left."""
    with contextlib.suppress(ChildProcessError):
        while True:
            # Raises if there are no children, which is the usual case and saves the search.
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            for pid in children():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def children() -> Iterator[int]:
    """Yield the ids of the children of this process."""
    own = str(os.getpid()).encode()
    for name in filter(str.isdecimal, os.listdir("/proc") if sys.platform == "linux" else ()):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
            # PID (NAME) STATE PPID ...: the name may hold anything, even brackets and spaces.
            if stat.read().rpartition(b")")[2].split()[1] == own:
                yield int(name)


def _remove(folder: str) -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            os.unlink(entry)
        os.rmdir(folder)


def _send(signum: int, process_group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process_group, signum)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

"""What Python does when a process ends, for processes that leave out its last step."""

import atexit
import threading


def run_exit_functions() -> None:
    """Wait for threads, and call the functions registered with `atexit`; the process should then end by `os._exit`.

    ``multiprocessing`` makes the same two calls in processes that it has forked. Python would go on to free all memory,
    which takes up to seconds, and to end daemon threads wherever they are, which aborts the process if one is within
    Rust or C++ code.
    """
    threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001

"""The entry point: ``python -m autoflow``."""

import gc
import os
import sys
import threading

from autoflow.cli import main
from autoflow.system.exit import run_exit_functions
from autoflow.system.stop_signal import LAST_WAIT


def flush_streams() -> None:
    """Write what is left in the standard streams, which a process may have been started without."""
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()


if __name__ == "__main__":
    # Collections would take a fifth of the time of the imports; `cli` enables them once a verb is imported.
    gc.disable()
    code = main()
    flush_streams()
    # Python waits for threads before it exits. A thread that waits for a hanging Prefect API would take minutes.
    end = threading.Timer(LAST_WAIT, os._exit, [code])
    end.daemon = True
    end.start()
    run_exit_functions()
    flush_streams()
    os._exit(code)

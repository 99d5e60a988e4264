"""The entry point: ``python -m autoflow``."""

import gc
import os
import sys
import threading

from autoflow.cli import main
from autoflow.stop_signal import LAST_WAIT

if __name__ == "__main__":
    code = main()
    # Python waits for threads before it exits. One that waits for a Prefect API that hangs would take minutes.
    sys.stdout.flush()
    end = threading.Timer(LAST_WAIT, os._exit, [code])
    end.daemon = True
    end.start()
    # Before it exits, Python would look for garbage: seconds of work, for memory that is freed anyway.
    gc.freeze()
    sys.exit(code)

"""The way in: ``python -m autoflow``."""

import gc
import os
import sys
import threading

from autoflow.cli import main
from autoflow.stop_signal import LAST_WAIT

if __name__ == "__main__":
    code = main()
    # Python waits for threads at exit, and one that queries a hung Prefect API would block it for minutes.
    sys.stdout.flush()
    end = threading.Timer(LAST_WAIT, os._exit, [code])
    end.daemon = True
    end.start()
    # Otherwise Python would search all objects for garbage at exit, for seconds.
    gc.freeze()
    sys.exit(code)

"""The way in: ``python -m autoflow``."""

import gc
import os
import sys
import threading

from autoflow.cli import main

LAST_WAIT = 5.0
"""How long threads of libraries may keep the process once AutoFlow has ended, in seconds."""

if __name__ == "__main__":
    code = main()
    # Python waits for threads at its end; one that asks a Prefect API which hangs would keep it for minutes.
    sys.stdout.flush()
    end = threading.Timer(LAST_WAIT, os._exit, [code])
    end.daemon = True
    end.start()
    # Python would look through all that there is before it ends: seconds, for memory that is given back anyway.
    gc.freeze()
    sys.exit(code)

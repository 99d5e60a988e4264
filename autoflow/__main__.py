"""The way in: ``python -m autoflow``."""

import sys

from autoflow.cli import main

if __name__ == "__main__":
    sys.exit(main())

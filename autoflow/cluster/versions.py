"""What has to be the same on all machines of a cluster: AutoFlow's own code, Python, and the files of an order."""

import hashlib
import platform
from functools import cache
from pathlib import Path

from autoflow.utils import file_digest


@cache
def code_version() -> str:
    """Return Python's version and a digest of AutoFlow's modules, as they are now."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0{file_digest(path)}\n".encode())
    return f"{digest.hexdigest()[:12]} (Python {platform.python_version()})"

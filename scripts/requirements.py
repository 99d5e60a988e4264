"""Print the packages in Pipfile.lock as a requirements file for pip, so that the image needs no pipenv.

Run with the path of Pipfile.lock. Only the packages that AutoFlow runs with are printed, each with the one version
that is locked and the hashes that its files may have.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    """Print the requirements of the lock file that is the only argument."""
    lock = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print("\n".join(requirements(lock["default"])))


def requirements(packages: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each of `packages`, which are a section of Pipfile.lock.

    Raises
    ------
    KeyError
        If a package is locked to anything but a version with hashes, such as a commit or a folder.

    """
    for name, package in packages.items():
        extras = f"[{','.join(package['extras'])}]" if "extras" in package else ""
        markers = f" ; {package['markers']}" if "markers" in package else ""
        hashes = "".join(f" --hash={digest}" for digest in package["hashes"])
        yield f"{name}{extras}{package['version']}{markers}{hashes}"


if __name__ == "__main__":
    main()

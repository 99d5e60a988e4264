"""Print the packages in Pipfile.lock as a requirements file for pip, so that the image needs no pipenv.

Run with the path of Pipfile.lock and, for the packages of optional parts, with the names of their sections in it:

    python requirements.py Pipfile.lock cluster

Only the packages that AutoFlow runs with are printed, each with the one version that is locked and the hashes that its
files may have.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    """Print the requirements of the lock file and the sections that are the arguments."""
    file, *sections = sys.argv[1:]
    lock = json.loads(Path(file).read_text(encoding="utf-8"))
    print("\n".join(requirements(merged(lock[section] for section in ("default", *sections)))))


def merged(sections: Iterable[Mapping[str, Mapping[str, Any]]]) -> Mapping[str, Mapping[str, Any]]:
    """Return the packages of several sections of Pipfile.lock.

    Raises
    ------
    ValueError
        If sections have different versions of a package.

    """
    packages: dict[str, Mapping[str, Any]] = {}
    for section in sections:
        for name, package in section.items():
            if packages.get(name, package)["version"] != package["version"]:
                raise ValueError(f"{name} is locked to two versions; run `make lock`")
            packages.setdefault(name, package)
    return packages


def requirements(packages: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each of `packages`, which are as in a section of Pipfile.lock.

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

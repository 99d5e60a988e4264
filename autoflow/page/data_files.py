"""The files from which the page's script loads dates: one for each entry and calendar year."""

import hashlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from autoflow.page.texts import as_json
from autoflow.utils import whole_file

FOLDER_NAME = "page"
"""The folder in the outputs folder with the data of the page."""


class DataFiles:
    """The data files in the outputs folder `outputs_dir`."""

    def __init__(self, outputs_dir: Path) -> None:
        self.folder = outputs_dir / FOLDER_NAME

    def write(self, slug: str, year: int, data: Mapping[str, Any]) -> str:
        """Write the data of an entry and a year, unless the file has it already; return a hash of it, its version.

        Raises
        ------
        OSError
            If the file cannot be written.

        """
        # A script, because browsers do not let a page that is opened from the disk read other files.
        text = f'autoflow("{slug}/{year}",{as_json(data)});\n'.encode()
        path = self.folder / slug / f"{year}.js"
        with suppress(OSError):
            if path.read_bytes() == text:
                return _version(text)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            unfinished.write_bytes(text)
        return _version(text)

    def remove_others(self, kept: Collection[tuple[str, int]]) -> None:
        """Remove the data files of all entries and years that are not in `kept`."""
        names = {(slug, f"{year}.js") for slug, year in kept}
        for path in self.folder.glob("*/*.js"):
            if (path.parent.name, path.name) not in names:
                with suppress(OSError):
                    path.unlink()
        for folder in self.folder.glob("*/"):
            with suppress(OSError):  # of those that are not empty
                folder.rmdir()


def _version(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:8]

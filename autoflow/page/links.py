"""Links of the page to the files of runs."""

import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from autoflow.runs.records import RunKey
from autoflow.utils import readable_name, thumbnail_path

Link: TypeAlias = tuple[str, str, str]
"""What a link leads to, such as ``PDF``; the label of its notebook; and its address."""


Unreadable: TypeAlias = tuple[RunKey, str, Path]
"""An executed notebook that does not exist as HTML, with its run and its label."""


class Links:
    """Turns paths of outputs into links for the page, and knows which notebooks exist as HTML.

    `unreadable` are those that do not, as far as they were asked for. Notebooks that are `unconvertible` are not among
    them, nor are those outside of the notebooks folder, where they may be if that setting has changed.
    """

    def __init__(self, outputs_dir: Path, notebooks_dir: Path, unconvertible: AbstractSet[Path] = frozenset()) -> None:
        self._outputs_dir = outputs_dir
        self._notebooks_dir = str(notebooks_dir)
        self._unconvertible = unconvertible
        self.unreadable: list[Unreadable] = []

    def link(self, path: str) -> str:
        """Return a link that works both on a web server and from the disk."""
        return quote(os.path.relpath(path, self._outputs_dir))

    def is_readable(self, path: str, of: tuple[RunKey, str] | None = None) -> bool:
        """Return whether an executed notebook exists as HTML, too.

        If it does not, and `of` has its run and its label, remember it in `unreadable`.
        """
        if os.path.isfile(readable_name(path)):
            return True
        if of and os.path.dirname(path) == self._notebooks_dir and os.path.isfile(path):
            self.unreadable += [] if Path(path) in self._unconvertible else [(*of, Path(path))]
        return False

    def to_read(self, outputs: Mapping[str, Any]) -> list[Link]:
        """Return the links to the reports and the executed notebooks of a run."""
        return [link for label, each in outputs.items() for link in self._of_notebook(label, each)]

    def thumbnail(self, outputs: Mapping[str, Any]) -> str | None:
        """Return the link to the picture of the first report of a run that has one; None if there is none."""
        reports = (Path(report) for each in outputs.values() for report in each["reports"] if report.endswith(".pdf"))
        pictures = (thumbnail_path(report) for report in reports)
        return next((self.link(str(picture)) for picture in pictures if picture.is_file()), None)

    def _of_notebook(self, label: str, outputs: Mapping[str, Any]) -> list[Link]:
        reports = [(Path(report).suffix[1:].upper(), label, self.link(report)) for report in outputs["reports"]]
        notebook = outputs.get("notebook")
        if notebook is None:
            return reports
        if self.is_readable(notebook):
            return [*reports, ("notebook", label, self.link(readable_name(notebook)))]
        return [*reports, ("ipynb", label, self.link(notebook))]

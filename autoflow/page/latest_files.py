"""The newest reports under names that do not change, so that a link to one can be handed out once."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from autoflow.settings import Settings
from autoflow.system.log import Outage
from autoflow.utils import name_part, whole_file

FOLDER_NAME = "latest"
"""The folder in that of the reports."""

_KINDS = {"PDF": "pdf", "HTML": "html"}


class LatestFiles:
    """Copies of the newest reports of all entries."""

    def __init__(self, settings: Settings) -> None:
        self._outputs_dir = settings.outputs_dir
        self._folder = settings.reports_dir / FOLDER_NAME
        self._copied: dict[Path, tuple[object, ...]] = {}
        self._uncopied: dict[str, Mapping[str, Any]] = {}
        self._outage = Outage()

    def keep(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Make the copies those of the newest date that is done of each of `entries`, which have changed.

        They are entries of the catalogue; removed ones keep their copies. A copy is replaced as a whole. It stays as it
        is if the report is gone. What cannot be copied now is copied by a later call.
        """
        wanted = self._uncopied | {entry["slug"]: entry for entry in entries}
        self._uncopied = {}
        for slug, entry in wanted.items():
            try:
                self._keep(entry)
            except OSError as error:
                self._uncopied[slug] = entry
                self._outage.begin("could not copy the newest reports to %s: %s", self._folder, error)
        if not self._uncopied:
            self._outage.end("copied the newest reports to %s again", self._folder)

    def _keep(self, entry: Mapping[str, Any]) -> None:
        for report, copy in () if entry["removed"] or not entry["latest"] else self._pairs(entry):
            self._copy(report, copy)

    def _pairs(self, entry: Mapping[str, Any]) -> Iterator[tuple[Path, Path]]:
        for kind, label, href in entry["latest"]["links"]:
            if suffix := _KINDS.get(kind):
                yield self._outputs_dir / unquote(href), self._folder / f"{entry['slug']}--{_part(label)}.{suffix}"

    def _copy(self, report: Path, copy: Path) -> None:
        try:
            status = report.stat()
        except FileNotFoundError:
            return
        if not status.st_size:  # it is damaged: a report is never empty
            return
        made_of = (report, status.st_size, status.st_mtime_ns)
        if self._copied.get(copy) != made_of and not _is_copy(copy, status):
            copy.parent.mkdir(exist_ok=True)
            with whole_file(copy) as unfinished:
                shutil.copyfile(report, unfinished)
                os.utime(unfinished, ns=(status.st_atime_ns, status.st_mtime_ns))
        self._copied[copy] = made_of


def _is_copy(copy: Path, of: os.stat_result) -> bool:
    """Return whether a file is a copy of the one with the status `of`: copies have its size and its time."""
    try:
        status = copy.stat()
    except FileNotFoundError:
        return False
    return (status.st_size, status.st_mtime_ns) == (of.st_size, of.st_mtime_ns)


def _part(label: str) -> str:
    """Return a notebook's label for a filename, in which two hyphens only stand between its parts."""
    part = name_part(label)
    return name_part(f"{label}/") if "--" in part else part

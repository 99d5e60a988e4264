"""What a running notebook has printed so far, in a file that other processes can read.

The file has a line of JSON for each event: first the notebook, then the cells as they start, their outputs without
secrets, and at last the end. A process that shares the outputs folder can read it while the notebook runs.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from autoflow.kernels.connection import TOO_LONG
from autoflow.notebooks.executed import text_of
from autoflow.notebooks.redacted_stream import RedactedStream
from autoflow.notebooks.redaction import Redaction
from autoflow.notebooks.terminal import without_overwritten
from autoflow.system.log import logger

FLUSH_SECONDS = 0.5
"""How often what has been printed is written to the file."""

MOST_AT_ONCE = 64_000
"""How many characters of a stream, and of other outputs, are written at once; of a stream, the newest."""

LARGEST_FILE = 5_000_000
"""How many characters of outputs a file has."""

NO_MORE = "[AutoFlow shows no more output of this notebook while it runs; the executed notebook will have it]\n"


class LiveOutput:
    """The file at `path` for the output of a running notebook.

    `redaction` removes the secrets, and `header` is for those who read the file. Without a path, nothing is written. A
    file that cannot be written does not fail the run.
    """

    def __init__(self, path: Path | None, redaction: Redaction, header: Mapping[str, str]) -> None:
        self._path = path
        self.redaction = redaction
        self._streams: dict[str, RedactedStream] = {}
        self._position: Mapping[str, int] = {}
        self._lines = [_line(header)]
        self._unwritten = b""
        self._file: BinaryIO | None = None
        self._room, self._room_of_flush = LARGEST_FILE, MOST_AT_ONCE
        self._left_out = 0

    @contextmanager
    def written(self) -> Iterator[None]:
        """Write to the file every half a second for the duration of the block, which runs in an event loop."""
        if self._path is None:
            yield
            return
        writing = asyncio.ensure_future(self._write_often(self._path))
        try:
            yield
        finally:
            writing.cancel()
            self.cell_ended()
            self._lines.append(_line({"is_end": True}))
            self._position = {}
            self._write(self._path)
            if self._file:
                self._file.close()

    def end_at_once(self) -> None:
        """Write a file that has ended, for a notebook that is not executed."""
        if self._path:
            self._lines.append(_line({"is_end": True}))
            self._write(self._path)
            if self._file:
                self._file.close()

    def cell_started(self, number: int, cells: int, source: str) -> None:
        """Record that a cell starts: its number, counted from 1, the number of cells, and its beginning as shown."""
        self._position = {"cell": number, "cells": cells}
        self._lines.append(_line({**self._position, "source": source}))

    def cell_ended(self) -> None:
        """Record what the current cell has printed to its end."""
        self._take_streams(is_end=True)
        self._note_left_out()
        self._streams = {}

    def message(self, kind: str, content: Mapping[str, Any]) -> None:
        """Record an output, as the kernel has sent it."""
        if self._path is None:
            return
        if kind == "stream":
            if content["name"] not in self._streams:
                self._streams[content["name"]] = RedactedStream(self.redaction, most=MOST_AT_ONCE)
            self._streams[content["name"]].add(content["text"])
        elif kind == TOO_LONG:
            self._left_out += content["size"]
        elif kind == "error":
            self._add_output("error", "\n".join(content["traceback"]) or f"{content['ename']}: {content['evalue']}")
        elif kind in {"execute_result", "display_data"} and "text/plain" in content["data"]:
            self._add_output("result", text_of(content["data"]["text/plain"]))

    def _add_output(self, kind: str, text: str) -> None:
        if self._room_of_flush <= 0 < self._room:
            self._left_out += len(text)
            return
        self._take_streams()
        text = self.redaction.beginning(text, MOST_AT_ONCE)
        self._room_of_flush -= len(text) + MOST_AT_ONCE // 100  # so that they are few
        self._add_text(kind, f"{text}\n")

    def _take_streams(self, *, is_end: bool = False) -> None:
        for name, stream in self._streams.items():
            text = stream.take(is_end=is_end)
            if stream.left_out:
                self._left_out, stream.left_out = self._left_out + stream.left_out, 0
                self._note_left_out()
            if text:
                self._add_text(name, without_overwritten(text))

    def _note_left_out(self) -> None:
        if self._left_out:
            self._add_text("note", f"[AutoFlow left out {amount(self._left_out)} of output here]\n")
            self._left_out = 0

    def _add_text(self, kind: str, text: str) -> None:
        if self._room <= 0:
            return
        self._room -= len(text)
        event = {"kind": kind, "text": text} if self._room > 0 else {"kind": "note", "text": NO_MORE}
        self._lines.append(_line(event))

    async def _write_often(self, path: Path) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self._take_streams()
            self._note_left_out()
            self._room_of_flush = MOST_AT_ONCE
            self._write(path)

    def _write(self, path: Path) -> None:
        """Write what has been recorded; if that is not possible now, leave it to the next time."""
        if self._lines and self._position:
            self._lines.append(_line(self._position))  # for those who only read the end of the file
        self._unwritten += b"".join(self._lines)
        self._lines = []
        try:
            self._file = self._file or path.open("ab", buffering=0)
            while self._unwritten:
                self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
        except OSError as error:
            logger.debug("could not write to %s: %s", path, error.strerror)


def amount(characters: int) -> str:
    """Return a number of characters in words."""
    return f"{characters / 1e6:.1f} MB" if characters >= 100_000 else f"{characters} characters"


def _line(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

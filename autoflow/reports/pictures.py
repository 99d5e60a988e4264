"""Collect the pictures of a report, as files that both PDF and HTML can contain."""

import base64
import binascii
import hashlib
import json
import sys
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autoflow.reports.nodes import Node
from autoflow.reports.programs import run
from autoflow.stop_signal import StopSignal

_LARGEST_FILE = 50_000_000


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture file in the folder of the conversion; `width` and `height` in CSS pixels."""

    name: str
    width: float
    height: float

    def resized(self, metadata: Mapping[str, Any]) -> "Picture":
        """Return the picture in the size that an output's metadata sets, as for high-resolution figures."""
        wanted = next((size for size in metadata.values() if isinstance(size, Mapping) and "width" in size), {})
        width = wanted.get("width")
        if not isinstance(width, int | float) or width <= 0:
            return self
        return replace(self, width=float(width), height=self.height * width / self.width)


@dataclass(frozen=True, kw_only=True)
class Formula:
    """A LaTeX formula without its dollars, either displayed on its own or in a line of text."""

    latex: str
    is_display: bool


def formula_of(node: Node) -> Formula | None:
    """Return the formula of a pandoc element, or None if it is not a formula."""
    if node["t"] == "Math":
        return Formula(latex=node["c"][1], is_display=node["c"][0]["t"] == "DisplayMath")
    if node["t"] in {"RawBlock", "RawInline"} and node["c"][0] in {"tex", "latex"}:
        return Formula(latex=node["c"][1], is_display=True)
    return None


@dataclass
class PictureShelf:
    """The notebook's pictures, and the files made of them.

    `inputs_dir` is the folder of the pictures that a notebook links to.
    """

    folder: Path
    inputs_dir: Path
    _attachments: dict[str, bytes] = field(default_factory=dict)
    _sources: dict[str, bytes] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _finished: dict[str, Picture] = field(default_factory=dict)
    _formulas: dict[Formula, str] = field(default_factory=dict)

    def attach(self, name: str, content: bytes) -> str:
        """Keep an attachment and return its address for `find`."""
        address = f"attachment:{hashlib.sha256(content).hexdigest()[:24]}-{urllib.parse.quote(name)}"
        self._attachments[address] = content
        return address

    def add(self, content: bytes) -> None:
        """Add a picture for `finish` to make a file of."""
        self._sources[_key(content)] = content

    def add_formula(self, formula: Formula) -> None:
        """Add a formula for `finish` to make a picture of."""
        self._formulas[formula] = _key(repr(formula).encode())

    def finish(self, *, timeout: float, stop: StopSignal) -> None:
        """Make the files of all pictures and formulas added, except those that cannot be read."""
        new = {key: content for key, content in self._sources.items() if key not in self._asked}
        formulas = {
            key: [formula.latex, formula.is_display]
            for formula, key in self._formulas.items()
            if key not in self._asked
        }
        if not new and not formulas:
            return
        for key, content in new.items():
            (self.folder / f"{key}.source").write_bytes(content)
        self._asked |= {*new, *formulas}
        order = {"pictures": list(new), "formulas": formulas}
        command = [sys.executable, "-I", str(Path(__file__).with_name("worker"))]
        output, _ = run(command, folder=self.folder, timeout=timeout, stop=stop, given=json.dumps(order).encode())
        for key, (name, width, height) in json.loads(output).items():
            self._finished[key] = Picture(name=name, width=width, height=height)

    def picture(self, content: bytes) -> Picture | None:
        """Return the file made of `content`, or None if it is not a picture."""
        return self._finished.get(_key(content))

    def formula(self, formula: Formula) -> Picture | None:
        """Return the file made of `formula`, or None if it cannot be drawn."""
        return self._finished.get(self._formulas.get(formula, ""))

    def find(self, address: str) -> bytes | None:
        """Return the content of a picture that markdown or HTML links to; None if it is not available.

        Attachments, data: addresses and files below `inputs_dir` are available; nothing is downloaded.
        """
        if address in self._attachments:
            return self._attachments[address]
        if address.startswith("data:"):
            return _data_of(address)
        return self._beside(address)

    def _beside(self, address: str) -> bytes | None:
        try:
            parts = urllib.parse.urlsplit(address)
            if parts.scheme or parts.netloc or not parts.path:
                return None
            folder = self.inputs_dir.resolve()
            path = (folder / urllib.parse.unquote(parts.path)).resolve()
            if path.is_relative_to(folder) and path.is_file() and path.stat().st_size <= _LARGEST_FILE:
                return path.read_bytes()
        except (OSError, ValueError):
            pass  # a name that no file can have
        return None


def attachments_of(bundles: Mapping[str, Mapping[str, str]]) -> Iterable[tuple[str, bytes]]:
    """Yield the name and content of each picture in a cell's attachments."""
    for name, bundle in bundles.items():
        for mimetype, content in bundle.items():
            if mimetype.startswith("image/"):
                yield name, content_of(content)
                break


def content_of(encoded: str | list[str]) -> bytes:
    """Return the bytes of an output's picture, which is base64 or the text of an SVG; empty if it is neither."""
    text = encoded if isinstance(encoded, str) else "".join(encoded)
    if text.lstrip().startswith("<"):
        return text.encode()
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


def _data_of(address: str) -> bytes | None:
    head, comma, content = address.partition(",")
    if not comma or not head.startswith("data:image/"):
        return None
    return content_of(content) if head.endswith(";base64") else urllib.parse.unquote_to_bytes(content)


def _key(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]

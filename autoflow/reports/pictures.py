"""Collect the pictures of a report, as files that both PDF and HTML can contain."""

import base64
import binascii
import hashlib
import json
import re
import sys
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autoflow.notebooks.executed import text_of
from autoflow.reports.nodes import Node
from autoflow.reports.programs import run
from autoflow.system.stop_signal import StopSignal
from autoflow.utils import attachment_name

_LARGEST_FILE = 50_000_000
_WIDEST = 100_000
_SHARE_OF_TIME = 0.6
"""Of a report's time, at most, for pictures: enough is left to make the report without them."""
_NEARLY = 0.9
_OF_CELL = re.compile(r"attachment:cell-(\d{1,9})/(.*)", re.DOTALL)
_LINKED_ATTACHMENT = re.compile(
    r"""(?P<code>(?P<ticks>`+)(?!`).*?(?<!`)(?P=ticks)(?!`)) | (?P<before>\(\s*<?|\]:\s*<?|=\s*["']?)attachment:""",
    re.DOTALL | re.VERBOSE,
)
_LINKED_DATA = re.compile(
    r"""(?P<before>\(\s*<?|\]:\s*<?|\bsrc\s*=\s*["']?)(?P<address>data:[^,\s"'<>()]{0,100},[A-Za-z0-9+/=%\r\n]{1000,})""",
    re.IGNORECASE,
)
_NOT_THERE = "there is no such picture in the notebook or its folder"
_REMOTE = "reports fetch nothing from other places"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture file in the folder of the conversion; all sizes in CSS pixels.

    In a width of `natural`, its letters have their usual size. A picture too long for a page has `parts`, from left to
    right or from top to bottom.
    """

    name: str
    width: float
    height: float
    natural: float
    parts: tuple["Picture", ...] = ()

    @classmethod
    def made(cls, result: Mapping[str, Any]) -> "Picture":
        """Return the picture that the worker describes."""
        name, width, height = result["whole"]
        parts = tuple(cls(name=name, width=wide, height=high, natural=wide) for name, wide, high in result["parts"])
        return cls(name=name, width=width, height=height, natural=result["natural"], parts=parts)

    def resized(self, metadata: Mapping[str, Any]) -> "Picture":
        """Return the picture in the size that an output's metadata sets, as for high-resolution figures."""
        wanted = next((size for size in metadata.values() if isinstance(size, Mapping) and "width" in size), {})
        width = _pixels(wanted.get("width"))
        if not width:
            return self
        is_smaller = width < self.natural * _NEARLY
        return replace(
            self,
            width=width,
            height=self.height * width / self.width,
            natural=min(self.natural, width),
            parts=() if is_smaller else self.parts,
        )


def _pixels(width: object) -> float:
    """Return a requested width, at most `_WIDEST`; 0 if it is not a positive number."""
    if not isinstance(width, int | float) or isinstance(width, bool) or not width > 0:
        return 0.0
    return float(min(width, _WIDEST))


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
    _of_cells: list[Mapping[str, bytes]] = field(default_factory=list)
    _sources: dict[str, bytes] = field(default_factory=dict)
    _other_forms: dict[str, Sequence[bytes]] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _finished: dict[str, Picture] = field(default_factory=dict)
    _problems: dict[str, str] = field(default_factory=dict)
    _formulas: dict[Formula, str] = field(default_factory=dict)

    def attach(self, name: str, content: bytes) -> str:
        """Keep a picture and return its address for `find`."""
        address = f"attachment:{_key(content)}-{urllib.parse.quote(name)}"
        self._attachments[address] = content
        return address

    def attach_of_cell(self, contents: Mapping[str, bytes]) -> str:
        """Keep a cell's attachments, and return what is to precede their names in addresses."""
        self._of_cells.append(contents)
        return f"cell-{len(self._of_cells) - 1}/"

    def with_data_attached(self, text: str) -> str:
        """Return markdown or HTML with addresses of attachments for its data: addresses, which would be long text."""
        return _LINKED_DATA.sub(self._attached_data, text)

    def _attached_data(self, found: re.Match[str]) -> str:
        content = _data_of(found["address"])
        return found[0] if content is None else found["before"] + self.attach("picture", content)

    def add(self, content: bytes, other_forms: Sequence[bytes] = ()) -> None:
        """Add a picture for `finish` to make a file of, and other forms of it in case it cannot be shown."""
        self._sources[_key(content)] = content
        if other_forms:
            self._other_forms[_key(content)] = other_forms

    def add_formula(self, formula: Formula) -> None:
        """Add a formula for `finish` to make a picture of."""
        self._formulas[formula] = _key(repr(formula).encode())

    def finish(self, *, timeout: float, stop: StopSignal) -> None:
        """Make the files of all pictures and formulas added, except those that cannot be shown."""
        deadline = time.monotonic() + timeout
        while new := [key for key in (*self._sources, *self._formulas.values()) if key not in self._asked]:
            self._asked.update(new)
            self._make(new, timeout=deadline - time.monotonic(), stop=stop)
            for key in new:
                for content in self._other_forms.get(key, ()) if key in self._problems else ():
                    self.add(content)

    def _make(self, keys: Sequence[str], *, timeout: float, stop: StopSignal) -> None:
        """Make the files of these pictures and formulas."""
        pictures = [key for key in keys if key in self._sources]
        for key in pictures:
            (self.folder / f"{key}.source").write_bytes(self._sources[key])
        formulas = {key: [formula.latex, formula.is_display] for formula, key in self._formulas.items() if key in keys}
        order = {"pictures": pictures, "formulas": formulas, "seconds": timeout * _SHARE_OF_TIME}
        command = [sys.executable, "-I", str(Path(__file__).with_name("worker"))]
        output, _ = run(command, folder=self.folder, timeout=timeout, stop=stop, given=json.dumps(order).encode())
        for key, result in json.loads(output).items():
            if problem := result.get("problem"):
                self._problems[key] = problem
            else:
                self._finished[key] = Picture.made(result)

    def picture(self, content: bytes) -> Picture | None:
        """Return the file made of `content`, or of another form of it; None if it cannot be shown."""
        forms = (content, *self._other_forms.get(_key(content), ()))
        return next((made for form in forms if (made := self._finished.get(_key(form)))), None)

    def problem(self, content: bytes | None, address: str = "") -> str:
        """Return why a picture cannot be shown: its `content`, or None if its `address` leads to no picture."""
        if content is None:
            return _REMOTE if address.startswith(("http:", "https:", "//", "ftp:")) else _NOT_THERE
        return self._problems.get(_key(content), "")

    def formula(self, formula: Formula) -> Picture | None:
        """Return the file made of `formula`, or None if it cannot be drawn."""
        return self._finished.get(self._formulas.get(formula, ""))

    def find(self, address: str) -> bytes | None:
        """Return the content of a picture that markdown or HTML links to; None if it is not available.

        Attachments, data: addresses and files below `inputs_dir` are available; nothing is downloaded.
        """
        if address in self._attachments:
            return self._attachments[address]
        if found := _OF_CELL.fullmatch(address):
            attached = self._of_cells[int(found[1])]
            name = attachment_name(found[2], attached)
            return None if name is None else attached[name]
        if address[:5].lower() == "data:":
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


def attachments_of(bundles: Mapping[str, Mapping[str, str | list[str]]]) -> dict[str, bytes]:
    """Return the content of each picture in a cell's attachments, by its name."""
    return {
        name: content_of(content)
        for name, bundle in bundles.items()
        for kind, content in bundle.items()
        if is_picture(kind)
    }


def is_picture(kind: str) -> bool:
    """Return whether a MIME type is that of a picture; a PDF is one, because figures can be PDFs."""
    return kind.startswith("image/") or kind == "application/pdf"


def with_linked_attachments(markdown: str, prefix: str) -> str:
    """Return `markdown` with `prefix` before the name in each link to an attachment, except in code."""
    return _LINKED_ATTACHMENT.sub(
        lambda found: found[0] if found["code"] else f"{found['before']}attachment:{prefix}", markdown
    )


def content_of(encoded: str | list[str]) -> bytes:
    """Return the bytes of an output's picture, which is base64 or the text of an SVG; empty if it is neither."""
    text = text_of(encoded).lstrip("\ufeff \t\r\n")
    if text.startswith("<"):
        return text.encode(errors="replace")
    try:
        return base64.b64decode(f"{text}==")  # as browsers do, without what is not base64, and if its end is missing
    except (binascii.Error, ValueError):
        return b""


def _data_of(address: str) -> bytes | None:
    """Return the content of a data: address, whatever its kind: `finish` looks at the content itself."""
    head, comma, content = address.partition(",")
    if not comma:
        return None
    encoded = urllib.parse.unquote_to_bytes(content)
    return content_of(encoded.decode("latin-1")) if head.rstrip().lower().endswith("base64") else encoded


def _key(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]

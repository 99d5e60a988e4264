"""Clean SVG drawings: without scripts, references to other files, or more than can be drawn in reasonable time."""

import base64
import io
import math
import re
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from images import Made, opened, shrunk  # type: ignore[import-not-found]
from isolated import DAMAGED, NotShownError  # type: ignore[import-not-found]
from strips import strips  # type: ignore[import-not-found]

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_ENCODING = re.compile(rb"""^\s*<\?xml[^>]*\sencoding\s*=\s*["']([^"']*)["']""")
_DECLARATION = re.compile(r"^\s*<\?xml.*?\?>", re.DOTALL)
_ACTIVE = {"script", "foreignObject", "iframe", "audio", "video", "set", "handler"}
_REMOTE_STYLE = re.compile(r"@import[^;]*;?|url\(\s*['\"]?(?!#)[^)]*\)", re.IGNORECASE)
_REFERENCE = re.compile(r"url\(\s*['\"]?#([^)'\"\s]+)")
_REPEATED = re.compile(r"marker|clip-path|mask|filter|fill|stroke")
_LENGTH = re.compile(r"\s*\+?([0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE)
_PIXELS = {"px": 1.0, "": 1.0, "pt": 96 / 72, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "pc": 16.0, "em": 16.0}

_DEEPEST = 100
_MOST_ELEMENTS = 50_000
"""asciidoctor-pdf draws about 5,000 per second."""
_LONGEST = 20_000_000
_LONGEST_SHEET = 200_000
"""In characters."""
_LARGEST = 200_000.0
"""In CSS pixels."""
_MOST_PIXELS_EMBEDDED = 4_000_000


def drawing(content: bytes, folder: Path, key: str) -> Made:
    """Write the SVG `content`, and parts of it if it is a long strip."""
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    root = _root(content)
    _refuse_too_much(root)
    _quieten(root)
    root[:] = sorted(root, key=lambda child: _name(child) != "defs")  # prawn-svg only looks back
    if not root.tag.startswith("{"):
        root.set("xmlns", _SVG)
    width, height = _sized(root)
    _write(root, folder / f"{key}.svg")
    parts = [
        _part(root, folder / f"{key}-{number}.svg", ends, from_left=from_left)
        for from_left, all_ends in [strips(width, height)]
        for number, ends in enumerate(all_ends)
    ]
    return {"whole": [f"{key}.svg", width, height], "parts": parts, "natural": width}


def _root(content: bytes) -> ET.Element:
    try:
        text = _text(content)
        root = ET.fromstring(text)  # noqa: S314 - expat reads no other files, and limits what entities expand to
    except (ET.ParseError, LookupError, ValueError):
        raise NotShownError(DAMAGED) from None
    if _name(root) != "svg":
        raise NotShownError(DAMAGED)
    return root


def _text(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16")
    else:
        content = content.removeprefix(b"\xef\xbb\xbf")
        stated = _ENCODING.match(content)
        text = content.decode(stated[1].decode("ascii") if stated else "utf-8")
    return _DECLARATION.sub("", text, count=1).lstrip()


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _refuse_too_much(root: ET.Element) -> None:
    """Raise an error if a drawing is nested too deeply, or has too many elements, those it repeats included."""
    _refuse_depth(root)
    elements = list(root.iter())
    characters = sum(len(value) for element in elements for value in (*element.attrib.values(), element.text or ""))
    sheets = sum(len(element.text or "") for element in elements if _name(element) == "style")
    if characters > _LONGEST or sheets > _LONGEST_SHEET or _count(root, elements) > _MOST_ELEMENTS:
        raise NotShownError("it has too many elements; as a PNG, it would be shown")


def _refuse_depth(root: ET.Element) -> None:
    level = [root]
    for _ in range(_DEEPEST):
        level = [child for element in level for child in element]
        if not level:
            return
    raise NotShownError("its elements are nested too deeply")


def _count(root: ET.Element, elements: list[ET.Element]) -> float:
    """Return how many elements are drawn, counting those that others refer to each time."""
    by_id: dict[str, ET.Element] = {}
    for element in elements:
        by_id.setdefault(element.get("id", "").strip(), element)
    counts: dict[ET.Element, float] = {}

    def counted(element: ET.Element, depth: int) -> float:
        if depth > _DEEPEST:
            raise NotShownError("its elements refer to each other too deeply")
        if element not in counts:
            repeated = (counted(target, depth + 1) * times for target, times in _repeated(element, by_id))
            counts[element] = 1 + sum(counted(child, depth + 1) for child in element) + sum(repeated)
        return counts[element]

    return counted(root, 0)


def _repeated(element: ET.Element, by_id: Mapping[str, ET.Element]) -> Iterator[tuple[ET.Element, int]]:
    """Yield the elements that `element` refers to, and how many times it draws each."""
    for name, value in element.attrib.items():
        bare = name.rpartition("}")[2]
        if bare == "href" and value.startswith("#"):
            references = [value[1:].strip()]
        elif bare == "style" or _REPEATED.match(bare):
            references = _REFERENCE.findall(value)
        else:
            continue
        times = len(element.get("d") or element.get("points") or "") // 4 if "marker" in bare + value else 0
        yield from ((by_id[reference], 1 + times) for reference in references if reference in by_id)


def _quieten(root: ET.Element) -> None:
    """Remove whatever could run, or refer to another file."""
    _remove(root, lambda element: not (name := _name(element)) or name in _ACTIVE or name.startswith("animate"))
    for element in root.iter():
        name = _name(element)
        if name == "style" and element.text:
            element.text = _REMOTE_STYLE.sub("", element.text)
        if name == "path" and not element.get("d"):
            element.set("d", "M0 0")  # the glyph of a space; prawn-svg warns about a path without data
        for attribute, value in list(element.attrib.items()):
            _quieten_attribute(element, attribute, value)
    _remove(root, _shows_nothing)


def _remove(root: ET.Element, is_unwanted: Callable[[ET.Element], bool]) -> None:
    for parent in list(root.iter()):
        for child in filter(is_unwanted, list(parent)):
            parent.remove(child)


def _shows_nothing(element: ET.Element) -> bool:
    """Return whether an element refers to nothing, about which prawn-svg would warn."""
    return _name(element) in {"image", "use"} and not (element.get("href") or element.get(f"{{{_XLINK}}}href"))


def _quieten_attribute(element: ET.Element, attribute: str, value: str) -> None:
    bare = attribute.rpartition("}")[2].lower()
    if bare.startswith("on"):
        del element.attrib[attribute]
    elif bare in {"href", "src"}:
        if embedded := _embedded(value):
            element.set(attribute, embedded)
        elif not value.startswith("#"):
            del element.attrib[attribute]
    elif bare == "style" or "(" in value:
        element.set(attribute, _REMOTE_STYLE.sub("", value))


def _embedded(address: str) -> str:
    """Return a data address with the same picture as PNG; empty if `address` is not such a picture."""
    if not address.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "data:image/jpg;base64,")):
        return ""
    content = base64.b64decode(urllib.parse.unquote(address.partition(",")[2]) + "==")
    with opened(content) as picture:
        small = shrunk(picture, _MOST_PIXELS_EMBEDDED)
        written = io.BytesIO()
        (small if small.mode in {"RGB", "RGBA", "L"} else small.convert("RGBA")).save(written, "PNG", compress_level=3)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"


def _sized(root: ET.Element) -> tuple[float, float]:
    """Return a drawing's width and height, and write them and the part of the plane it shows to its root."""
    width, height = (_length(root.get(side, "")) for side in ("width", "height"))
    box = _box(root.get("viewBox", ""))
    if box and not (width and height):
        width, height = _completed(width, height, box[2] / box[3])
        width, height = (width, height) if width else (box[2], box[3])
    width, height = (width, height) if width and height else (width or 300.0, height or 150.0)
    if not box:
        box = [0.0, 0.0, width, height]
    if not all(0 < side < _LARGEST for side in (width, height, *box[2:])) or not all(map(math.isfinite, box)):
        raise NotShownError("it has no reasonable size")
    root.set("viewBox", " ".join(f"{number:g}" for number in box))
    root.set("width", f"{width:g}")
    root.set("height", f"{height:g}")
    return width, height


def _completed(width: float, height: float, ratio: float) -> tuple[float, float]:
    """Return both sides if one of them is known, else zeros."""
    return (width, width / ratio) if width else (height * ratio, height)


def _box(text: str) -> list[float]:
    """Return the four numbers of a viewBox; empty if there is none."""
    if not text.strip():
        return []
    box = [float(number) for number in re.split(r"[\s,]+", text.strip())]
    if len(box) != 4 or not (box[2] > 0 and box[3] > 0):
        raise NotShownError("it has no reasonable size")
    return box


def _length(text: str) -> float:
    found = _LENGTH.fullmatch(text)
    return float(found[1]) * _PIXELS.get(found[2].lower(), 0.0) if found else 0.0


def _part(root: ET.Element, target: Path, ends: tuple[float, float], *, from_left: bool) -> list[Any]:
    """Write the part of a drawing between `ends`, which are fractions of a side."""
    part = ET.Element(root.tag, dict(root.attrib))
    part[:] = root[:]
    axis, side = (0, "width") if from_left else (1, "height")
    box = [float(number) for number in root.get("viewBox", "").split()]
    box[axis] += box[axis + 2] * ends[0]
    box[axis + 2] *= ends[1] - ends[0]
    size = float(root.get(side, "")) * (ends[1] - ends[0])
    part.set("viewBox", " ".join(f"{number:g}" for number in box))
    part.set(side, f"{size:g}")
    _write(part, target)
    return [target.name, float(part.get("width", "")), float(part.get("height", ""))]


def _write(root: ET.Element, target: Path) -> None:
    ET.ElementTree(root).write(target, encoding="utf-8", xml_declaration=True)

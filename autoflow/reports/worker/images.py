"""Convert pictures to forms that both PDF and HTML can contain."""

import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TypeAlias

from PIL import Image

Made: TypeAlias = tuple[str, float, float]
"""A file's name, and the picture's width and height in CSS pixels."""

_SVG = "http://www.w3.org/2000/svg"
_LARGEST_SIDE = 4000
_DOCTYPE = re.compile(rb"<!DOCTYPE[^\[>]*(\[.*?\]\s*)?>", re.DOTALL)
_ACTIVE = {"script", "foreignObject", "iframe", "audio", "video", "animate", "set", "handler"}
_REMOTE_STYLE = re.compile(r"@import[^;]*;?|url\(\s*['\"]?(?!#)[^)]*\)", re.IGNORECASE)
_PIXELS = {"px": 1.0, "": 1.0, "pt": 96 / 72, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "pc": 16.0}


def raster(content: bytes, target: Path) -> tuple[float, float]:
    """Write `content` as a PNG without transparency, or unchanged if it is a plain JPEG; return its size."""
    with Image.open(io.BytesIO(content)) as picture:
        size = (float(picture.width), float(picture.height))
        if picture.format == "JPEG" and picture.mode in {"RGB", "L"} and max(size) <= _LARGEST_SIDE:
            target.write_bytes(content)
            return size
        picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
        layers = picture.convert("RGBA")
        page = Image.new("RGB", layers.size, "white")
        page.paste(layers, mask=layers.getchannel("A"))
        page.save(target, "PNG", compress_level=3)
    return size


def drawing(content: bytes, target: Path) -> tuple[float, float]:
    """Write the SVG `content` without scripts or references to other files; return its size."""
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ET.fromstring(_DOCTYPE.sub(b"", content))  # noqa: S314 - without a doctype there are no entities
    if root.tag not in {"svg", f"{{{_SVG}}}svg"}:
        raise ValueError("not an SVG")
    _quieten(root)
    root[:] = sorted(root, key=lambda child: child.tag.rpartition("}")[2] != "defs")  # prawn-svg only looks back
    if not root.tag.startswith("{"):
        root.set("xmlns", _SVG)
    width, height = _svg_size(root)
    root.set("width", f"{width:g}")
    root.set("height", f"{height:g}")
    ET.ElementTree(root).write(target, encoding="utf-8", xml_declaration=True)
    return width, height


def _quieten(element: ET.Element) -> None:
    for child in list(element):
        name = child.tag.rpartition("}")[2] if isinstance(child.tag, str) else ""
        if not name or name in _ACTIVE:
            element.remove(child)
        else:
            _quieten(child)
    if element.tag.rpartition("}")[2] == "style" and element.text:
        element.text = _REMOTE_STYLE.sub("", element.text)
    if element.tag.rpartition("}")[2] == "path" and not element.get("d"):
        element.set("d", "M0 0")  # the glyph of a space; prawn-svg warns about a path without data
    for name, value in list(element.attrib.items()):
        bare = name.rpartition("}")[2].lower()
        is_remote = bare in {"href", "src"} and not value.startswith(("#", "data:image/png", "data:image/jpeg"))
        if bare.startswith("on") or is_remote:
            del element.attrib[name]
        else:
            element.set(name, _REMOTE_STYLE.sub("", value))


def _svg_size(root: ET.Element) -> tuple[float, float]:
    width, height = (_length(root.get(side, "")) for side in ("width", "height"))
    box = [float(number) for number in re.split(r"[\s,]+", root.get("viewBox", "").strip()) if number]
    if not (width and height):
        width, height = (box[2], box[3]) if len(box) > 3 else (300.0, 150.0)
    if not box:
        root.set("viewBox", f"0 0 {width:g} {height:g}")
    return width, height


def _length(text: str) -> float:
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([a-z]*)\s*", text)
    return float(found[1]) * _PIXELS.get(found[2], 0.0) if found else 0.0


def finished(folder: Path, key: str) -> Made | None:
    """Make the picture of the source file called `key`; None if it is not a picture."""
    source = folder / f"{key}.source"
    content = source.read_bytes()
    source.unlink()
    try:
        if b"<svg" in content[:4000] or content.lstrip()[:1] == b"<":
            return (f"{key}.svg", *drawing(content, folder / f"{key}.svg"))
        suffix = "jpg" if content.startswith(b"\xff\xd8") else "png"
        return (f"{key}.{suffix}", *raster(content, folder / f"{key}.{suffix}"))
    except (OSError, ValueError, ET.ParseError, Image.DecompressionBombError, SyntaxError):
        return None

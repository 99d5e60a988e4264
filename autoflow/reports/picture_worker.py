"""Make pictures that a report can hold: a program of its own, since it reads what comes from a notebook.

It gets an order as JSON on standard input, and writes what it made as JSON, ``{key: [file name, width, height]}`` in
CSS pixels, on standard output. It imports nothing of AutoFlow, and matplotlib only if there is a formula.
"""

import io
import json
import re
import sys
import xml.etree.ElementTree as ET  # noqa: S405 - entities are cut out first, and this is a child process
from pathlib import Path

from PIL import Image

_SVG = "http://www.w3.org/2000/svg"
_LARGEST_SIDE = 4000
_LONGEST_FORMULA = 2000
_FORMULA_SIZE = 10.5
_DOCTYPE = re.compile(rb"<!DOCTYPE[^\[>]*(\[.*?\]\s*)?>", re.DOTALL)
_ACTIVE = {"script", "foreignObject", "iframe", "audio", "video", "animate", "set", "handler"}
_REMOTE_STYLE = re.compile(r"@import[^;]*;?|url\(\s*['\"]?(?!#)[^)]*\)", re.IGNORECASE)
_PIXELS = {"px": 1.0, "": 1.0, "pt": 96 / 72, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "pc": 16.0}

_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{(?:equation|align|aligned|gather|gathered|split|eqnarray|multline)\*?\}")
_NOT_DRAWN = re.compile(r"\\(?:label|tag)\*?\{[^}]*\}|\\(?:nonumber|notag|limits|displaystyle)(?![A-Za-z])")


def raster(content: bytes, target: Path) -> tuple[float, float]:
    """Write `content` as a PNG without transparency, or as it is if it is a plain JPEG; return its size."""
    with Image.open(io.BytesIO(content)) as picture:
        size = (float(picture.width), float(picture.height))
        if picture.format == "JPEG" and picture.mode in {"RGB", "L"} and max(size) <= _LARGEST_SIDE:
            target.write_bytes(content)
            return size
        picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
        layers = picture.convert("RGBA")
        page = Image.new("RGB", layers.size, "white")
        page.paste(layers, mask=layers.getchannel("A"))
        page.save(target, "PNG", compress_level=4)
    return size


def drawing(content: bytes, target: Path) -> tuple[float, float]:
    """Write the SVG `content` without scripts and references to other files; return its size."""
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ET.fromstring(_DOCTYPE.sub(b"", content))  # noqa: S314 - without a doctype there are no entities
    if root.tag not in {"svg", f"{{{_SVG}}}svg"}:
        raise ValueError("no SVG")
    _quieten(root)
    if not root.tag.startswith("{"):
        root.set("xmlns", _SVG)
    width, height = _svg_size(root)
    root.set("width", f"{width:g}")
    root.set("height", f"{height:g}")
    ET.ElementTree(root).write(target, encoding="utf-8", xml_declaration=True)
    return width, height


def _quieten(element: ET.Element) -> None:
    for child in list(element):
        if not isinstance(child.tag, str) or child.tag.rpartition("}")[2] in _ACTIVE:
            element.remove(child)
        else:
            _quieten(child)
    if element.tag.rpartition("}")[2] == "style" and element.text:
        element.text = _REMOTE_STYLE.sub("", element.text)
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
        width, height = (box[2], box[3]) if len(box) > 3 else (300.0, 150.0)  # noqa: PLR2004 - x, y, width, height
    if not box:
        root.set("viewBox", f"0 0 {width:g} {height:g}")
    return width, height


def _length(text: str) -> float:
    found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([a-z]*)\s*", text)
    return float(found[1]) * _PIXELS.get(found[2], 0.0) if found else 0.0


def formula(latex: str, target: Path) -> tuple[float, float]:
    """Draw `latex` as SVG, its lines below each other; return its size.

    Raises
    ------
    ValueError
        If matplotlib does not know a command in it.

    """
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415 - most reports have no formula to draw
    from matplotlib.textpath import TextToPath  # noqa: PLC0415

    lines = formula_lines(latex)
    writer, font = TextToPath(), FontProperties(size=_FORMULA_SIZE)
    scale = _FORMULA_SIZE / writer.FONT_SCALE
    font.set_math_fontfamily("stix")
    paths: list[str] = []
    width, height = 0.0, 0.0
    for line in lines:
        across, up, down = writer.get_text_width_height_descent(f"${line}$", font, ismath=True)
        vertices, codes = writer.get_text_path(font, f"${line}$", ismath=True)
        baseline = height + up - down + (4 if height else 0)
        paths.append(
            f'<path transform="translate(1 {baseline + 1:.2f}) scale({scale} {-scale})" d="{_path(vertices, codes)}"/>'
        )
        width, height = max(width, across), baseline + down
    width, height = width + 2, height + 2
    head = f'<svg xmlns="{_SVG}" width="{width:.2f}" height="{height:.2f}" viewBox="0 0 {width:.2f} {height:.2f}">'
    target.write_text(f"{head}{''.join(paths)}</svg>", encoding="utf-8")
    return width * _PIXELS["pt"], height * _PIXELS["pt"]


def formula_lines(latex: str) -> list[str]:
    """Return the lines of `latex` as mathtext understands them."""
    bare = _NOT_DRAWN.sub("", _ENVIRONMENT.sub("", latex)).replace("\\\\[", "\\\\ [")
    lines = (" ".join(line.replace("&", " ").split()) for line in bare.split("\\\\"))
    return [line for line in lines if line]


def _path(vertices: list[tuple[float, float]], codes: list[int]) -> str:
    commands = {1: ("M", 1), 2: ("L", 1), 3: ("Q", 2), 4: ("C", 3), 79: ("Z", 1)}
    parts, place = [], 0
    while place < len(codes):
        letter, count = commands[int(codes[place])]
        points = "" if letter == "Z" else " ".join(f"{x:.2f} {y:.2f}" for x, y in vertices[place : place + count])
        parts.append(letter + points)
        place += count
    return "".join(parts)


def finished(folder: Path, key: str) -> tuple[str, float, float] | None:
    """Make the picture of the source file called `key`; None if it is none."""
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


def drawn(folder: Path, key: str, latex: str) -> tuple[str, float, float] | None:
    """Draw a formula; None if matplotlib cannot."""
    if len(latex) > _LONGEST_FORMULA:
        return None
    try:
        return (f"{key}.svg", *formula(latex, folder / f"{key}.svg"))
    except (ValueError, RuntimeError, KeyError):
        return None


def main() -> None:
    """Carry out the order on standard input."""
    order = json.load(sys.stdin)
    folder = Path.cwd()
    made = {key: finished(folder, key) for key in order["pictures"]}
    made |= {key: drawn(folder, key, latex) for key, latex in order["formulas"].items()}
    json.dump({key: result for key, result in made.items() if result}, sys.stdout)


if __name__ == "__main__":
    main()

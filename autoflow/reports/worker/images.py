"""Convert pictures to forms that both PDF and HTML can contain."""

import io
import re
from pathlib import Path
from typing import Any, TypeAlias

from isolated import NotShownError  # type: ignore[import-not-found]
from PIL import Image, ImageOps
from strips import strips  # type: ignore[import-not-found]

Made: TypeAlias = dict[str, Any]
"""``whole`` is a file's name, and the picture's width and height in CSS pixels; ``parts`` are such triples of its
parts. In ``natural``, the width in CSS pixels, letters of 10 points have that size."""

FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "WEBP",
    "AVIF",
    "BMP",
    "DIB",
    "ICO",
    "ICNS",
    "TIFF",
    "JPEG2000",
    "PPM",
    "TGA",
    "PCX",
    "DDS",
    "BLP",
    "PSD",
    "QOI",
    "SGI",
)
"""Pillow knows more, and some of them run another program, as EPS does."""

_MOST_PIXELS = 100_000_000
_MOST_PIXELS_SHOWN = 16_000_000
_LONGEST_SIDE = 30_000
_USUAL_DENSITY = 96.0
_PLAIN = {"RGB", "L"}
_DEEP = {"I", "I;16", "I;16L", "I;16B", "I;16N", "F"}
_ORIENTATION = 0x0112

Image.MAX_IMAGE_PIXELS = None  # `opened` has a limit of its own


def raster(content: bytes, folder: Path, key: str, *, paper: float = 0.0) -> Made:
    """Write `content`, and parts of it if it is a long strip, as PNG without transparency or as plain JPEG.

    `paper` is the number of pixels per inch of a picture whose size in inches counts.
    """
    with opened(content) as picture:
        density = paper or _density(picture)
        size = (float(picture.width), float(picture.height))
        if _is_plain_jpeg(picture):
            picture.load()  # fails if it is damaged
            page, suffix = picture, "jpg"
            (folder / f"{key}.jpg").write_bytes(content)
        else:
            suffix = "png"
            page = on_white(shrunk(ImageOps.exif_transpose(picture)))
            size = size if (size[0] > size[1]) == (page.width > page.height) else (size[1], size[0])
            page.save(folder / f"{key}.png", "PNG", compress_level=3)
    natural = size[0] * _USUAL_DENSITY / max(density, paper or _USUAL_DENSITY)
    if paper:
        size = (natural, natural * size[1] / size[0])
    parts = _raster_parts(page, natural, folder, key, suffix)
    return {"whole": [f"{key}.{suffix}", *size], "parts": parts, "natural": natural}


def opened(content: bytes) -> Image.Image:
    """Return the first frame of a picture of reasonable size; its pixels are not read yet."""
    picture = Image.open(io.BytesIO(content), formats=FORMATS)
    if picture.width * picture.height > _MOST_PIXELS or max(picture.size) > 10 * _LONGEST_SIDE:
        raise NotShownError(f"{picture.width:,} \u00d7 {picture.height:,} pixels are too many")
    return picture


def shrunk(picture: Image.Image, most: int = _MOST_PIXELS_SHOWN) -> Image.Image:
    """Return `picture` with at most `most` pixels, and 8 bits per colour."""
    if picture.mode in _DEEP:
        picture = _shallow(picture)
    scale = min((most / (picture.width * picture.height)) ** 0.5, _LONGEST_SIDE / max(picture.size))
    if scale < 1:
        if picture.mode not in {"RGB", "RGBA", "L", "LA"}:
            picture = picture.convert("RGBA")
        picture.thumbnail((max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)))
    return picture


def on_white(picture: Image.Image) -> Image.Image:
    """Return `picture` on white paper."""
    if picture.mode in _PLAIN and "transparency" not in picture.info:
        return picture.convert("RGB")
    layers = picture.convert("RGBA")
    page = Image.new("RGB", layers.size, "white")
    page.paste(layers, mask=layers.getchannel("A"))
    return page


def _shallow(picture: Image.Image) -> Image.Image:
    """Return a picture with 8 bits of grey of one with 16, 32, or floating-point numbers."""
    grey = picture.convert("F")
    extremes: Any = (0.0, 65535.0) if picture.mode.startswith("I;16") else grey.getextrema()
    low, factor = extremes[0], 255 / ((extremes[1] - extremes[0]) or 1)
    return grey.point(lambda value: value * factor - low * factor).convert("L")


def _is_plain_jpeg(picture: Image.Image) -> bool:
    if picture.format != "JPEG" or picture.mode not in _PLAIN or picture.getexif().get(_ORIENTATION, 1) != 1:
        return False
    return picture.width * picture.height <= _MOST_PIXELS_SHOWN and max(picture.size) <= _LONGEST_SIDE


def _density(picture: Image.Image) -> float:
    """Return the pixels per inch that the file states, if it does and that is credible."""
    stated = picture.info.get("dpi")
    found = re.fullmatch(r"\((\d+(?:\.\d+)?), .*\)", str(stated))
    density = float(found[1]) if found else 0.0
    return density if density <= 1200 else 0.0


def _raster_parts(page: Image.Image, natural: float, folder: Path, key: str, suffix: str) -> list[list[Any]]:
    from_left, ends = strips(natural, natural * page.height / page.width)
    parts: list[list[Any]] = []
    for number, (start, end) in enumerate(ends):
        first, last = (round(end * (page.width if from_left else page.height)) for end in (start, end))
        part = page.crop((first, 0, last, page.height) if from_left else (0, first, page.width, last))
        name = f"{key}-{number}.{suffix}"
        part.save(folder / name, "PNG" if suffix == "png" else "JPEG", quality=90)
        scale = natural / page.width
        parts.append([name, part.width * scale, part.height * scale])
    return parts

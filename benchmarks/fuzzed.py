"""Pictures and outputs for `benchmarks.fuzz_reports`: whole ones, damaged ones, and hostile ones.

Each is made of a seed alone, so that it can be made again.
"""

import base64
import io
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode, v4
from PIL import Image, ImageDraw

RASTERS = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "PPM", "JPEG2000")
KINDS = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "application/pdf", "image/x-unknown")

_NUMBERS = ("0", "-1", "1e400", "NaN", "inf", "9" * 400, "1e-300", "%", "0 0 0 0", "1e9", "", "none", "\u0663")
_SVG = """<?xml version="1.0" encoding="utf-8"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="120" height="80" \
viewBox="0 0 120 80">
<defs><style>.a {{ stroke: black; fill: url(#g) }}</style>
<linearGradient id="g" x1="0" x2="1"><stop offset="0" stop-color="{colour}"/><stop offset="1" stop-color="{colour}"/>
</linearGradient><clipPath id="c"><rect x="0" y="0" width="120" height="80"/></clipPath>
<marker id="m" markerWidth="4" markerHeight="4"><path d="M0 0L4 2L0 4z"/></marker></defs>
<g clip-path="url(#c)" transform="translate(0 0) scale(1)"><rect width="120" height="80" fill="{colour}"/></g>
<path id="p" d="M10 10 C 20 20, 40 20, 50 10 A 5 5 0 0 1 60 10 Q 70 20 80 10" fill="none" marker-end="url(#m)"/>
<use xlink:href="#p" x="5" y="9"/><text x="9" y="70" font-size="9" text-anchor="middle">text</text>
<polygon points="1,1 4,1 4,4" style="fill: {colour}; opacity: .5"/><circle class="a" cx="9" cy="9" r="3"/>
<image x="0" y="0" width="9" height="9" xlink:href="data:image/png;base64,{png}"/>
</svg>
"""
_PDF_PARTS = (
    "<< /Type /Catalog /Pages 2 0 R >>",
    "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 120 80] /Contents 4 0 R >>",
)


@dataclass(frozen=True)
class Trap:
    """What no report may read or fetch: a file, and an address at which somebody listens."""

    file: str
    address: str


def whole_picture(form: str, colour: tuple[int, int, int], size: tuple[int, int] = (120, 80)) -> bytes:
    """Return an undamaged picture of one colour; `form` is a name that Pillow knows, ``SVG`` or ``PDF``."""
    hexadecimal = "#{:02x}{:02x}{:02x}".format(*colour)
    if form == "SVG":
        png = base64.b64encode(whole_picture("PNG", colour, (9, 9))).decode()
        return _SVG.format(colour=hexadecimal, png=png).encode()
    if form == "PDF":
        return _pdf(colour)
    picture = Image.new("RGB", size, colour)
    written = io.BytesIO()
    picture.save(written, form)
    return written.getvalue()


def _pdf(colour: tuple[int, int, int]) -> bytes:
    stream = "{:.3f} {:.3f} {:.3f} rg 0 0 120 80 re f".format(*(part / 255 for part in colour))
    parts = [*_PDF_PARTS, f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream"]
    text, places = "%PDF-1.4\n", []
    for number, part in enumerate(parts, 1):
        places.append(len(text))
        text += f"{number} 0 obj\n{part}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"trailer\n<< /Size {len(parts) + 1} /Root 1 0 R >>\nstartxref\n{len(text)}\n%%EOF\n"
    return f"{text}xref\n0 {len(parts) + 1}\n0000000000 65535 f \n{table}{end}".encode()


def damaged_picture(source: random.Random, trap: Trap) -> bytes:
    """Return a picture that is damaged or hostile in some way, or no picture at all."""
    if source.random() < 0.05:
        return source.randbytes(source.randrange(2000))
    if source.random() < 0.1:
        return source.choice(_HOSTILE)(source, trap)
    form = source.choice((*RASTERS, "SVG", "SVG", "SVG", "SVG", "PDF", "PDF"))
    content = _varied(source) if form == "PNG" else whole_picture(form, (90, 90, 90))
    changes = _CHANGES_OF_TEXT if form in {"SVG", "PDF"} else _CHANGES
    for _ in range(source.choice((1, 1, 1, 2, 4, 8))):
        content = source.choice(changes)(content, source)
    return content


def _varied(source: random.Random) -> bytes:
    """Return a PNG of some mode with some content."""
    picture = Image.new("RGB", (source.randrange(1, 90), source.randrange(1, 90)), (90, 90, 90))
    ImageDraw.Draw(picture).line([0, 0, 50, 50], fill=(120, 120, 120), width=source.randrange(1, 9))
    written = io.BytesIO()
    picture.convert("L").convert(source.choice(("1", "L", "LA", "P", "RGB", "RGBA", "I;16"))).save(
        written, "PNG", dpi=(source.choice((1, 72, 300, 10**6)),) * 2
    )
    return written.getvalue()


def _with_flipped_bits(content: bytes, source: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(source.choice((1, 3, 30))):
        if changed:
            changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
    return bytes(changed)


def _truncated(content: bytes, source: random.Random) -> bytes:
    return content[: source.randrange(len(content) + 1)]


def _with_piece_moved(content: bytes, source: random.Random) -> bytes:
    start, end, place = sorted(source.randrange(len(content) + 1) for _ in range(3))
    return content[:start] + content[end:place] + content[start:end] * source.choice((0, 1, 2, 50)) + content[place:]


def _with_large_number(content: bytes, source: random.Random) -> bytes:
    place = source.randrange(len(content) + 1)
    return content[:place] + source.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0" * 4)) + content[place + 4 :]


def _with_other_number(content: bytes, source: random.Random) -> bytes:
    numbers = list(re.finditer(rb"[0-9.]+", content))
    if not numbers:
        return content
    found = source.choice(numbers)
    return content[: found.start()] + source.choice(_NUMBERS).encode() + content[found.end() :]


def _with_other_word(content: bytes, source: random.Random) -> bytes:
    words = list(re.finditer(rb"[A-Za-z]+", content))
    if not words:
        return content
    old, new = source.choice(words), source.choice(words)
    return content[: old.start()] + new[0] + content[old.end() :]


def _with_element_repeated(content: bytes, source: random.Random) -> bytes:
    elements = list(re.finditer(rb"<[a-zA-Z][^<>]*/>", content))
    if not elements:
        return content
    found = source.choice(elements)
    return content[: found.end()] + found[0] * source.choice((1, 10, 2000)) + content[found.end() :]


_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _with_flipped_bits,
    _truncated,
    _with_piece_moved,
    _with_large_number,
)
_CHANGES_OF_TEXT = (*_CHANGES, *[_with_other_number, _with_other_word, _with_element_repeated] * 3)


def _svg(inner: str, head: str = 'width="120" height="80"') -> bytes:
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f"<svg {namespaces} {head}>{inner}</svg>".encode()


def _nested(source: random.Random, _: Trap) -> bytes:
    depth = source.choice((50, 1000, 30_000))
    return _svg("<g>" * depth + "</g>" * depth)


def _use_bomb(source: random.Random, _: Trap) -> bytes:
    times, levels = source.choice((2, 10)), source.choice((6, 30))
    uses = "".join(
        f'<g id="a{level + 1}">' + f'<use xlink:href="#a{level}"/>' * times + "</g>" for level in range(levels)
    )
    return _svg(f'<rect id="a0" width="9" height="9"/>{uses}<use xlink:href="#a3"/><g id="x"><use href="#x"/></g>')


def _entities(_: random.Random, trap: Trap) -> bytes:
    bomb = "".join(f'<!ENTITY e{level + 1} "{f"&e{level};" * 10}">' for level in range(12))
    declared = f'<!ENTITY file SYSTEM "file://{trap.file}"><!ENTITY web SYSTEM "{trap.address}x"><!ENTITY e0 "lol">'
    doctype = f"<!DOCTYPE svg [{declared}{bomb}]>"
    return doctype.encode() + _svg("<text>&e12;&file;&web;</text>")


def _references(source: random.Random, trap: Trap) -> bytes:
    address = source.choice((trap.file, f"file://{trap.file}", f"{trap.address}a.png", f"../outside/{trap.file}"))
    return _svg(
        f'<?xml-stylesheet href="{address}"?><style>@import "{address}"; rect {{ fill: url({address}) }}</style>'
        f'<image xlink:href="{address}" width="9" height="9"/><use xlink:href="{address}#a"/>'
        f'<foreignObject><iframe src="{address}"/></foreignObject><script href="{address}">fetch("{address}")</script>'
        f'<rect width="9" height="9" style="fill: url({address}#a)" onload="fetch(\'{address}\')"/>'
    )


def _extreme_size(source: random.Random, _: Trap) -> bytes:
    width, height, box = (source.choice(_NUMBERS) for _ in range(3))
    return _svg('<rect width="9" height="9"/>', f'width="{width}" height="{height}" viewBox="0 0 {box} {height}"')


def _unknown_encoding(source: random.Random, _: Trap) -> bytes:
    name = source.choice(("klingon", "utf-7", "rot13", "zlib", "utf-32", "", "punycode"))
    return f'<?xml version="1.0" encoding="{name}"?>'.encode() + _svg("<text>x</text>")


def _huge_png(source: random.Random, _: Trap) -> bytes:
    content = bytearray(whole_picture("PNG", (90, 90, 90)))
    content[16:24] = source.choice((2**31 - 1, 60_000, 0)).to_bytes(4) + source.choice((2**31 - 1, 50_000)).to_bytes(4)
    return bytes(content)


def _postscript(_: random.Random, trap: Trap) -> bytes:
    return f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n({trap.file}) run showpage\n".encode()


def _hostile_pdf(source: random.Random, trap: Trap) -> bytes:
    action = source.choice(
        (
            f"/OpenAction << /S /URI /URI ({trap.address}pdf) >>",
            f"/OpenAction << /S /Launch /F ({trap.file}) >>",
            f'/OpenAction << /S /JavaScript /JS (app.launchURL\\("{trap.address}js"\\)) >>',
            "/MediaBox [0 0 1e9 1e9]",
            f"/Contents << /F ({trap.file}) >>",
        )
    )
    return whole_picture("PDF", (90, 90, 90)).replace(b"/Type /", f"{action} /Type /".encode())


_HOSTILE: tuple[Callable[[random.Random, Trap], bytes], ...] = (
    _nested,
    _use_bomb,
    _entities,
    _references,
    _extreme_size,
    _unknown_encoding,
    _huge_png,
    _postscript,
    _hostile_pdf,
)


def picture_cell(content: bytes, source: random.Random) -> NotebookNode:
    """Return a cell that shows a picture in one of the ways that notebooks have."""
    encoded = base64.b64encode(content).decode()
    kind = source.choice(KINDS)
    address = f"data:{kind};base64,{encoded}"
    way = source.randrange(6)
    if way == 0:
        return _cell({"text/html": f'<p>x <img src="{address}" width="{source.choice(_NUMBERS)}"></p>'})
    if way == 1:
        return NotebookNode(v4.new_markdown_cell(f"![]({address})"))
    if way == 2:
        attachments = {"a b.png": {kind: encoded}}
        return NotebookNode(v4.new_markdown_cell("![](attachment:a%20b.png)", attachments=attachments))
    if content.startswith(b"<") and way == 3:
        return _cell({"image/svg+xml": content.decode(errors="replace"), "text/plain": "<Figure>"})
    sizes: tuple[dict[str, Any], ...] = (
        {},
        {"width": 10**400},
        {"width": -5},
        {"width": "wide"},
        {"width": 200, "height": 0},
        {"width": True},
    )
    return _cell({kind: encoded, "text/plain": "<Figure>"}, {kind: source.choice(sizes)})


def visible_cell(content: bytes) -> NotebookNode:
    """Return a cell that shows an undamaged picture."""
    return _cell({"image/png": base64.b64encode(content).decode()})


def _cell(bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> NotebookNode:
    output = v4.new_output("display_data", bundle, metadata=metadata or {})
    return NotebookNode(v4.new_code_cell("made()", execution_count=1, outputs=[output]))


_TAGS = """a b blockquote br code div em h1 h2 h7 hr i iframe img li ol p pre span sub sup svg table tbody td textarea
th thead tr u ul script style math details""".split()  # noqa: SIM905 - as a list it would take a line for each
_WORDS = (
    "word",
    "|",
    "|===",
    "====",
    "----",
    "++++",
    "{attr}",
    "<<x>>",
    "&lt;",
    "&#0;",
    "\u202e\u0639\u0631",
    "a" * 300,
)
_LATEX = (
    "\\frac{1}{2}",
    "\\begin{pmatrix}",
    "\\\\",
    "&",
    "\\end{pmatrix}",
    "^",
    "_",
    "{",
    "}",
    "$",
    "\\input{x}",
    "\\",
)
_MARKDOWN = ("# ", "- ", "> ", "| a | b |\n|---|", "```", "[x](y)", "**", "$$", "[^1]", "1. ", "<div>", "\n\n", "    ")
_ESCAPES = ("\x1b[31m", "\x1b[0m", "\x1b]8;;x\x07", "\r", "\b", "\x1b[", "\x00", "\x1b[2K", "\x9b", "\u0301" * 40)


def fuzzed_output(source: random.Random, trap: Trap) -> NotebookNode:
    """Return a code cell with an output of some kind, which may be malformed or hostile."""
    make = source.choice((_html, _html, _latex, _markdown, _stream, _error, _json, _mixed))
    output = make(source, trap)
    return NotebookNode(v4.new_code_cell("made()", execution_count=1, outputs=[output]))


def _shown(bundle: dict[str, Any]) -> NotebookNode:
    return NotebookNode(v4.new_output("display_data", bundle))


def _pieces(source: random.Random, choices: tuple[str, ...], most: int) -> str:
    return "".join(source.choice((*choices, source.choice(_WORDS), " ", "\n")) for _ in range(source.randrange(most)))


def _html_text(source: random.Random, trap: Trap) -> str:
    parts: list[str] = []
    for _ in range(source.randrange(1, 60)):
        tag = source.choice(_TAGS)
        span = f' colspan="{source.choice(_NUMBERS)}" rowspan="{source.choice(_NUMBERS)}"' * source.randrange(2)
        link = f' src="{source.choice((trap.file, trap.address))}" href="{trap.address}" onclick="x()"'
        word = source.choice(_WORDS)
        parts.append(source.choice((f"<{tag}{span}>", f"<{tag}{link}>", f"</{tag}>", f"<{tag}", word)))
    return "".join(parts)


def _html(source: random.Random, trap: Trap) -> NotebookNode:
    return _shown({"text/html": _html_text(source, trap), "text/plain": "plain"})


def _latex(source: random.Random, _: Trap) -> NotebookNode:
    return _shown({"text/latex": f"${_pieces(source, _LATEX, 40)}$"})


def _markdown(source: random.Random, trap: Trap) -> NotebookNode:
    linked = f"![x]({trap.file}) ![y]({trap.address}) include::{trap.file}[]\n"
    return _shown({"text/markdown": linked + _pieces(source, _MARKDOWN, 60)})


def _stream(source: random.Random, _: Trap) -> NotebookNode:
    return NotebookNode(v4.new_output("stream", text=_pieces(source, _ESCAPES, 300)))


def _error(source: random.Random, _: Trap) -> NotebookNode:
    texts = [_pieces(source, _ESCAPES, 30) for _ in range(3)]
    return NotebookNode(v4.new_output("error", ename=texts[0], evalue=texts[1], traceback=[texts[2]] * 3))


def _json(source: random.Random, _: Trap) -> NotebookNode:
    value: Any = source.choice((10**400, None, "text", {"a": [1.5] * 20}))
    for _level in range(source.choice((1, 50))):
        value = [value]
    return _shown({"application/json": value, source.choice(("x/y", "text/plain", "application/x+json")): "<object>"})


def _mixed(source: random.Random, trap: Trap) -> NotebookNode:
    picture = damaged_picture(source, trap)
    bundle = {"text/html": _html_text(source, trap), "text/latex": _pieces(source, _LATEX, 20), "text/plain": "plain"}
    return _shown({**bundle, source.choice(KINDS): base64.b64encode(picture).decode()})

"""Draw LaTeX formulas as SVG with matplotlib's mathtext; lay out the environments that it lacks."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

_SIZE = 10.5
_LONGEST = 2000
_PIXELS_PER_POINT = 96 / 72
_ROW_GAP, _COLUMN_GAP, _FENCE, _MARGIN = 4.0, 9.0, 4.5, 1.0
"""In points."""

_FENCES = {
    "pmatrix": "()",
    "bmatrix": "[]",
    "Bmatrix": "{}",
    "vmatrix": "||",
    "matrix": "  ",
    "smallmatrix": "  ",
    "array": "  ",
    "cases": "{ ",
}
_ALIGNED = "equation|align|aligned|gather|gathered|split|eqnarray|multline|displaymath|math"
_ALIGNED_LINE = re.compile(rf"\\(?:begin|end)\{{(?:{_ALIGNED})\*?\}}")
_GRID = re.compile(
    rf"\\begin\{{({'|'.join(_FENCES)})\}}(?:\{{[lcr| ]*\}})?(.*?)\\end\{{\1\}}",
    re.DOTALL,
)
_FENCED_GRID = re.compile(
    r"\\left\s*(\\?[(\[{|.])\s*(\\begin\{array\}.*?\\end\{array\})\s*\\right\s*(\\?[)\]}|.])", re.DOTALL
)
_NOT_DRAWN = re.compile(r"\\(?:label|tag)\*?\{[^}]*\}|\\(?:nonumber|notag|limits|displaystyle|textstyle)(?![A-Za-z])")
_BARE_FRACTION = re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)")
_SYNONYMS = {
    "ge": r"\geq",
    "le": r"\leq",
    "ne": r"\neq",
    "implies": r"\Rightarrow",
    "iff": r"\Leftrightarrow",
    "gets": r"\leftarrow",
    "land": r"\wedge",
    "lor": r"\vee",
    "lnot": r"\neg",
    "dots": r"\ldots",
    "lvert": "|",
    "rvert": "|",
    "lVert": r"\|",
    "rVert": r"\|",
    "bm": r"\boldsymbol",
    "colon": ":",
    **dict.fromkeys(("bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "Biggl", "Biggr"), ""),
}
"""Commands that mathtext knows by another name, or does not know and does not need."""

_SYNONYM = re.compile(rf"\\({'|'.join(_SYNONYMS)})(?![A-Za-z])")


@dataclass(frozen=True, kw_only=True)
class Box:
    """A drawing: SVG elements on a baseline at 0, with its width and its extent up and down, in points."""

    elements: str
    width: float
    up: float
    down: float


def drawn(folder: Path, key: str, latex: str, *, is_display: bool) -> tuple[str, float, float] | None:
    """Draw a formula as ``key.svg``; return name, width and height, or None if mathtext cannot draw it."""
    if len(latex) > _LONGEST:
        return None
    try:
        box = lines(latex, is_display=is_display)
    except (ValueError, RuntimeError, KeyError):
        return None
    width, height = box.width + 2 * _MARGIN, box.up + box.down + 2 * _MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.2f}" height="{height:.2f}"'
    shown = _moved(box, _MARGIN, box.up + _MARGIN)
    (folder / f"{key}.svg").write_text(f'{head} viewBox="0 0 {width:.2f} {height:.2f}">{shown}</svg>', encoding="utf-8")
    return f"{key}.svg", width * _PIXELS_PER_POINT, height * _PIXELS_PER_POINT


def lines(latex: str, *, is_display: bool) -> Box:
    """Return the lines of `latex`, aligned at their ampersands, with large fractions if displayed.

    Raises
    ------
    ValueError
        If mathtext does not understand it.

    """
    bare = _ALIGNED_LINE.sub("", _NOT_DRAWN.sub("", latex))
    bare = _FENCED_GRID.sub(lambda found: _fenced_source(*found.groups()), bare)
    bare = _SYNONYM.sub(lambda found: _SYNONYMS[found[1]], _BARE_FRACTION.sub(r"\\frac{\1}{\2}", bare))
    if is_display:
        bare = re.sub(r"\\frac(?![A-Za-z])", r"\\dfrac", bare)
    bare = bare.replace(r"\tfrac", r"\frac")
    grids: list[Box] = []

    def put_aside(found: re.Match[str]) -> str:
        grids.append(_fenced(grid(found[2], grids, "c" if "matrix" in found[1] else "l"), _FENCES[found[1]]))
        return f"\x00{len(grids) - 1}\x00"

    return grid(_GRID.sub(put_aside, bare), grids, "rl")


def grid(latex: str, grids: Sequence[Box], alignments: str) -> Box:
    """Return rows and columns of formulas; the `alignments` of columns are repeated as needed."""
    rows = [
        [_row(cell, grids) for cell in row.split("&")] for row in re.split(r"\\\\(?:\[[^\]]*\])?", latex) if row.strip()
    ]
    if not rows:
        raise ValueError("nothing to draw")
    count = max(map(len, rows))
    widths = [max((row[column].width for row in rows if column < len(row)), default=0.0) for column in range(count)]
    gap = 0.0 if alignments == "rl" else _COLUMN_GAP
    top, elements = 0.0, []
    for row in rows:
        baseline = top + max(box.up for box in row)
        for column, box in enumerate(row):
            left = sum(widths[:column]) + gap * column
            free = widths[column] - box.width
            share = {"l": 0.0, "c": 0.5, "r": 1.0}[alignments[column % len(alignments)]] if count > 1 else 0.5
            elements.append(_moved(box, left + free * share, baseline))
        top = baseline + max(box.down for box in row) + _ROW_GAP
    height = top - _ROW_GAP
    axis = rows[0][0].up if len(rows) == 1 else height / 2 + _SIZE * 0.25
    whole = Box(elements="".join(elements), width=sum(widths) + gap * (count - 1), up=0.0, down=height)
    return Box(elements=_moved(whole, 0, -axis), width=whole.width, up=axis, down=height - axis)


def _row(latex: str, grids: Sequence[Box]) -> Box:
    """Return formulas and the grids put aside, one after another."""
    parts = [
        grids[int(part)] if number % 2 else _mathtext(part)
        for number, part in enumerate(latex.split("\x00"))
        if part.strip()
    ]
    left, elements = 0.0, []
    for part in parts:
        elements.append(_moved(part, left, 0))
        left += part.width + (2.0 if len(parts) > 1 else 0.0)
    up, down = (max((getattr(part, side) for part in parts), default=0.0) for side in ("up", "down"))
    return Box(elements="".join(elements), width=left, up=up, down=down)


def _mathtext(latex: str) -> Box:
    font = FontProperties(size=_SIZE)
    font.set_math_fontfamily("stix")
    source = f"${{}}{' '.join(latex.split())}$"
    writer = TextToPath()
    width, height, down = writer.get_text_width_height_descent(source, font, ismath=True)
    vertices, codes = writer.get_text_path(font, source, ismath=True)
    scale = _SIZE / writer.FONT_SCALE
    points = [(x * scale, -y * scale) for x, y in vertices]
    return Box(
        elements=f'<path d="{_path(points, list(codes))}"/>',
        width=width,
        up=max(height - down, 0.0),
        down=max(down, 0.0),
    )


def _path(points: Sequence[tuple[float, float]], codes: Sequence[int]) -> str:
    """Return the data of an SVG path for matplotlib's vertices and codes."""
    commands = {1: ("M", 1), 2: ("L", 1), 3: ("Q", 2), 4: ("C", 3), 79: ("Z", 1)}
    parts, place = [], 0
    while place < len(codes):
        letter, count = commands[int(codes[place])]
        shown = "" if letter == "Z" else " ".join(f"{x:.2f} {y:.2f}" for x, y in points[place : place + count])
        parts.append(letter + shown)
        place += count
    return "".join(parts)


def _moved(box: Box, x: float, y: float) -> str:
    return f'<g transform="translate({x:.2f} {y:.2f})">{box.elements}</g>'


def _fenced_source(left: str, inner: str, right: str) -> str:
    r"""Return a grid between \left and \right as the environment that draws such fences."""
    names = {fences: name for name, fences in _FENCES.items()}
    fences = (left.lstrip("\\") + right.lstrip("\\")).replace(".", " ")
    name = names.get(fences, "array")
    return inner.replace("{array}", f"{{{name}}}")


def _fenced(box: Box, fences: str) -> Box:
    """Return `box` between two fences of its height."""
    left, right = (_STROKES.get(fence) for fence in fences)
    top, bottom = -box.up - 1, box.down + 1
    elements = _moved(box, _FENCE + 1 if left else 0, 0)
    width = box.width + (_FENCE + 1 if left else 0)
    if left:
        elements += _stroke(left(0.5, top, bottom))
    if right:
        elements += _stroke(right(width + 1, top, bottom))
        width += _FENCE + 1
    return Box(elements=elements, width=width, up=box.up + 1, down=box.down + 1)


def _stroke(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="black" stroke-width="0.6"/>'


def _curve(x: float, edge: float, top: float, bottom: float) -> str:
    return f"M{edge:.2f} {top:.2f}Q{2 * x - edge:.2f} {(top + bottom) / 2:.2f} {edge:.2f} {bottom:.2f}"


def _brace(left: float, top: float, bottom: float) -> str:
    tip, stem, edge, middle = left, left + 2, left + 4, (top + bottom) / 2
    return (
        f"M{edge:.2f} {top:.2f}Q{stem:.2f} {top:.2f} {stem:.2f} {top + 3:.2f}L{stem:.2f} {middle - 3:.2f}"
        f"Q{stem:.2f} {middle:.2f} {tip:.2f} {middle:.2f}Q{stem:.2f} {middle:.2f} {stem:.2f} {middle + 3:.2f}"
        f"L{stem:.2f} {bottom - 3:.2f}Q{stem:.2f} {bottom:.2f} {edge:.2f} {bottom:.2f}"
    )


_STROKES: dict[str, Callable[[float, float, float], str]] = {
    "(": lambda x, top, bottom: _curve(x + 1.5, x + 3, top, bottom),
    ")": lambda x, top, bottom: _curve(x + 1.5, x, top, bottom),
    "[": lambda x, top, bottom: (
        f"M{x + 3:.2f} {top:.2f}L{x:.2f} {top:.2f}L{x:.2f} {bottom:.2f}L{x + 3:.2f} {bottom:.2f}"
    ),
    "]": lambda x, top, bottom: (
        f"M{x:.2f} {top:.2f}L{x + 3:.2f} {top:.2f}L{x + 3:.2f} {bottom:.2f}L{x:.2f} {bottom:.2f}"
    ),
    "|": lambda x, top, bottom: f"M{x + 1.5:.2f} {top:.2f}L{x + 1.5:.2f} {bottom:.2f}",
    "{": _brace,
}

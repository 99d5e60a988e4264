"""Write the blocks that pandoc read as asciidoc: paragraphs, headings, lists, tables and figures."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from autoflow.reports.cells import Cell, Piece
from autoflow.reports.colours import colour_of, declarations_of
from autoflow.reports.inlines import LINE_BREAK, PAGE_WIDTH, InlineWriter, missing_picture, picture_attributes
from autoflow.reports.marks import TITLE_HEADING
from autoflow.reports.markup import escape, escape_line
from autoflow.reports.nodes import Node, flat_blocks, in_parts, lines_of, plain_text, text_with_lines
from autoflow.reports.pictures import Formula, Picture, formula_of
from autoflow.reports.tables import alignment_sign, table_of, turned, write_table

_DEEPEST_HEADING = 5
_DEEPEST_BLOCK = 5
"""Of blocks within blocks: asciidoctor-pdf lays each out twice, so every level takes twice as long."""
_DEEPEST_INDENTATION = 10
"""Of lists and blocks within each other: asciidoctor-pdf fails if no room is left on the page."""
_LONGEST_PARAGRAPH = 4000
"""In characters. The time to lay out a paragraph grows with the square of its length."""
_LONGEST_PIECE = 100
"""Of a cell's content, in characters."""
_WIDE = 1.6
_TIMES_TOO_WIDE = 3
"""A picture that is wider than this, relative to the page, is illegible there."""
_FILE_NAME = re.compile(r"\S*\.\w{2,4}|image|")


@dataclass
class BlockWriter:
    """Writes pandoc's blocks as asciidoc, and the text in them with `text`."""

    text: InlineWriter
    paged: bool = True
    _depth: int = 0
    _list_level: int = 0
    _outer_indentation: int = 0
    _last_level: int = 0
    _has_title: bool = False
    _anchors: set[str | None] = field(default_factory=set)

    def blocks(self, blocks: Sequence[Node]) -> str:
        """Return asciidoc for `blocks`, each followed by an empty line."""
        return "".join(self._block(block) for block in blocks)

    def _block(self, block: Node) -> str:
        writer: Callable[[Node], str] | None = getattr(self, f"_write_{block['t'].lower()}", None)
        return writer(block.get("c")) if writer else ""

    def _write_para(self, inlines: Node) -> str:
        seen = [inline for inline in inlines if inline["t"] not in {"Space", "SoftBreak", "LineBreak"}]
        if len(seen) == 1 and seen[0]["t"] == "Image":
            return self._figure(seen[0]["c"])
        if len(seen) == 1 and (formula := formula_of(seen[0])) and formula.is_display:
            return self._formula(formula)
        parts = in_parts(inlines, _LONGEST_PARAGRAPH, by_lines=False) if _is_long(inlines) else [inlines]
        return "".join(f"{text}\n\n" for part in parts if (text := self.text.lines(part)))

    _write_plain = _write_para

    def _write_header(self, contents: Node) -> str:
        level, (identifier, _, _), inlines = contents
        text = self.text.one_line(inlines)
        if not text:
            return ""
        if self._is_title(plain_text(inlines)):
            return TITLE_HEADING
        wanted = min(max(level + self.text.outline.shift, 1), _DEEPEST_HEADING)
        anchor = self.text.outline.anchors.get(identifier)
        anchor = None if anchor in self._anchors else anchor  # headings with the same text have the same identifier
        self._anchors.add(anchor)
        attributes = f"[#{anchor}]\n" if anchor else ""
        if self._depth:
            return f"{attributes}[discrete]\n{'=' * (wanted + 1)} {text}\n\n"
        self._last_level = min(wanted, self._last_level + 1)
        return f"{attributes}{'=' * (self._last_level + 1)} {text}\n\n"

    def _is_title(self, text: str) -> bool:
        """Return whether this heading became the report's title: it is the first with that text."""
        if self._has_title or text != self.text.outline.title:
            return False
        self._has_title = True
        return True

    def _write_codeblock(self, contents: Node) -> str:
        return literal(contents[1])

    def _write_rawblock(self, contents: Node) -> str:
        formula = formula_of({"t": "RawBlock", "c": contents})
        return self._formula(formula) if formula else ""

    def _write_blockquote(self, blocks: Node) -> str:
        return self._enclosed("_", blocks)

    def _write_bulletlist(self, items: Node) -> str:
        return self._list(["*" * (self._list_level + 1)] * len(items), items)

    def _write_orderedlist(self, contents: Node) -> str:
        (start, _, _), items = contents
        attributes = f"[start={int(start)}]\n" if start != 1 else ""
        return attributes + self._list(["." * (self._list_level + 1)] * len(items), items)

    def _write_definitionlist(self, entries: Node) -> str:
        markers = [f"{self.text.one_line(term) or '{empty}'}::" for term, _ in entries]
        return self._list(markers, [[block for part in parts for block in part] for _, parts in entries])

    def _write_horizontalrule(self, _: Node) -> str:
        return "'''\n\n"

    def _write_lineblock(self, lines: Node) -> str:
        return LINE_BREAK.join(self.text.lines(line) or "{empty}" for line in lines) + "\n\n"

    def _write_div(self, contents: Node) -> str:
        return self.blocks(contents[1])

    def _write_figure(self, contents: Node) -> str:
        _, (_, caption), blocks = contents
        pictures = [inline for line in lines_of(blocks) for inline in line if inline["t"] == "Image"]
        if len(pictures) != 1:
            return self.blocks(blocks) + self.blocks(caption)
        attributes, alt, (address, _) = pictures[0]["c"]
        return self._figure([attributes, alt, [address, " ".join(plain_text(line) for line in lines_of(caption))]])

    def _write_table(self, contents: Node) -> str:
        return write_table(table_of(contents, self._cell), paged=self.paged)

    def _cell(self, contents: Node) -> Cell:
        (_, _, attributes), alignment, rows, columns, blocks = contents
        style = declarations_of(dict(attributes).get("style", ""))
        inlines = [inline for line in lines_of(blocks) for inline in (*line, {"t": "LineBreak"})]
        colour = colour_of(style.get("color", ""))
        weight = style.get("font-weight", "")
        if weight == "bold" or (weight.isdigit() and int(weight) >= 600):
            inlines = [{"t": "Strong", "c": inlines}]
        pieces = (self._piece(part, colour) for part in in_parts(inlines[:-1], _LONGEST_PIECE))
        return Cell(
            pieces=tuple(pieces),
            columns=columns,
            rows=rows,
            alignment=alignment_sign(alignment["t"]),
            background=colour_of(style.get("background-color", style.get("background", ""))),
        ).cut()

    def _piece(self, inlines: Sequence[Node], colour: str) -> Piece:
        role = self.text.role(colour, "") if colour else ""
        markup = self.text.marked("##", inlines, role=role) if role else self.text.joined(inlines)
        return Piece(markup=markup, text=text_with_lines(inlines))

    def _enclosed(self, character: str, blocks: Sequence[Node]) -> str:
        """Return `blocks` between two lines of `character`, one longer than those of the enclosing block.

        If that is nested deeply already, leave out the quotes and lists within them.
        """
        if self._depth >= _DEEPEST_BLOCK or self._indentation >= _DEEPEST_INDENTATION:
            blocks = list(flat_blocks(blocks))
        fence = character * (4 + self._depth)
        level, outer = self._list_level, self._outer_indentation
        self._list_level, self._outer_indentation = 0, self._indentation + 1
        self._depth += 1
        try:
            return f"{fence}\n{self.blocks(blocks).rstrip()}\n{fence}\n\n"
        finally:
            self._depth -= 1
            self._list_level, self._outer_indentation = level, outer

    @property
    def _indentation(self) -> int:
        return self._outer_indentation + self._list_level

    def _list(self, markers: Sequence[str], items: Sequence[Sequence[Node]]) -> str:
        return "".join(self._items(markers, items)) + "\n//-\n\n"

    def _items(self, markers: Sequence[str], items: Sequence[Sequence[Node]]) -> Iterator[str]:
        """Yield the items of a list: text, then enclosed blocks, then perhaps a list one level below."""
        for marker, blocks in zip(markers, items, strict=True):
            has_text = bool(blocks) and blocks[0]["t"] in {"Plain", "Para"}
            text, rest = (self.text.lines(blocks[0]["c"]), blocks[1:]) if has_text else ("", blocks)
            below = _simple_list(rest[-1]) if rest and self._indentation < _DEEPEST_INDENTATION else None
            enclosed = rest[:-1] if below else rest
            yield f"{marker} {text or '{empty}'}\n"
            if enclosed:
                yield f"+\n{self._enclosed('=', enclosed).rstrip()}\n"
            if below:
                self._list_level += 1
                yield from self._items([below[0] * (self._list_level + 1)] * len(below[1]), below[1])
                self._list_level -= 1

    def _formula(self, formula: Formula) -> str:
        picture = self.text.shelf.formula(formula)
        if picture is None:
            return literal(formula.latex)
        return f'[.formula]\nimage::{picture.name}[{picture_attributes(picture, formula.latex)},align="center"]\n\n'

    def _figure(self, contents: Node) -> str:
        _, inlines, (address, title) = contents
        alt = plain_text(inlines)
        picture = self.text.picture(contents)
        if picture is None:
            return f"{missing_picture(alt, self.text.problem(address))}\n\n"
        caption = title.removeprefix("fig:") or ("" if _FILE_NAME.fullmatch(alt) else alt)
        return picture_block(picture, alt=alt, caption=caption, may_turn=not self._depth and not self._list_level)


def _is_long(inlines: Sequence[Node]) -> bool:
    return len(text_with_lines(inlines)) > _LONGEST_PARAGRAPH


def _simple_list(block: Node) -> tuple[str, Sequence[Sequence[Node]]] | None:
    """Return the marker and items of a list that can be directly below an item; None if `block` is not one."""
    if block["t"] == "BulletList":
        return "*", block["c"]
    if block["t"] == "OrderedList" and block["c"][0][0] == 1:
        return ".", block["c"][1]
    return None


def literal(text: str) -> str:
    """Return a block that shows `text` as it is, in a monospaced font."""
    shown = escape(text).strip("\n")
    return f"....\n{shown}\n....\n\n" if shown.strip() else ""


def picture_block(picture: Picture, *, alt: str = "", caption: str = "", may_turn: bool = True) -> str:
    """Return a picture in a paragraph of its own, in its own size or that of the page.

    If it would not be legible there, put it on a turned page or, if it is far too long, show its parts.
    """
    title = f".{escape_line(caption).strip()}\n" if caption.strip() else ""
    block = f"image::{picture.name}[{picture_attributes(picture, alt)}]\n\n"
    if picture.parts:
        return _in_parts(picture, alt=alt, title=title)
    is_wide = picture.width > picture.height * _WIDE and picture.natural > PAGE_WIDTH * _TIMES_TOO_WIDE
    return turned(title + block) if may_turn and is_wide else title + block


def _in_parts(picture: Picture, *, alt: str, title: str) -> str:
    """Return the parts of a picture: of a wide one after a line that says so, of a high one each with a caption."""
    count = len(picture.parts)
    blocks = [f"image::{part.name}[{picture_attributes(part, alt)}]\n\n" for part in picture.parts]
    if picture.width > picture.height:
        note = f"This picture is {picture.natural / 96:.0f} inches wide. Its {count} parts follow, from left to right."
        return f"{{empty}}[.clipped]##{escape_line(note)}##\n\n{''.join(blocks[:-1])}{title}{blocks[-1]}"
    inches = f"{picture.natural * picture.height / picture.width / 96:.0f}"
    notes = (f"Part {number} of {count} of a picture that is {inches} inches high" for number in range(1, count + 1))
    return "".join(f".{escape_line(note)}\n{block}" for note, block in zip(notes, blocks, strict=True)) + (
        f"{title.removeprefix('.')}\n" if title else ""
    )

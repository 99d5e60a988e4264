"""Write what pandoc read as asciidoc in which nothing but the structure has a meaning."""

import re
import string
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from autoflow.reports.colours import colour_of, declarations_of
from autoflow.reports.markup import escape, escape_line
from autoflow.reports.nodes import Node, flat_blocks, lines_of, plain_text
from autoflow.reports.outline import Outline
from autoflow.reports.pictures import Formula, Picture, PictureShelf, formula_of
from autoflow.reports.tables import Cell, alignment_sign, table_of, write_table

_SCHEMES = ("http:", "https:", "mailto:")
_IN_ADDRESS = frozenset(string.ascii_letters + string.digits + "/:.")
_DEEPEST_HEADING = 5
_DEEPEST_BLOCK = 5
"""Blocks within blocks: asciidoctor-pdf lays each out twice, so that every level takes twice as long."""
_DEEPEST_INDENTATION = 10
"""Lists and blocks within each other: asciidoctor-pdf fails where there is no room left on the page."""
_NO_BREAK = "&#160;"
_LINE_BREAK = " +\n"
_FILE_NAME = re.compile(r"\S*\.\w{2,4}|image|")
_NOTE_CLASS = "clipped"
_LINK = "link"


@dataclass
class BlockWriter:
    """Writes blocks of pandoc's as asciidoc.

    `colours` collects, by the name of the role that the asciidoc uses, the text's and the background's colour.
    """

    shelf: PictureShelf
    outline: Outline
    colours: dict[str, tuple[str, str]] = field(default_factory=dict)
    _depth: int = 0
    _list_level: int = 0
    _outer_indentation: int = 0
    _last_level: int = 0
    _has_title: bool = False
    _marks: list[str] = field(default_factory=list)

    def blocks(self, blocks: Sequence[Node]) -> str:
        """Return asciidoc for `blocks`, each ended by an empty line."""
        return "".join(self._block(block) for block in blocks)

    def inlines(self, inlines: Sequence[Node]) -> str:
        """Return asciidoc for `inlines`: lines that start neither a block nor a list."""
        text = self._joined(inlines).strip(" \n").removesuffix(" +").removeprefix("+\n")
        return "\n".join("{empty}" + line if line.startswith("[") else line for line in text.split("\n"))

    def one_line(self, inlines: Sequence[Node]) -> str:
        """Return asciidoc for `inlines` on a single line, as headings, terms and footnotes need it."""
        return self.inlines(inlines).replace(_LINE_BREAK, " ").replace("\n", " ")

    # Blocks

    def _block(self, block: Node) -> str:
        writer: Callable[[Node], str] | None = getattr(self, f"_write_{block['t'].lower()}", None)
        return writer(block.get("c")) if writer else ""

    def _write_para(self, inlines: Node) -> str:
        seen = [inline for inline in inlines if inline["t"] not in {"Space", "SoftBreak", "LineBreak"}]
        if len(seen) == 1 and seen[0]["t"] == "Image":
            return self._figure(seen[0]["c"])
        if len(seen) == 1 and (formula := formula_of(seen[0])) and formula.is_display:
            return self._formula(formula)
        text = self.inlines(inlines)
        return f"{text}\n\n" if text else ""

    _write_plain = _write_para

    def _write_header(self, contents: Node) -> str:
        level, (identifier, _, _), inlines = contents
        text = self.one_line(inlines)
        if not text or self._is_title(plain_text(inlines)):
            return ""
        wanted = min(max(level + self.outline.shift, 1), _DEEPEST_HEADING)
        anchor = self.outline.anchors.get(identifier)
        attributes = f"[#{anchor}]\n" if anchor else ""
        if self._depth:
            return f"{attributes}[discrete]\n{'=' * (wanted + 1)} {text}\n\n"
        self._last_level = min(wanted, self._last_level + 1)
        return f"{attributes}{'=' * (self._last_level + 1)} {text}\n\n"

    def _is_title(self, text: str) -> bool:
        """Whether this is the heading that became the report's title; it is the first with that text."""
        if self._has_title or text != self.outline.title:
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
        markers = [f"{self.one_line(term) or '{empty}'}::" for term, _ in entries]
        return self._list(markers, [[block for part in parts for block in part] for _, parts in entries])

    def _write_horizontalrule(self, _: Node) -> str:
        return "'''\n\n"

    def _write_lineblock(self, lines: Node) -> str:
        return _LINE_BREAK.join(self.inlines(line) or "{empty}" for line in lines) + "\n\n"

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
        return write_table(table_of(contents, self._cell))

    def _cell(self, contents: Node) -> Cell:
        (_, _, attributes), alignment, rows, columns, blocks = contents
        style = declarations_of(dict(attributes).get("style", ""))
        inlines = [inline for line in lines_of(blocks) for inline in (*line, {"t": "LineBreak"})]
        colour = colour_of(style.get("color", ""))
        role = self._role(colour, "") if colour else ""
        weight = style.get("font-weight", "")
        if weight == "bold" or (weight.isdigit() and int(weight) >= 600):
            inlines = [{"t": "Strong", "c": inlines}]
        markup = self._marked("##", inlines, role=role) if role else self._joined(inlines)
        return Cell(
            markup=markup.strip(" \n").removesuffix(" +"),
            text=" ".join(plain_text(line) for line in lines_of(blocks)),
            columns=columns,
            rows=rows,
            alignment=alignment_sign(alignment["t"]),
            background=colour_of(style.get("background-color", style.get("background", ""))),
        )

    def _enclosed(self, character: str, blocks: Sequence[Node]) -> str:
        """Return `blocks` between two lines of `character`, one more than around what they are in.

        Where that is deep already, no quotes and lists are left in them.
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
        """Yield the items of a list: text, then blocks that are enclosed, then perhaps a list one level below."""
        for marker, blocks in zip(markers, items, strict=True):
            has_text = bool(blocks) and blocks[0]["t"] in {"Plain", "Para"}
            text, rest = (self.inlines(blocks[0]["c"]), blocks[1:]) if has_text else ("", blocks)
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
        picture = self.shelf.formula(formula)
        if picture is None:
            return literal(formula.latex)
        return f'[.formula]\nimage::{picture.name}[{_picture_attributes(picture, formula.latex)},align="center"]\n\n'

    def _figure(self, contents: Node) -> str:
        _, inlines, (_, title) = contents
        alt = plain_text(inlines)
        picture = self._picture(contents)
        if picture is None:
            return f"{missing_picture(alt)}\n\n"
        caption = title.removeprefix("fig:") or ("" if _FILE_NAME.fullmatch(alt) else alt)
        return picture_block(picture, alt=alt, caption=caption)

    # Inlines

    def _joined(self, inlines: Sequence[Node]) -> str:
        return "".join(self._inline(inline) for inline in inlines)

    def _inline(self, inline: Node) -> str:
        writer: Callable[[Node], str] | None = getattr(self, f"_inline_{inline['t'].lower()}", None)
        return writer(inline.get("c")) if writer else ""

    def _marked(self, mark: str, inlines: Sequence[Node], *, role: str = "") -> str:
        """Return text between marks; spaces at its ends stay outside, where they cannot make a list of it."""
        if mark in self._marks:
            return self._joined(inlines)
        with self._within(mark):
            text = self._joined(inlines)
        inner = text.strip(" \n").removesuffix(" +")
        if not inner:
            return text
        before, after = text.split(inner, 1)
        if len(mark) == 1:  # superscripts and subscripts have no spaces
            inner = inner.replace(" ", _NO_BREAK).replace("\n", "")
        return f"{before}{f'[.{role}]' if role else ''}{mark}{inner}{mark}{after}"

    @contextmanager
    def _within(self, mark: str) -> Iterator[None]:
        self._marks.append(mark)
        try:
            yield
        finally:
            self._marks.pop()

    def _role(self, colour: str, background: str) -> str:
        role = f"colour-{colour or 'same'}-{background or 'same'}"
        self.colours[role] = (colour, background)
        return role

    def _inline_strong(self, inlines: Node) -> str:
        return self._marked("**", inlines)

    def _inline_emph(self, inlines: Node) -> str:
        return self._marked("__", inlines)

    def _inline_superscript(self, inlines: Node) -> str:
        return self._marked("^", inlines)

    def _inline_subscript(self, inlines: Node) -> str:
        return self._marked("~", inlines)

    def _inline_underline(self, inlines: Node) -> str:
        return self._marked("##", inlines, role="underline")

    def _inline_strikeout(self, inlines: Node) -> str:
        return self._marked("##", inlines, role="line-through")

    def _inline_code(self, contents: Node) -> str:
        return self._marked("``", [{"t": "Str", "c": contents[1].strip()}])

    def _inline_str(self, text: Node) -> str:
        return escape_line(text)

    def _inline_space(self, _: Node) -> str:
        return " "

    _inline_softbreak = _inline_space

    def _inline_linebreak(self, _: Node) -> str:
        return _LINE_BREAK

    def _inline_quoted(self, contents: Node) -> str:
        kind, inlines = contents
        marks = "\u201c\u201d" if kind["t"] == "DoubleQuote" else "\u2018\u2019"
        return f"{marks[0]}{self._joined(inlines)}{marks[1]}"

    def _inline_smallcaps(self, inlines: Node) -> str:
        return self._joined(inlines)

    def _inline_cite(self, contents: Node) -> str:
        return self._joined(contents[1])

    def _inline_span(self, contents: Node) -> str:
        (identifier, classes, attributes), inlines = contents
        anchor = f"[[{self.outline.anchors[identifier]}]]" if identifier in self.outline.anchors else ""
        style = declarations_of(dict(attributes).get("style", ""))
        colour, background = (colour_of(style.get(name, "")) for name in ("color", "background-color"))
        if style.get("font-weight") == "bold":
            inlines = [{"t": "Strong", "c": inlines}]
        role = _NOTE_CLASS if _NOTE_CLASS in classes else ""
        if colour or background:
            role = self._role(colour, background)
        return anchor + (self._marked("##", inlines, role=role) if role else self._joined(inlines))

    def _inline_rawinline(self, contents: Node) -> str:
        return self._inline_formula(formula_of({"t": "RawInline", "c": contents}))

    def _inline_math(self, contents: Node) -> str:
        return self._inline_formula(formula_of({"t": "Math", "c": contents}))

    def _inline_formula(self, formula: Formula | None) -> str:
        if formula is None:
            return ""
        picture = self.shelf.formula(formula)
        if picture is None:
            return self._inline_code([None, formula.latex])
        return self._inline_picture(picture, formula.latex)

    def _inline_note(self, blocks: Node) -> str:
        text = " ".join(filter(None, map(self.one_line, lines_of(blocks))))
        return f"footnote:[{text}]" if text else ""

    def _inline_link(self, contents: Node) -> str:
        _, inlines, (address, _) = contents
        with self._within(_LINK):
            text = self._joined(inlines).strip() or escape_line(address)
        anchor = self.outline.anchor_of(address)
        if anchor:
            return f"xref:{anchor}[{text}]"
        return f"link:{_address(address)}[{text}]" if address.lower().startswith(_SCHEMES) else text

    def _inline_image(self, contents: Node) -> str:
        alt = plain_text(contents[1])
        picture = self._picture(contents)
        if picture is None:
            return missing_picture(alt)
        return self._inline_picture(picture, alt)

    def _inline_picture(self, picture: Picture, alt: str) -> str:
        """Return a picture in a line; asciidoctor would end a link's text at a comma of the HTML made of it."""
        macro = f"image:{picture.name}[{_picture_attributes(picture, alt)}]"
        return f"pass:m[{macro[:-1]}\\]]" if _LINK in self._marks else macro

    def _picture(self, contents: Node) -> Picture | None:
        (_, _, attributes), _, (address, _) = contents
        content = self.shelf.find(address)
        picture = None if content is None else self.shelf.picture(content)
        given: dict[str, str] = dict(attributes)
        asked = declarations_of(given.get("style", "")).get("width", given.get("width", ""))
        width = re.fullmatch(r"(\d+(?:\.\d+)?)(px|%)?", asked)
        if picture is None or width is None:
            return picture
        pixels = float(width[1]) * (_PAGE_WIDTH / 100 if width[2] == "%" else 1)
        return picture.resized({"asked": {"width": pixels}})


_PAGE_WIDTH = 640
"""Between the margins, in CSS pixels."""


def _simple_list(block: Node) -> tuple[str, Sequence[Sequence[Node]]] | None:
    """Return marker and items of a list that asciidoc can have right below an item; None if `block` is none."""
    if block["t"] == "BulletList":
        return "*", block["c"]
    if block["t"] == "OrderedList" and block["c"][0][0] == 1:
        return ".", block["c"][1]
    return None


def literal(text: str) -> str:
    """Return a block that shows `text` as it is, in a monospaced font."""
    shown = escape(text).strip("\n")
    return f"....\n{shown}\n....\n\n" if shown.strip() else ""


def picture_block(picture: Picture, *, alt: str = "", caption: str = "") -> str:
    """Return a picture in a paragraph of its own, as large as it is but within the page."""
    title = f".{escape_line(caption).strip()}\n" if caption.strip() else ""
    return f"{title}image::{picture.name}[{_picture_attributes(picture, alt)}]\n\n"


def missing_picture(alt: str) -> str:
    """Return what stands for a picture that cannot be shown."""
    return f"__&#91;{escape_line(alt).strip() or 'picture'}&#93;__"


def _picture_attributes(picture: Picture, alt: str) -> str:
    return f'alt="{escape_line(alt).strip() or "&#160;"}",width={max(picture.width, 1):.0f}'


def _address(address: str) -> str:
    quoted = urllib.parse.quote(address, safe=string.punctuation)
    return "".join(character if character in _IN_ADDRESS else f"&#{ord(character)};" for character in quoted)

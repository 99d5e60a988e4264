"""Write what pandoc read as asciidoc in which nothing but the structure has a meaning."""

import re
import string
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from autoflow.reports.markup import escape, escape_line
from autoflow.reports.pictures import Picture, PictureShelf
from autoflow.reports.reading import Node
from autoflow.reports.tables import Cell, Table, table_of, write_table

_SCHEMES = ("http:", "https:", "mailto:")
_IN_ADDRESS = frozenset(string.ascii_letters + string.digits + "/:.")
_DEEPEST_HEADING = 5
_MARKS = {"Strong": "**", "Emph": "__", "Superscript": "^", "Subscript": "~"}
_ROLES = {"Underline": "underline", "Strikeout": "line-through"}
_NO_BREAK = "&#160;"
_LINE_BREAK = " +\n"


@dataclass
class BlockWriter:
    """Writes blocks of pandoc's as asciidoc.

    `heading_shift` is added to the level of each heading. `anchors` maps what a link within the notebook says to the
    id of a heading.
    """

    shelf: PictureShelf
    heading_shift: int = 0
    anchors: Mapping[str, str] = field(default_factory=dict)
    _depth: int = 0
    _last_level: int = 0
    _marks: list[str] = field(default_factory=list)

    def blocks(self, blocks: Sequence[Node]) -> str:
        """Return asciidoc for `blocks`, each ended by an empty line."""
        return "".join(self._block(block) for block in blocks)

    def inlines(self, inlines: Sequence[Node]) -> str:
        """Return asciidoc for `inlines`: one or more lines that start neither a block nor a list."""
        text = "".join(self._inline(inline) for inline in inlines).strip(" \n")
        return "\n".join("{empty}" + line if line.startswith("[") else line for line in text.split("\n"))

    # Blocks

    def _block(self, block: Node) -> str:
        writer: Callable[[Any], str] | None = getattr(self, f"_write_{block['t'].lower()}", None)
        return writer(block.get("c")) if writer else ""

    def _write_para(self, inlines: Sequence[Node]) -> str:
        if len(inlines) == 1 and inlines[0]["t"] == "Image":
            return self._figure(inlines[0]["c"])
        text = self.inlines(inlines)
        return f"{text}\n\n" if text else ""

    _write_plain = _write_para

    def _write_header(self, contents: Any) -> str:
        level, (identifier, _, _), inlines = contents
        text = self.inlines(inlines).replace(_LINE_BREAK, " ")
        if not text:
            return ""
        wanted = min(max(level + self.heading_shift, 1), _DEEPEST_HEADING)
        if self._depth:
            return f"[discrete]\n{'=' * (wanted + 1)} {text}\n\n"
        self._last_level = min(wanted, self._last_level + 1)
        anchor = f"[#{self.anchors[identifier]}]\n" if identifier in self.anchors else ""
        return f"{anchor}{'=' * (self._last_level + 1)} {text}\n\n"

    def _write_codeblock(self, contents: Any) -> str:
        return literal(contents[1], style="listing")

    def _write_rawblock(self, contents: Any) -> str:
        kind, text = contents
        return literal(text) if kind in {"tex", "latex"} else ""

    def _write_blockquote(self, blocks: Sequence[Node]) -> str:
        return self._enclosed("_", blocks)

    def _write_bulletlist(self, items: Sequence[Sequence[Node]]) -> str:
        return self._list(["*"] * len(items), items)

    def _write_orderedlist(self, contents: Any) -> str:
        (start, _, _), items = contents
        attributes = f"[start={start}]\n" if start != 1 else ""
        return attributes + self._list(["."] * len(items), items)

    def _write_definitionlist(self, entries: Sequence[Any]) -> str:
        markers = [f"{self.inlines(term).replace(_LINE_BREAK, ' ')}::" for term, _ in entries]
        return self._list(markers, [[block for part in parts for block in part] for _, parts in entries])

    def _write_horizontalrule(self, _: None) -> str:
        return "'''\n\n"

    def _write_lineblock(self, lines: Sequence[Sequence[Node]]) -> str:
        return _LINE_BREAK.join(self.inlines(line) or "{empty}" for line in lines) + "\n\n"

    def _write_div(self, contents: Any) -> str:
        return self.blocks(contents[1])

    def _write_figure(self, contents: Any) -> str:
        _, (_, caption), blocks = contents
        title = " ".join(self._flat(caption).split("\n"))
        return (f".{title}\n" if title else "") + self.blocks(blocks)

    def _write_table(self, contents: Any) -> str:
        return write_table(table_of(contents, self._cell))

    def _cell(self, blocks: Sequence[Node]) -> Cell:
        return Cell(markup=self._flat(blocks), text=plain_text(blocks))

    def _enclosed(self, character: str, blocks: Sequence[Node]) -> str:
        fence = character * (4 + self._depth)
        with self._deeper():
            return f"{fence}\n{self.blocks(blocks).rstrip()}\n{fence}\n\n"

    def _list(self, markers: Sequence[str], items: Sequence[Sequence[Node]]) -> str:
        """Return a list whose items' further blocks are enclosed, so that what is in them starts afresh."""
        lines = []
        for marker, blocks in zip(markers, items, strict=True):
            first, *rest = blocks or ({"t": "Plain", "c": []},)
            if first["t"] not in {"Plain", "Para"}:
                first, rest = {"t": "Plain", "c": []}, list(blocks)
            lines.append(f"{marker} {self.inlines(first['c']) or '{empty}'}\n")
            if rest:
                lines.append(f"+\n{self._enclosed('=', rest).rstrip()}\n")
        return "".join(lines) + "\n//-\n\n"

    @contextmanager
    def _deeper(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def _flat(self, blocks: Sequence[Node]) -> str:
        """Return `blocks` as the text of a cell or a footnote."""
        parts = [self.inlines(inlines) for inlines in _lines_of(blocks)]
        return _LINE_BREAK.join(part for part in parts if part)

    # Inlines

    def _inline(self, inline: Node) -> str:
        kind = inline["t"]
        if kind in _MARKS or kind in _ROLES:
            return self._marked(kind, inline["c"])
        writer: Callable[[Any], str] | None = getattr(self, f"_inline_{kind.lower()}", None)
        return writer(inline.get("c")) if writer else ""

    def _marked(self, kind: str, inlines: Sequence[Node]) -> str:
        """Return formatted text; spaces at its ends stay outside, where they cannot make a list of it."""
        if kind in self._marks:
            return self._joined(inlines)
        self._marks.append(kind)
        text = self._joined(inlines)
        self._marks.pop()
        inner = text.strip(" \n")
        if not inner:
            return text
        before, after = text[: text.index(inner)], text[text.index(inner) + len(inner) :]
        if kind in {"Superscript", "Subscript"}:
            inner = inner.replace(" ", _NO_BREAK).replace("\n", "")
        mark = _MARKS.get(kind, "##")
        role = f"[.{_ROLES[kind]}]" if kind in _ROLES else ""
        return f"{before}{role}{mark}{inner}{mark}{after}"

    def _joined(self, inlines: Sequence[Node]) -> str:
        return "".join(self._inline(inline) for inline in inlines)

    def _inline_str(self, text: str) -> str:
        return escape_line(text)

    def _inline_space(self, _: None) -> str:
        return " "

    _inline_softbreak = _inline_space

    def _inline_linebreak(self, _: None) -> str:
        return _LINE_BREAK

    def _inline_code(self, contents: Any) -> str:
        text = escape_line(contents[1]).strip()
        return f"``{text}``" if text and "Code" not in self._marks else text

    def _inline_quoted(self, contents: Any) -> str:
        kind, inlines = contents
        marks = "\u201c\u201d" if kind["t"] == "DoubleQuote" else "\u2018\u2019"
        return f"{marks[0]}{self._joined(inlines)}{marks[1]}"

    def _inline_smallcaps(self, inlines: Sequence[Node]) -> str:
        return self._joined(inlines)

    def _inline_cite(self, contents: Any) -> str:
        return self._joined(contents[1])

    def _inline_span(self, contents: Any) -> str:
        return self._joined(contents[1])

    def _inline_rawinline(self, contents: Any) -> str:
        kind, text = contents
        return escape_line(text) if kind in {"tex", "latex"} else ""

    def _inline_math(self, contents: Any) -> str:
        return f"``{escape_line(contents[1]).strip()}``"

    def _inline_note(self, blocks: Sequence[Node]) -> str:
        text = self._flat(blocks)
        return f"footnote:[{text}]" if text else ""

    def _inline_link(self, contents: Any) -> str:
        _, inlines, (address, _) = contents
        text = self._joined(inlines).strip() or escape_line(address)
        if address.startswith("#") and (target := self.anchors.get(urllib.parse.unquote(address[1:]))):
            return f"xref:{target}[{text}]"
        return f"link:{_address(address)}[{text}]" if address.lower().startswith(_SCHEMES) else text

    def _inline_image(self, contents: Any) -> str:
        _, inlines, (address, _) = contents
        alt = plain_text([{"t": "Plain", "c": inlines}])
        picture = self._picture(address)
        if picture is None:
            return missing_picture(alt)
        return f"image:{picture.name}[{_picture_attributes(picture, alt)}]"

    def _figure(self, contents: Any) -> str:
        _, inlines, (address, title) = contents
        alt = plain_text([{"t": "Plain", "c": inlines}])
        picture = self._picture(address)
        if picture is None:
            return f"{missing_picture(alt)}\n\n"
        caption = title or ("" if re.fullmatch(r"\S*\.\w{2,4}|image|", alt) else alt)
        return picture_block(picture, alt=alt, caption=caption)

    def _picture(self, address: str) -> Picture | None:
        content = self.shelf.find(address)
        return None if content is None else self.shelf.picture(content)


def literal(text: str, *, style: str = "literal") -> str:
    """Return a block that shows `text` as it is, in a monospaced font."""
    shown = escape(text).strip("\n")
    return f"[{style}]\n....\n{shown}\n....\n\n" if shown.strip() else ""


def picture_block(picture: Picture, *, alt: str = "", caption: str = "") -> str:
    """Return a picture in a paragraph of its own, as large as it is but within the page."""
    title = f".{escape_line(caption)}\n" if caption.strip() else ""
    return f"{title}image::{picture.name}[{_picture_attributes(picture, alt)}]\n\n"


def missing_picture(alt: str) -> str:
    """Return what stands for a picture that cannot be shown."""
    return f"__&#91;{escape_line(alt).strip() or 'picture'}&#93;__"


def plain_text(blocks: Sequence[Node]) -> str:
    """Return the words in `blocks`, without any markup."""
    return " ".join("".join(_words(inlines)) for inlines in _lines_of(blocks)).strip()


def _picture_attributes(picture: Picture, alt: str) -> str:
    return f'alt="{escape_line(alt).strip()}",width={picture.width:.0f}'


def _address(address: str) -> str:
    quoted = urllib.parse.quote(address, safe=string.punctuation)
    return "".join(character if character in _IN_ADDRESS else f"&#{ord(character)};" for character in quoted)


def _words(inlines: Sequence[Node]) -> Iterator[str]:
    for inline in inlines:
        kind, contents = inline["t"], inline.get("c")
        if kind == "Str":
            yield contents
        elif kind in {"Space", "SoftBreak", "LineBreak"}:
            yield " "
        elif kind in {"Code", "Math", "RawInline"}:
            yield contents[1] if kind != "RawInline" else ""
        elif kind in {"Link", "Image", "Span", "Quoted", "Cite"}:
            yield from _words(contents[0] if kind == "Cite" and False else contents[1])
        elif isinstance(contents, list) and kind != "Note":
            yield from _words(contents)


def _lines_of(blocks: Sequence[Node]) -> Iterator[Sequence[Node]]:
    """Yield the inlines of each paragraph in `blocks`, however deep it is."""
    for block in blocks:
        kind, contents = block["t"], block.get("c")
        if kind in {"Plain", "Para"}:
            yield contents
        elif kind == "Header":
            yield contents[2]
        elif kind == "CodeBlock":
            yield from ([{"t": "Code", "c": [None, line]}] for line in contents[1].split("\n"))
        elif kind == "LineBlock":
            yield from contents
        elif kind == "Div":
            yield from _lines_of(contents[1])
        elif kind == "BlockQuote":
            yield from _lines_of(contents)
        elif kind in {"BulletList", "OrderedList"}:
            for item in contents if kind == "BulletList" else contents[1]:
                yield from _lines_of(item)
        elif kind == "Table":
            yield from _rows_of(contents)


def _rows_of(contents: Any) -> Iterator[Sequence[Node]]:
    _, _, _, (_, head), bodies, (_, foot) = contents
    body = [row for _, _, first, rest in bodies for row in (*first, *rest)]
    for _, cells in (*head, *body, *foot):
        yield [inline for cell in cells for line in _lines_of(cell[4]) for inline in (*line, {"t": "Space"})]

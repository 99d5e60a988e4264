"""Walk through pandoc's document model."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

Node: TypeAlias = Any
"""An element of pandoc's document model in JSON, ``{"t": type, "c": contents}``, or its contents."""

_IN_SECOND_PLACE = frozenset({"Link", "Image", "Span", "Quoted", "Cite"})
_VERBATIM = frozenset({"Code", "Math"})
_MARKED = frozenset({"Strong", "Emph", "Superscript", "Subscript", "Underline", "Strikeout", "SmallCaps"})


def nodes(node: Node) -> Iterator[Node]:
    """Yield each element in a part of the document model, outer ones first."""
    if isinstance(node, dict) and "t" in node:
        yield node
        yield from nodes(node.get("c"))
    elif isinstance(node, list | tuple):
        for child in node:
            yield from nodes(child)


def plain_text(inlines: Sequence[Node]) -> str:
    """Return the text of `inlines`, without markup."""
    return "".join(_words(inlines)).strip()


def text_with_lines(inlines: Sequence[Node]) -> str:
    """Return the text of `inlines`, without markup but with its line breaks and the spaces at its ends."""
    return "".join(_words(inlines, line_break="\n"))


def in_parts(inlines: Sequence[Node], most: int, *, by_lines: bool = True) -> Iterator[list[Node]]:
    """Yield parts of `inlines` of at most `most` characters, and if they are `by_lines` of one line."""
    part: list[Node] = []
    length = 0
    for inline in _small(inlines, most):
        text = text_with_lines([inline])
        if part and length + len(text) > most:
            yield part
            part, length = [], 0
        part.append(inline)
        length += len(text)
        if by_lines and text.endswith("\n"):
            yield part
            part, length = [], 0
    if part:
        yield part


def _small(inlines: Sequence[Node], most: int) -> Iterator[Node]:
    """Yield `inlines`, with those divided that have more than `most` characters or a line break within them."""
    for inline in inlines:
        text = text_with_lines([inline])
        if inline["t"] == "LineBreak" or (len(text) <= most and "\n" not in text):
            yield inline
        else:
            yield from _divided(inline, most)


def _divided(inline: Node, most: int) -> Iterator[Node]:
    kind, contents = inline["t"], inline.get("c")
    if kind == "Str":
        yield from ({"t": kind, "c": contents[start : start + most]} for start in range(0, len(contents), most))
    elif kind == "Code":
        yield from _divided_code(contents[1], most)
    elif kind in _MARKED:
        yield from ({"t": kind, "c": part} for part in in_parts(contents, most))
    elif kind in {"Span", "Link"}:
        (identifier, *attributes), inner, *target = contents
        for part in in_parts(inner, most):
            yield {"t": kind, "c": [[identifier, *attributes], part, *target]}
            identifier = ""
    elif kind in {"Quoted", "Cite"}:
        yield from _small(contents[1], most)
    else:
        yield inline


def _divided_code(text: str, most: int) -> Iterator[Node]:
    """Yield the parts of a code, and the spaces between them."""
    for part in re.findall(rf"(?s)\s+|\S.{{0,{most - 1}}}(?!\S)|\S.{{0,{most - 1}}}", text):
        if not part.isspace():
            yield {"t": "Code", "c": [None, part]}
        if part[-1].isspace():
            yield {"t": "Space"}


def flat_blocks(blocks: Sequence[Node]) -> Iterator[Node]:
    """Yield each block in `blocks`, without the quotes and lists around it."""
    for block in blocks:
        kind, contents = block["t"], block.get("c")
        if kind == "BlockQuote":
            yield from flat_blocks(contents)
        elif kind == "Div":
            yield from flat_blocks(contents[1])
        elif kind in {"BulletList", "OrderedList"}:
            yield from flat_blocks([each for item in _items_of(kind, contents) for each in item])
        elif kind == "DefinitionList":
            for term, parts in contents:
                yield {"t": "Para", "c": term}
                yield from flat_blocks([each for part in parts for each in part])
        else:
            yield block


def _items_of(kind: str, contents: Node) -> Sequence[Sequence[Node]]:
    return contents if kind == "BulletList" else contents[1]  # type: ignore[no-any-return]


def lines_of(blocks: Sequence[Node]) -> Iterator[Sequence[Node]]:
    """Yield the inlines of each paragraph in `blocks`, at any depth; those of a table by rows."""
    for block in blocks:
        kind, contents = block["t"], block.get("c")
        if kind in {"Plain", "Para"}:
            yield contents
        elif kind == "CodeBlock":
            yield from ([{"t": "Code", "c": [None, line]}] for line in contents[1].split("\n"))
        elif kind == "Table":
            yield from _rows_of(contents)
        else:
            yield from _lines_below(kind, contents)


def _lines_below(kind: str, contents: Node) -> Iterator[Sequence[Node]]:
    if kind == "Header":
        yield contents[2]
    elif kind == "LineBlock":
        yield from contents
    elif kind == "BlockQuote":
        yield from lines_of(contents)
    elif kind in {"Div", "Figure"}:
        yield from lines_of(contents[-1])
    elif kind in {"BulletList", "OrderedList"}:
        for item in _items_of(kind, contents):
            yield from lines_of(item)
    elif kind == "DefinitionList":
        for term, parts in contents:
            yield term
            yield from (line for part in parts for line in lines_of(part))


def _rows_of(contents: Node) -> Iterator[Sequence[Node]]:
    _, _, _, (_, head), bodies, (_, foot) = contents
    body = [row for _, _, first, rest in bodies for row in (*first, *rest)]
    for _, cells in (*head, *body, *foot):
        yield [inline for cell in cells for line in lines_of(cell[4]) for inline in (*line, {"t": "Space"})]


def _words(inlines: Sequence[Node], *, line_break: str = " ") -> Iterator[str]:
    for inline in inlines:
        kind, contents = inline["t"], inline.get("c")
        if kind == "Str":
            yield contents
        elif kind in {"Space", "SoftBreak"}:
            yield " "
        elif kind == "LineBreak":
            yield line_break
        elif kind in _VERBATIM:
            yield contents[1]
        elif kind in _IN_SECOND_PLACE:
            yield from _words(contents[1], line_break=line_break)
        elif kind not in {"Note", "RawInline"}:
            yield from _words(contents, line_break=line_break)

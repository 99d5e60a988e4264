"""Lay out what filters put into a template's text: as blocks of their own, in a line of text, or within a listing.

A filter cannot know where a template uses its result. So it puts marks around it, characters that Unicode reserves for
internal use, and `laid_out` replaces them once the document is complete.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from autoflow.reports.markup import Asciidoc, escape

_BLOCKS, _TEXT, _END = "\ufdd1", "\ufdd2", "\ufdd3"
_PART = "\ufdd4"
_GROUP, _GROUP_END, _OUTPUT = "\ufdd5", "\ufdd6", "\ufdd7"
_TITLE, TITLE_HEADING = "\ufdd8", "\ufdd9"
"""`TITLE_HEADING` is at the place of the heading that became the report's title."""

GROUP, GROUP_END, OUTPUT = Asciidoc(_GROUP), Asciidoc(_GROUP_END), Asciidoc(_OUTPUT)
"""The start and end of a cell's outputs, which nbconvert's template prints in a listing, and the start of each."""

_MARK = re.compile("[\ufdd0-\ufdef]")
_MARKED = re.compile(f"([{_BLOCKS}{_TEXT}][^{_END}]*){_END}")
_GROUPED = re.compile(f"{_GROUP}([^{_GROUP_END}]*){_GROUP_END}")
_FENCE_BEFORE = re.compile(rf"^(-{{4,}}|\.{{4,}})(?={_PART})", re.MULTILINE)
_FENCE_AFTER = re.compile(rf"(?<={_PART})(-{{4,}}|\.{{4,}})$", re.MULTILINE)
_FENCE = re.compile(r"-{4,}|\.{4,}|\+{4,}|/{4,}|```\w*")
_REFERENCE = re.compile(r"&#\d+;")
_MARKUP = re.compile(r"[][*_`#^~|+{}<]|::|^[ \t]*[.=-]|'''", re.MULTILINE)
"""Asciidoc that a template has written; escaped text has none of it."""
_TABLE = re.compile(r"[|!,:]===+")
_ASCIIDOC_CELL = re.compile(r"a[|!][^|!]*$")
_STARTS_A_BLOCK = re.compile(r"\[|<<<|[.=|]|[*.-]+ |image::|'''|____|//")
_CONTINUES_BELOW = re.compile(r"\+|\[.*\]|\.[^\s.].*|={4,}|_{4,}|\*{4,}|--|[|!]===")


def as_blocks(asciidoc: str) -> Asciidoc:
    """Return blocks for a template to print. A single paragraph can also be in a line of text."""
    return Asciidoc(f"{_BLOCKS}{asciidoc.strip(chr(10))}{_END}")


def as_text(text: str) -> Asciidoc:
    """Return monospaced text for a template to print, on its own or in a listing."""
    return Asciidoc(f"{_TEXT}{escape(text).strip(chr(10))}{_END}")


def as_title(asciidoc: str) -> Asciidoc:
    """Return the report's title for a template to print."""
    return Asciidoc(f"{_TITLE}{asciidoc}")


def lacks_title(document: str) -> bool:
    """Return whether a heading is left out as the report's title, but the title is not printed before it."""
    heading, title = document.find(TITLE_HEADING), document.find(_TITLE)
    return heading >= 0 and not 0 <= title < heading


def laid_out(document: str) -> str:
    """Return `document` with all marks replaced."""
    text = document.replace(_TITLE, "").replace(TITLE_HEADING, "")
    text = _GROUPED.sub(_group_marked, text)
    parts = iter([part for part in _MARKED.findall(text) if part[1:].strip()])
    text = _MARKED.sub(lambda found: _PART if found[1][1:].strip() else "", text)
    text = _FENCE_AFTER.sub(r"\n\1", _FENCE_BEFORE.sub(r"\1\n", text))
    layout = _Layout(parts)
    for line in text.split("\n"):
        layout.add(line)
    return _MARK.sub("", layout.finished())


def _group_marked(group: re.Match[str]) -> str:
    return "\n".join(["", *map(_with_loose_text_marked, group[1].split(_OUTPUT)), ""])


def _with_loose_text_marked(output: str) -> str:
    """Return an output in a group with the text that a template prints marked as text, unless it has asciidoc."""
    parts = _MARKED.split(output)
    loose, marked = parts[::2], parts[1::2]
    if any(part[0] == _BLOCKS for part in marked) or any(_MARKUP.search(_REFERENCE.sub("", text)) for text in loose):
        return output
    texts = [f"{_TEXT}{text.strip(chr(10))}{_END}" if text.strip() else text for text in loose]
    return "".join(text + (f"{part}{_END}" if part else "") for text, part in zip(texts, [*marked, ""], strict=True))


@dataclass
class _Layout:
    """The lines laid out so far, and those of the listing that is open. In the latter, blocks are tuples."""

    parts: Iterator[str]
    _lines: list[str] = field(default_factory=list)
    _table: str = ""
    _fence: str = ""
    _listing: list[str | tuple[str]] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Add a line of the template's text; `_PART` in it stands for the next part."""
        pieces = line.split(_PART)
        parts = [next(self.parts) for _ in pieces[1:]]
        if not parts and _FENCE.fullmatch(line.rstrip()):
            self._add_fence(line.rstrip())
        elif self._fence:
            self._add_to_listing(pieces, parts)
        elif self._table:
            self._add_to_table(pieces, parts)
        else:
            self._add_to_text(pieces, parts)

    def finished(self) -> str:
        """Return the document."""
        return "\n".join(self._lines + ([self._fence, *map("".join, self._listing)] if self._fence else []))

    def _add_to_text(self, pieces: list[str], parts: list[str]) -> None:
        is_within_text = any(map(str.strip, pieces))
        line = pieces[0]
        for part, after in zip(parts, pieces[1:], strict=True):
            if is_within_text and _is_inline(part):
                line += part[1:] + after
                continue
            self._add_line(line)
            self._add_block(part)
            line = after
        if line.strip() or not parts:
            self._lines.append(line)
        if _TABLE.fullmatch(line.rstrip()):
            self._table = line.rstrip()

    def _add_to_table(self, pieces: list[str], parts: list[str]) -> None:
        line = pieces[0]
        if line.rstrip() == self._table:
            self._table = ""
        for part, after in zip(parts, pieces[1:], strict=True):
            if _ASCIIDOC_CELL.search(line):
                self._lines.append(line)
                self._add_block(part)
                line = after
            else:
                line += _in_cell(part) + after
        self._lines.append(line)

    def _add_line(self, line: str) -> None:
        if line.strip():
            self._lines.append(line)

    def _add_block(self, part: str) -> None:
        block = f"....\n{part[1:]}\n...." if part[0] == _TEXT else part[1:]
        above = self._lines[-1].rstrip() if self._lines else ""
        self._lines += [*([""] if above and not _CONTINUES_BELOW.fullmatch(above) else []), block, ""]

    def _add_to_listing(self, pieces: list[str], parts: list[str]) -> None:
        line = pieces[0]
        for part, after in zip(parts, pieces[1:], strict=True):
            if part[0] == _TEXT:
                line += part[1:] + after
                continue
            self._listing += [*([line] if line.strip() else []), (part,)]
            line = after
        if line.strip() or not parts:
            self._listing.append(line)

    def _add_fence(self, fence: str) -> None:
        if not self._fence:
            self._fence = fence
        elif fence == self._fence or (fence == "```" and self._fence.startswith(fence)):
            self._close(fence)
        else:  # in a listing, other delimiters are text
            self._listing.append(fence)

    def _close(self, fence: str) -> None:
        opened, listing, self._fence, self._listing = self._fence, self._listing, "", []
        if fence[0] in "+/" or all(isinstance(line, str) for line in listing):
            self._lines += [opened, *map("".join, listing), fence]
            return
        lines: list[str] = []
        for line in [*listing, ("",)]:  # a listing around tables and pictures becomes several
            if isinstance(line, str):
                lines.append(line)
                continue
            if any(map(str.strip, lines)):
                self._lines += [opened, *lines, fence, ""]
            elif line is listing[0]:
                self._drop_attributes()
            if line[0]:
                self._add_block(line[0])
            lines = []

    def _drop_attributes(self) -> None:
        """Remove the attributes of a listing that begins with a block."""
        while self._lines and re.fullmatch(r"\[.*\]", self._lines[-1].rstrip()):
            self._lines.pop()


def _in_cell(part: str) -> str:
    """Return `part` as it can be in a cell of a table, which has lines of text only."""
    if part[0] == _TEXT:
        return part[1:].replace("\n", " +\n")
    return part[1:].replace("image::", "image:", 1) if part[1:].startswith("image::") else part[1:]


def _is_inline(part: str) -> bool:
    """Return whether `part` can be in a line of text: one line of monospaced text, or one paragraph."""
    if part[0] == _TEXT:
        return "\n" not in part
    return "\n\n" not in part and not _STARTS_A_BLOCK.match(part[1:])

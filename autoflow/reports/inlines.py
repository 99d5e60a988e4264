"""Write the text within blocks that pandoc read as asciidoc: words, marks, links, pictures and formulas."""

import re
import string
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from autoflow.reports.colours import colour_of, declarations_of
from autoflow.reports.limits import MOST_COLOURS
from autoflow.reports.markup import escape_line
from autoflow.reports.nodes import Node, lines_of, plain_text
from autoflow.reports.outline import Outline
from autoflow.reports.pictures import Formula, Picture, PictureShelf, formula_of

LINE_BREAK = " +\n"
"""Asciidoc for a line break within a paragraph."""

_SCHEMES = ("http:", "https:", "mailto:")
_IN_ADDRESS = frozenset(string.ascii_letters + string.digits + "/:.")
_MARKS = ("*", "_", "`", "#", "^", "~")
"""The beginnings of marked text, such as bold text or code."""
_NO_BREAK = "&#160;"
_NOTE_CLASS = "clipped"
_LINK = "link"
PAGE_WIDTH = 640
"""Between the margins, in CSS pixels."""


@dataclass
class InlineWriter:
    """Writes pandoc's inlines as asciidoc.

    `colours` collects the text colour and the background of each role that the asciidoc uses.
    """

    shelf: PictureShelf
    outline: Outline
    colours: dict[str, tuple[str, str]] = field(default_factory=dict)
    _marks: list[str] = field(default_factory=list)

    def lines(self, inlines: Sequence[Node]) -> str:
        """Return asciidoc for `inlines`: lines that start neither a block nor a list."""
        text = self.joined(inlines).strip(" \n").removesuffix(" +").removeprefix("+\n")
        return "\n".join("{empty}" + line if line.startswith("[") else line for line in text.split("\n"))

    def one_line(self, inlines: Sequence[Node]) -> str:
        """Return asciidoc for `inlines` on a single line, as headings, terms and footnotes need it."""
        return self.lines(inlines).replace(LINE_BREAK, " ").replace("\n", " ")

    def joined(self, inlines: Sequence[Node]) -> str:
        """Return asciidoc for `inlines`, with spaces and line breaks at their ends."""
        parts: list[str] = []
        for part in map(self._inline, inlines):
            # Asciidoctor would take the brackets of a picture or link for the role of what is marked after them.
            is_role = bool(parts) and parts[-1].endswith("]") and part.startswith(_MARKS)
            parts += ["{empty}", part] if is_role else [part]
        return "".join(parts)

    def _inline(self, inline: Node) -> str:
        writer: Callable[[Node], str] | None = getattr(self, f"_inline_{inline['t'].lower()}", None)
        return writer(inline.get("c")) if writer else ""

    def marked(self, mark: str, inlines: Sequence[Node], *, role: str = "") -> str:
        """Return text between marks; spaces at its ends stay outside, so that it does not become a list item."""
        if mark in self._marks:
            return self.joined(inlines)
        with self._within(mark):
            text = self.joined(inlines)
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

    def role(self, colour: str, background: str) -> str:
        """Return the role for a text colour and a background, and note it in `colours`; empty if there are too many."""
        role = f"colour-{colour or 'same'}-{background or 'same'}"
        if role not in self.colours and len(self.colours) >= MOST_COLOURS:
            return ""
        self.colours[role] = (colour, background)
        return role

    def _inline_strong(self, inlines: Node) -> str:
        return self.marked("**", inlines)

    def _inline_emph(self, inlines: Node) -> str:
        return self.marked("__", inlines)

    def _inline_superscript(self, inlines: Node) -> str:
        return self.marked("^", inlines)

    def _inline_subscript(self, inlines: Node) -> str:
        return self.marked("~", inlines)

    def _inline_underline(self, inlines: Node) -> str:
        return self.marked("##", inlines, role="underline")

    def _inline_strikeout(self, inlines: Node) -> str:
        return self.marked("##", inlines, role="line-through")

    def _inline_code(self, contents: Node) -> str:
        return self.marked("``", [{"t": "Str", "c": contents[1].strip()}])

    def _inline_str(self, text: Node) -> str:
        return escape_line(text)

    def _inline_space(self, _: Node) -> str:
        return " "

    _inline_softbreak = _inline_space

    def _inline_linebreak(self, _: Node) -> str:
        return LINE_BREAK

    def _inline_quoted(self, contents: Node) -> str:
        kind, inlines = contents
        marks = "\u201c\u201d" if kind["t"] == "DoubleQuote" else "\u2018\u2019"
        return f"{marks[0]}{self.joined(inlines)}{marks[1]}"

    def _inline_smallcaps(self, inlines: Node) -> str:
        return self.joined(inlines)

    def _inline_cite(self, contents: Node) -> str:
        return self.joined(contents[1])

    def _inline_span(self, contents: Node) -> str:
        (identifier, classes, attributes), inlines = contents
        anchor = f"[[{self.outline.anchors[identifier]}]]" if identifier in self.outline.anchors else ""
        style = declarations_of(dict(attributes).get("style", ""))
        colour, background = (colour_of(style.get(name, "")) for name in ("color", "background-color"))
        if style.get("font-weight") == "bold":
            inlines = [{"t": "Strong", "c": inlines}]
        role = _NOTE_CLASS if _NOTE_CLASS in classes else ""
        if colour or background:
            role = self.role(colour, background)
        return anchor + (self.marked("##", inlines, role=role) if role else self.joined(inlines))

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
            text = self.joined(inlines).strip() or escape_line(address)
        anchor = self.outline.anchor_of(address)
        if anchor:
            return f"xref:{anchor}[{text}]"
        return f"link:{_address(address)}[{text}]" if address.lower().startswith(_SCHEMES) else text

    def _inline_image(self, contents: Node) -> str:
        alt = plain_text(contents[1])
        picture = self.picture(contents)
        if picture is None:
            return missing_picture(alt)
        return self._inline_picture(picture, alt)

    def _inline_picture(self, picture: Picture, alt: str) -> str:
        """Return a picture in a line; within a link, asciidoctor must not see the commas of its HTML."""
        macro = f"image:{picture.name}[{picture_attributes(picture, alt)}]"
        return f"pass:m[{macro[:-1]}\\]]" if _LINK in self._marks else macro

    def picture(self, contents: Node) -> Picture | None:
        """Return the picture of pandoc's image `contents`, in the size it asks for; None if it cannot be shown."""
        (_, _, attributes), _, (address, _) = contents
        content = self.shelf.find(address)
        picture = None if content is None else self.shelf.picture(content)
        given: dict[str, str] = dict(attributes)
        asked = declarations_of(given.get("style", "")).get("width", given.get("width", ""))
        width = re.fullmatch(r"(\d+(?:\.\d+)?)(px|%)?", asked)
        if picture is None or width is None:
            return picture
        pixels = float(width[1]) * (PAGE_WIDTH / 100 if width[2] == "%" else 1)
        return picture.resized({"asked": {"width": pixels}})

    def problem(self, address: str) -> str:
        """Return why the picture with this address cannot be shown."""
        return self.shelf.problem(self.shelf.find(address), address)


def missing_picture(alt: str, problem: str = "") -> str:
    """Return a placeholder for a picture that cannot be shown, with the reason if that is given."""
    named = f"__&#91;{escape_line(alt).strip() or 'picture'}&#93;__"
    return f"{named} [.{_NOTE_CLASS}]##{escape_line(f'is left out: {problem}')}##" if problem else named


def picture_attributes(picture: Picture, alt: str) -> str:
    """Return the attributes of an image macro: the alternative text, and the width in pixels."""
    return f'alt="{escape_line(alt).strip() or "&#160;"}",width={max(picture.width, 1):.0f}'


def _address(address: str) -> str:
    quoted = urllib.parse.quote(address, safe=string.punctuation)
    return "".join(character if character in _IN_ADDRESS else f"&#{ord(character)};" for character in quoted)

"""Printed text as a terminal shows it: carriage returns, backspaces and movements of the cursor are carried out."""

import re
from collections.abc import Iterator

LONGEST_STYLE = 60
"""How many characters of colour codes can apply to a character; of more, only the last code counts."""

MOST_PADDING = 1_000_000
"""How many spaces movements of the cursor can add to a text."""

MOST_REREAD = 20_000_000
"""How many characters of lines to which the cursor returns are read again; it no longer returns after that."""

_MOVING = re.compile(r"\r(?!\n)|\x08|\x1b\[[0-9;?]*[A-HJK]")
"""What makes the shown text differ from the printed one."""

_TOKEN = re.compile(
    r"(?P<text>[^\x1b\r\n\x08]+)|(?P<style>\x1b\[[0-9;:]*m)|\x1b\[(?P<argument>[0-9;?]*)[ -/]*(?P<command>[@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|(?P<single>[\r\n\x08])|\x1b[@-Z\\-_78=>]?"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that do something on a terminal, beside tabs and new lines, or change the direction of text."""

_RESET = re.compile(r"\x1b\[[0;]*m")


def as_shown(text: str) -> str:
    """Return `text` as it is left on a terminal, with its colours; text that moves no cursor is returned as it is."""
    if not moves_cursor(text):
        return text
    terminal = _Terminal()
    terminal.write(text.replace("\r\n", "\n"))
    return terminal.text


def without_overwritten(text: str) -> str:
    """Return a part of a printed text, which goes on before and after it, without what it overwrites itself.

    Before its first carriage return it goes on with a line, and after its last one a line may go on.
    """
    first, last = text.find("\r"), text.rfind("\r")
    if first == last or moves_cursor(text.replace("\r", "")):
        return text
    return f"{text[: first + 1]}{as_shown(text[first + 1 : last])}{text[last:]}"


def plain(text: str) -> str:
    """Return `text` as it is left on a terminal, without colours and anything else that a terminal would act on."""
    shown = as_shown(text)
    if _CONTROL.search(shown) is None:
        return shown
    return _CONTROL.sub("", _TOKEN.sub(lambda found: found["text"] or found["single"] or "", shown))


def moves_cursor(text: str) -> bool:
    """Return whether `text` moves the cursor other than to a new line."""
    return _MOVING.search(text) is not None


class _Terminal:
    """A terminal that has room for all lines, however many and long.

    `_lines` are the lines with their colour codes. That with the cursor is a list of characters and one of their
    styles while it changes, where a style is the colour codes that apply.
    """

    def __init__(self) -> None:
        self._lines = [""]
        self._row = self._column = 0
        self._open: tuple[list[str], list[str]] | None = None
        self._style = ""
        self._padding = self._reread = 0

    @property
    def text(self) -> str:
        self._close()
        text = "\n".join(line.rstrip(" ") for line in self._lines)
        # Bars that were removed leave empty lines below.
        shown = text.rstrip("\n")
        return shown if shown == text else f"{shown}\n"

    def write(self, text: str) -> None:
        for line in re.findall(r"[^\n]*\n|[^\n]+", text):
            self._write_line(line)

    def _write_line(self, line: str) -> None:
        is_new = self._open is None and not self._lines[self._row] and not self._column and not self._style
        if is_new and "\x1b" not in line and "\x08" not in line:
            self._write_plain_line(line)
            return
        for token in _TOKEN.finditer(line):
            if token["text"]:
                self._put(token["text"])
            elif token["style"]:
                self._set_style(token["style"])
            elif token["single"]:
                self._control(token["single"])
            elif token["command"]:
                self._command(token["command"], token["argument"])

    def _write_plain_line(self, line: str) -> None:
        """Write a line with no control characters except carriage returns; most lines are like that."""
        content = line.removesuffix("\n")
        parts = content.split("\r")
        shown = ""
        for part in reversed(parts):
            shown += part[len(shown) :]
        self._lines[self._row], self._column = shown, len(parts[-1])
        if content != line:
            self._go_to(self._row + 1, 0)

    def _put(self, text: str) -> None:
        characters, styles = self._opened()
        missing = self._column - len(characters)
        if missing > 0:
            self._padding += missing
            if self._padding > MOST_PADDING:
                self._column, missing = len(characters), 0
            characters += " " * missing
            styles += [""] * missing
        end = self._column + len(text)
        characters[self._column : end] = text
        styles[self._column : end] = [self._style] * len(text)
        self._column = end

    def _set_style(self, code: str) -> None:
        if _RESET.fullmatch(code):
            self._style = ""
        elif not self._style.endswith(code):
            self._style = (self._style if len(self._style) < LONGEST_STYLE else "") + code

    def _control(self, character: str) -> None:
        if character == "\n":
            self._go_to(self._row + 1, 0)
        else:
            self._column = 0 if character == "\r" else max(0, self._column - 1)

    def _command(self, command: str, argument: str) -> None:
        first = argument.partition(";")[0]
        number = int(first) if first.isdecimal() and len(first) < 6 else 0
        steps = number or 1
        if command in "ABEF":
            if self._reread > MOST_REREAD:
                return
            # The cursor stops at the edges.
            row = self._row + (steps if command in "BE" else -steps)
            self._go_to(min(row, len(self._lines) - 1), 0 if command in "EF" else self._column)
        elif command in "CD":
            self._column = max(0, self._column + (steps if command == "C" else -steps))
        elif command == "G":
            self._column = steps - 1
        elif command == "K":
            self._erase_line(number)
        elif command == "J":
            self._erase_screen(number)

    def _go_to(self, row: int, column: int) -> None:
        self._close()
        self._row, self._column = max(0, row), column
        if self._row == len(self._lines):
            self._lines.append("")

    def _erase_line(self, how: int) -> None:
        """Erase what follows the cursor in its line (0), what precedes it (1), or all (2)."""
        characters, styles = self._opened()
        if how == 1:
            end = min(self._column + 1, len(characters))
            characters[:end], styles[:end] = " " * end, [""] * end
        else:
            begin = self._column if how == 0 else 0
            del characters[begin:], styles[begin:]

    def _erase_screen(self, how: int) -> None:
        """Erase what follows the cursor, or everything."""
        if how == 0:
            self._erase_line(0)
            del self._lines[self._row + 1 :]
        elif how > 1:
            self._lines, self._open, self._row, self._column = [""], None, 0, 0

    def _opened(self) -> tuple[list[str], list[str]]:
        if self._open is None:
            characters, styles, style = list[str](), list[str](), ""
            self._reread += len(self._lines[self._row])
            for token in _TOKEN.finditer(self._lines[self._row]):
                if token["text"]:
                    characters += token["text"]
                    styles += [style] * len(token["text"])
                elif token["style"]:
                    style = "" if _RESET.fullmatch(token["style"]) else style + token["style"]
            self._open = characters, styles
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            self._lines[self._row] = "".join(_coded(*self._open))
            self._open = None


def _coded(characters: list[str], styles: list[str]) -> Iterator[str]:
    """Yield the characters of a line, with codes where the style changes."""
    before = ""
    for character, style in zip(characters, styles, strict=True):
        if style != before:
            yield ("\x1b[0m" if before else "") + style
            before = style
        yield character
    if before:
        yield "\x1b[0m"
